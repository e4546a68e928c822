"""The presets are the published architectures, at their published sizes."""

from typing import Any

import pytest
import torch

from llm.config.base import parse_yaml, read_yaml, validate
from llm.config.model import ModelConfig
from llm.config.params import Params
from llm.config.presets import apply_preset, preset_names
from llm.model.flops import flops_per_token, parameter_count
from llm.model.folder import architecture_of
from llm.model.transformer import LanguageModel
from tests.conftest import ROOT

transformers = pytest.importorskip("transformers")

PRESETS = ROOT / "presets"
# Preset: architecture, published vocabulary, parameters as transformers counts them.
SIZES = {
    "gpt2-124m": ("gpt2", 50_257, 124_439_808),
    "gpt2-355m": ("gpt2", 50_257, 354_823_168),
    "gpt2-774m": ("gpt2", 50_257, 774_030_080),
    "gpt2-1558m": ("gpt2", 50_257, 1_557_611_200),
    "llama": ("llama", 128_256, 1_235_814_400),
    "qwen3": ("qwen3", 151_936, 596_049_920),
}


def preset(name: str) -> Params:
    text = apply_preset((ROOT / "params.yaml").read_text(), name, PRESETS)
    return validate(Params, parse_yaml(text, name), "")


def on_meta(config: ModelConfig, vocab_size: int) -> LanguageModel:
    with torch.device("meta"):
        return LanguageModel(config, vocab_size)


@pytest.mark.parametrize("name", SIZES)
def test_a_preset_has_the_published_parameters(name: str) -> None:
    model_type, vocab_size, parameters = SIZES[name]
    config = preset(name).model
    architecture, obstacles = architecture_of(config)
    assert (architecture.model_type, obstacles) == (model_type, [])
    assert parameter_count(on_meta(config, vocab_size)) == parameters
    theirs = transformers.AutoConfig.for_model(
        model_type, vocab_size=vocab_size, **their_keys(architecture.to_config(config))
    )
    with torch.device("meta"):
        assert transformers.AutoModelForCausalLM.from_config(theirs).num_parameters() == parameters


def their_keys(values: dict[str, Any]) -> dict[str, Any]:
    """config.json's older spelling of rotary positions as a constructor takes it."""
    scaling = values.pop("rope_scaling", {"rope_type": "default"})
    if base := values.pop("rope_theta", None):
        values["rope_parameters"] = scaling | {"rope_theta": base}
    return values


def test_every_preset_of_an_architecture_is_measured() -> None:
    shaped = {
        name for name in preset_names(PRESETS) if "model" in read_yaml(PRESETS / f"{name}.yaml")
    }
    assert set(SIZES) == shaped - {"default", "smoke"}


def test_gpt2_124ms_flops_by_hand() -> None:
    """Per layer 4 x 768² of attention and 2 x 768 x 3072; the head 50,304 x 768; 12 T C of attention."""
    params = preset("gpt2-124m")
    model = on_meta(params.model, params.tokenizer.vocab_size)
    layer = 4 * 768**2 + 2 * 768 * 3072
    expected = 6 * (50_304 * 768 + 12 * layer) + 12 * 12 * 768 * 1024
    assert flops_per_token(model, 1024) == expected
