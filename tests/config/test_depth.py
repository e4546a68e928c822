"""What one dial sets, against arithmetic by hand; and that nothing else may be there beside it."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from ruamel.yaml import YAML

from llm.config import sizes
from llm.config.base import read_yaml, value_at
from llm.config.depth import batch_tokens, derived, disagreements, peak_lr, shape
from llm.config.params import checked, load_params
from llm.config.presets import apply_overrides, apply_preset, apply_values, dotted
from llm.config.sizes import block_flops_per_token, block_parameter_count, parameter_count
from llm.errors import ConfigError
from llm.model.flops import backbone_flops_per_token, flops_per_token
from llm.model.flops import parameter_count as parameters_of
from llm.model.transformer import LanguageModel
from tests.conftest import ROOT
from tests.shapes import GPT2, LSTM, QWEN3
from tests.shapes import shape as network

TEXT = (ROOT / "params.yaml").read_text()
PRESETS = ROOT / "presets"
load = YAML(typ="safe").load
VALUES = load(TEXT)
NETWORKS = [{}, GPT2, LSTM, QWEN3, LSTM | {"norm": "layernorm", "bias": True}]
NETWORKS += [{"attention": "strided", "window": 8}, {"attention": "sliding_window", "window": 8}]
NETWORKS += [{"bias": True}, {"positions": "learned"}, {"feed_forward": "relu2", "n_kv_head": 4}]


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("parts", NETWORKS)
def test_sizes_are_those_of_the_network(parts: dict[str, Any], tied: bool) -> None:
    config = network(**(parts | {"tie_embeddings": tied}))
    with torch.device("meta"):
        model = LanguageModel(config, 100)
    assert parameter_count(config, 100) == parameters_of(model)
    assert block_parameter_count(config) == parameters_of(model.backbone.blocks)
    attention = 0 if config.kind == "lstm" else 12 * 2 * config.attention_width * 64
    flops = block_flops_per_token(config)
    assert flops == backbone_flops_per_token(model.backbone) + attention
    assert sizes.backbone_flops_per_token(config) == backbone_flops_per_token(model.backbone)
    assert sizes.flops_per_token(config, 100) == flops_per_token(model, config.block_size)


@pytest.mark.parametrize(
    ("depth", "width", "heads", "swiglu"),
    [
        (1, 64, 1, 192),
        (4, 256, 4, 704),
        (12, 768, 12, 2048),
        (13, 896, 7, 2432),
        (32, 2048, 16, 5504),
    ],
)
def test_width_is_64_a_layer_in_whole_heads(depth, width, heads, swiglu) -> None:
    """8/3 of 64: 170.7, up to 192. 13 layers: 832 is 6.5 heads of 128, so 7 of them."""
    expected = {"n_layer": depth, "n_head": heads, "n_kv_head": heads, "head_dim": 0}
    assert shape(depth, "swiglu") == {**expected, "n_embd": width, "n_inner": swiglu}
    assert shape(depth, "gelu") == {**expected, "n_embd": width, "n_inner": 4 * width}


def test_depth_12_of_gpt2s_parts_is_gpt2_124m() -> None:
    preset = load(apply_preset(TEXT, "gpt2-124m", PRESETS))
    found = derived(preset, 12)
    assert {key: value_at(preset, key) for key in found if key.startswith("model.")} == {
        key: value for key, value in found.items() if key.startswith("model.")
    }


def test_depth_12_by_hand() -> None:
    """GPT-2's parts: 124,475,904 parameters with a vocabulary of 50,304, 12 blocks of 12 x 768² weights.

    C = (6 x 84,934,656 + 12 x 12 x 768 x 1024) x 20 x 124,475,904 = 1.5506e18, so that the
    rate is 0.3118 C^-1/8 = 0.3118 / 187.86 and the batch 0.2920 C^0.3271 = 258,400: 2^18.
    """
    found = derived(load(apply_preset(TEXT, "gpt2-124m", PRESETS)), 12)
    parameters = 50_304 * 768 + 1024 * 768 + 12 * (12 * 768**2 + 13 * 768) + 2 * 768
    assert parameters == 124_475_904
    assert found["pretrain.batch_tokens"] == 2**18
    assert found["pretrain.max_tokens"] == round(20 * parameters / 2**18) * 2**18
    assert found["pretrain.optim.lr"] == 0.0017
    assert found["pretrain.optim.muon_lr"] == 0.02
    assert found["sft.optim.lr"] == 0.00011  # 2e-5 x 4096 / 768
    assert found["reward.optim.lr"] == 5.3e-5
    assert found["dpo.optim.lr"] == 2.7e-6


def test_the_laws_give_what_deepseek_trained_with() -> None:
    """Bi et al. 2024, table 2: 7B at 4.2e-4 and 2304 x 4096 tokens, 67B at 3.2e-4 and 4608 x 4096.

    Their C: 2e12 tokens of 72 L d² + 12 L d T.
    """
    for layers, width, lr, sequences in ((30, 4096, 4.2e-4, 2304), (95, 8192, 3.2e-4, 4608)):
        flops = 2e12 * (72 * layers * width**2 + 12 * layers * width * 4096)
        assert peak_lr(flops) == pytest.approx(lr, rel=0.05)
        assert batch_tokens(flops, 1) == pytest.approx(sequences * 4096, rel=0.2)


def test_a_batch_is_a_power_of_two_where_whole_units_allow() -> None:
    assert batch_tokens(1e15, 2048) == batch_tokens(1e15, 4096) == 2**15  # of 23,544
    assert batch_tokens(1e15, 3 * 1024) % (3 * 1024) == 0
    assert batch_tokens(1e12, 2**20) == 2**20  # never less than one


@settings(max_examples=30, deadline=None)
@given(depth=st.integers(1, 96), ranks=st.integers(1, 64), micro=st.integers(1, 64))
def test_what_any_depth_sets_is_valid(depth: int, ranks: int, micro: int) -> None:
    values = copy.deepcopy(VALUES)
    values["launch"] |= {"nproc_per_node": ranks}
    values["pretrain"]["micro_batch_size"] = micro
    for stage, size in (("sft", "sequences"), ("reward", "pairs"), ("dpo", "pairs")):
        values[stage] |= {"micro_batch_size": 1, f"batch_{size}": ranks}
    values["model"]["depth"] = depth
    for key, value in derived(values, depth).items():
        *sections, last = key.split(".")
        value_at(values, ".".join(sections))[last] = value
    assert not list(disagreements(values))
    params = checked(values)
    assert math.isclose(
        params.pretrain.max_tokens,
        20 * parameter_count(params.model, 2048),
        abs_tol=params.pretrain.batch_tokens,
    )


def test_setting_the_depth_writes_all_that_it_sets() -> None:
    values = load(apply_overrides(TEXT, {"model.depth": 6}))
    assert not list(disagreements(values))
    assert values["model"]["n_embd"] == 384
    checked(values)


def test_what_the_rules_ask_for_may_change_beside_the_depth() -> None:
    text = apply_overrides(TEXT, {"model.depth": 6})
    larger = load(apply_overrides(text, {"tokenizer.vocab_size": 8192}))
    more = 20 * (8192 - 2048) * 384
    before = load(text)["pretrain"]["max_tokens"]
    assert larger["pretrain"]["max_tokens"] == pytest.approx(before + more, abs=2**17)


def test_another_value_beside_the_depth_is_refused_in_one_line() -> None:
    with pytest.raises(ConfigError) as caught:
        apply_overrides(TEXT, {"model.depth": 6, "pretrain.optim.lr": 1e-3})
    assert str(caught.value) == (
        "model.depth=6 sets pretrain.optim.lr=0.0029 (here 0.001); `llm depth 6` writes what it "
        "sets, `llm depth off` keeps what there is"
    )
    text = apply_overrides(TEXT, {"model.depth": 6})
    with pytest.raises(ConfigError, match=r"sets dpo.optim.lr=5.3e-06 \(here 0.1\)"):
        apply_overrides(text, {"dpo.optim.lr": 0.1})
    own = apply_overrides(text, {"dpo.optim.lr": 0.1, "model.depth": None})
    assert load(own)["model"]["n_layer"] == 6


def test_a_file_that_disagrees_is_refused_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "params.yaml"
    path.write_text(TEXT.replace("depth: null", "depth: 6"))
    with pytest.raises(
        ConfigError, match=r"depth=6 sets model.n_layer=6 .* and \d+ more; `llm dep"
    ):
        load_params(path)
    with pytest.raises(ConfigError, match=r"model.depth=6 sets model.n_layer=6"):
        apply_values(path.read_text(), {"dpo": {"beta": 0.2}}, "mine")


@pytest.mark.parametrize("depth", [0, -1, "six", 2.5])
def test_no_depth_is_refused_as_that(depth: Any) -> None:
    with pytest.raises(ConfigError, match=r"^model.depth="):
        apply_overrides(TEXT, {"model.depth": depth})


def test_published_weights_have_a_shape_of_their_own() -> None:
    values = {"model.depth": 6, "tokenizer.init_from": "gpt2", "pretrain.init_from": "gpt2"}
    with pytest.raises(ConfigError, match=r"model.depth=6 would shape the network, whose shape"):
        apply_overrides(TEXT, values)


def test_preset_default_undoes_the_depth() -> None:
    deep = apply_overrides(TEXT, {"model.depth": 6})
    assert load(apply_preset(deep, "default", PRESETS)) == VALUES
    set_by_depth = derived(VALUES, 6)
    assert set_by_depth.keys() <= dotted(read_yaml(PRESETS / "default.yaml")).keys()
