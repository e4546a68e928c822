"""params.yaml with a preset and other values, as params."""

import copy
from typing import Any

from ruamel.yaml import YAML

from llm.config.params import Params, checked
from llm.config.presets import nested
from tests.conftest import ROOT

load = YAML(typ="safe").load
VALUES = load((ROOT / "params.yaml").read_text())
SEVEN_B = {  # Llama 2 7B (Touvron et al. 2023): 6,738,415,616 parameters
    "model.block_size": 4096,
    "model.n_layer": 32,
    "model.n_head": 32,
    "model.n_kv_head": 32,
    "model.n_embd": 4096,
    "model.n_inner": 11_008,
    "model.tie_embeddings": False,
    "tokenizer.vocab_size": 32_000,
    "pretrain.micro_batch_size": 1,
    "pretrain.batch_tokens": 4_194_304,
    "pretrain.max_tokens": 134_767_181_824,
    "sft.batch_sequences": 32,
    "reward.batch_pairs": 32,
    "dpo.batch_pairs": 32,
    "launch.nproc_per_node": 8,
    "launch.parallel": "fsdp",
}


def params(preset: str = "default", overrides: dict[str, Any] | None = None) -> Params:
    values = copy.deepcopy(VALUES)
    for changes in (
        load((ROOT / "presets" / f"{preset}.yaml").read_text()),
        nested(overrides or {}),
    ):
        _merge(values, changes)
    return checked(values)


def _merge(values: dict[str, Any], changes: dict[str, Any]) -> None:
    for key, value in changes.items():
        if isinstance(value, dict) and isinstance(values[key], dict):
            _merge(values[key], value)
        else:
            values[key] = value
