"""A model folder is a Hugging Face folder: read and written here, under Hugging Face's names.

A network that amounts to GPT-2, Llama or Qwen3 is written as that, and loads in transformers
with equal logits; one of other parts is written as ours, its section `model` in config.json.
"""

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llm.config.base import validate
from llm.config.model import ModelConfig
from llm.errors import CheckpointError, ConfigError
from llm.files import read_json, write_dir, write_json
from llm.model.architecture import Architecture
from llm.model.gpt2 import GPT2
from llm.model.llama import LLAMA, QWEN3
from llm.model.transformer import LanguageModel, RewardModel
from llm.tokenizer.load import Tokenizer

logger = logging.getLogger(__name__)

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"
PUBLISHED = (LLAMA, QWEN3, GPT2)
# A network without a published architecture: our names, our section `model`.
OURS = Architecture(
    model_type="llm_factory",
    language="LanguageModel",
    reward="RewardModel",
    missing=lambda config: iter(()),
    to_config=lambda config: {
        "model": config.model_dump(exclude={"depth"}),
        "block_size": config.block_size,
    },
    from_config=lambda values: {"depth": None, **(values.get("model") or {})},
    to_weights=dict,
    from_weights=dict,
)


def architecture_of(config: ModelConfig) -> tuple[Architecture, list[str]]:
    """The published architecture that the network amounts to.

    Where there is none: ours, and why not the nearest published one.
    """
    nearest = min(PUBLISHED, key=lambda each: len(each.obstacles(config)))
    obstacles = nearest.obstacles(config)
    if not obstacles:
        return nearest, []
    return OURS, [f"nearest is {nearest.model_type}, which differs in {', '.join(obstacles)}"]


def save_model(
    folder: Path,
    model: LanguageModel | RewardModel,
    tokenizer: Tokenizer,
    weights: Mapping[str, Tensor] | None = None,
) -> None:
    """Write the folder at once or not at all; tied weights are written once.

    `weights`: all of the model's, where this process has but a part of them in the model.

    Warns when transformers will not be able to load it, and why.
    """
    architecture, obstacles = architecture_of(model.config)
    if obstacles:
        logger.warning(
            "%s cannot be exported to transformers, vLLM or llama.cpp: no published architecture "
            "has these parts (%s); it keeps our own config and loads here",
            *(folder, obstacles[0]),
        )
    with write_dir(folder) as partial:
        write_json(partial / "config.json", hf_config(model, tokenizer, architecture))
        ours = dict(model.state_dict() if weights is None else weights)
        if model.config.tie_embeddings:
            ours.pop("head.weight", None)
        theirs = architecture.to_weights(ours)
        contiguous = {name: value.detach().cpu().contiguous() for name, value in theirs.items()}
        save_file(contiguous, partial / WEIGHTS, metadata={"format": "pt"})
        tokenizer.save(partial, model.config.block_size)
        if isinstance(model, LanguageModel):
            ids = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
            stops = {"eos_token_id": list(tokenizer.stop_ids)}
            write_json(partial / "generation_config.json", ids | stops)


def load_language_model(folder: Path) -> LanguageModel:
    """The language model in a Hugging Face folder (GPT-2, Llama, Qwen3, ours), fp32 on the CPU.

    Without dropout until `train()`, as every loaded model.
    """
    architecture, config, vocab_size = read_config(folder, reward=False)
    model = LanguageModel(config, vocab_size)
    _load_weights(model, folder, architecture)
    return model.eval()


def load_reward_model(folder: Path) -> RewardModel:
    """The reward model in a folder that the reward stage wrote, fp32 on the CPU."""
    architecture, config, vocab_size = read_config(folder, reward=True)
    model = RewardModel(config, vocab_size)
    _load_weights(model, folder, architecture)
    return model.eval()


def hf_config(
    model: LanguageModel | RewardModel, tokenizer: Tokenizer, architecture: Architecture
) -> dict[str, Any]:
    """config.json as transformers' config of that architecture reads it."""
    is_reward = isinstance(model, RewardModel)
    return {
        "architectures": [architecture.reward if is_reward else architecture.language],
        "model_type": architecture.model_type,
        "vocab_size": model.vocab_size,
        **architecture.to_config(model.config),
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.end_id,
        "pad_token_id": tokenizer.pad_id,
        "torch_dtype": "float32",
    } | (
        {"num_labels": 1, "id2label": {"0": "score"}, "label2id": {"score": 0}} if is_reward else {}
    )


def read_config(folder: Path, *, reward: bool) -> tuple[Architecture, ModelConfig, int]:
    """Architecture, our shape and vocabulary size of a config.json.

    CheckpointError when it is not ours to load.
    """
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is not a model folder: it has no config.json")
    values = read_json(folder / "config.json")
    if not isinstance(values, dict):
        raise CheckpointError(f"{folder}/config.json is no mapping, but {type(values).__name__}")
    found = (values.get("architectures") or ["nothing"])[0]
    known = {each.reward if reward else each.language: each for each in (*PUBLISHED, OURS)}
    if found not in known:
        raise CheckpointError(
            f"{folder}: architecture {found} where one of {', '.join(known)} is needed"
        )
    try:
        shape = known[found].from_config(values)
        return known[found], validate(ModelConfig, shape, ""), int(values["vocab_size"])
    except (ConfigError, CheckpointError, KeyError) as error:
        raise CheckpointError(f"{folder}/config.json: {error}") from None


def _load_weights(
    model: LanguageModel | RewardModel, folder: Path, architecture: Architecture
) -> None:
    """Fill every parameter; CheckpointError names what is missing, left over or of another shape."""
    found = architecture.from_weights(_read_weights(folder))
    if model.config.tie_embeddings and isinstance(model, LanguageModel):
        found["head.weight"] = found.get("backbone.embed.weight", model.head.weight)
    if wrong := sorted(set(model.state_dict()) ^ set(found)):
        raise CheckpointError(f"{folder}: missing or unknown tensors: {', '.join(wrong)}")
    try:
        model.load_state_dict({name: value.float() for name, value in found.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit its config.json: {error}") from None


def _read_weights(folder: Path) -> Mapping[str, Tensor]:
    """All tensors of a folder, in one file or in several with an index."""
    names = [WEIGHTS]
    if not (folder / WEIGHTS).is_file() and (folder / INDEX).is_file():
        names = sorted(set(read_json(folder / INDEX)["weight_map"].values()))
    tensors: dict[str, Tensor] = {}
    for name in names:
        try:
            tensors |= load_file(folder / name)
        except (FileNotFoundError, SafetensorError, json.JSONDecodeError) as error:
            raise CheckpointError(f"{folder / name} cannot be read: {error}") from None
    return tensors


def reward_from_language(model: LanguageModel) -> RewardModel:
    """A reward model with the language model's backbone and a zero head: every score starts at 0."""
    reward = RewardModel(model.config, model.vocab_size)
    reward.backbone.load_state_dict(model.backbone.state_dict())
    nn.init.zeros_(reward.score.weight)
    return reward
