import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from llm.errors import CheckpointError
from llm.model.flops import parameter_count
from llm.model.folder import (
    load_language_model,
    load_reward_model,
    reward_from_language,
    save_model,
)
from llm.model.transformer import LanguageModel, initialise
from llm.tokenizer.load import Tokenizer
from tests.shapes import GPT2, LLAMA, LSTM, QWEN3, shape

transformers = pytest.importorskip("transformers")


PRESETS = {
    "llama": {},
    "llama3": {
        "rope_scaling": {
            "kind": "llama3",
            "factor": 8.0,
            "original_block_size": 16,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
        }
    },
    "linear": {"rope_scaling": LLAMA["rope_scaling"] | {"kind": "linear", "factor": 4.0}},
    "biased": {"bias": True},
    "qwen3": QWEN3,
    "gpt2": GPT2,
    "gpt2-relu2": GPT2 | {"feed_forward": "relu2", "dropout": 0.1},
}
OWN = {"positions": "sinusoidal", "attention": "strided", "window": 8, "qk_norm": True}
NAMES = {"qwen3": "Qwen3ForCausalLM", "gpt2": "GPT2LMHeadModel"}


def random_model(changes: dict[str, Any], tokenizer: Tokenizer) -> LanguageModel:
    """Every parameter random, biases and norms too."""
    model = LanguageModel(shape(**changes), tokenizer.vocab_size)
    initialise(model, 1)
    generator = torch.Generator().manual_seed(5)
    for parameter in model.parameters():
        parameter.data += 0.05 * torch.randn(parameter.shape, generator=generator)
    return model.eval()


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def tied(request) -> bool:
    return request.param


@pytest.fixture(params=PRESETS)
def model(request, tied: bool, tokenizer: Tokenizer) -> LanguageModel:
    """Each architecture, tied and untied."""
    return random_model(PRESETS[request.param] | {"tie_embeddings": tied}, tokenizer)


@pytest.fixture
def llama(tokenizer: Tokenizer) -> LanguageModel:
    return random_model({}, tokenizer)


@pytest.fixture
def ids(tokenizer: Tokenizer) -> torch.Tensor:
    return torch.randint(tokenizer.vocab_size, (2, 40), generator=torch.Generator().manual_seed(0))


def test_transformers_loads_the_folder_with_equal_logits(
    model, tokenizer, ids, tmp_path: Path
) -> None:
    save_model(tmp_path / "base", model, tokenizer)
    theirs, report = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path / "base", output_loading_info=True
    )
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    with torch.no_grad():
        torch.testing.assert_close(model(ids), theirs.eval()(ids).logits, atol=1e-4, rtol=1e-4)


def published(name: str, vocab_size: int) -> Any:
    """A model of transformers' own making, with its own defaults."""
    common = {"vocab_size": vocab_size}
    llama = common | {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 64,
    }
    llama3 = {
        "rope_type": "llama3",
        "rope_theta": 500_000.0,
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 16,
    }
    gpt2 = common | {"n_embd": 32, "n_layer": 2, "n_head": 4, "n_positions": 64}
    configs = {
        "llama": lambda: transformers.LlamaConfig(**llama),
        "llama3": lambda: transformers.LlamaConfig(**llama, rope_parameters=llama3),
        "qwen3": lambda: transformers.Qwen3Config(**llama, head_dim=16, tie_word_embeddings=True),
        "gpt2": lambda: transformers.GPT2Config(**gpt2),
    }
    torch.manual_seed(3)
    return transformers.AutoModelForCausalLM.from_config(configs[name]()).eval()


@pytest.mark.parametrize("name", ["llama", "llama3", "qwen3", "gpt2"])
def test_we_load_what_transformers_saves_with_equal_logits(
    name: str, tokenizer, ids, tmp_path: Path
) -> None:
    theirs = published(name, tokenizer.vocab_size)
    theirs.save_pretrained(tmp_path)
    ours = load_language_model(tmp_path).eval()
    with torch.no_grad():
        torch.testing.assert_close(ours(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4)
    assert parameter_count(ours) == theirs.num_parameters()


def test_weights_in_several_files_load_as_one(tokenizer, ids, tmp_path: Path) -> None:
    theirs = published("llama", tokenizer.vocab_size)
    theirs.save_pretrained(tmp_path, max_shard_size="20KB")
    assert not (tmp_path / "model.safetensors").exists()
    with torch.no_grad():
        torch.testing.assert_close(
            load_language_model(tmp_path).eval()(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4
        )


def test_gpt2_as_published_has_no_prefix_and_holds_masks(tokenizer, ids, tmp_path: Path) -> None:
    """The hub's `gpt2`: `h.0.attn.c_attn.weight`, and a causal mask per layer as `h.0.attn.bias`."""
    theirs = published("gpt2", tokenizer.vocab_size)
    theirs.save_pretrained(tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    bare = {name.removeprefix("transformer."): value for name, value in weights.items()}
    bare |= {f"h.{layer}.attn.bias": torch.ones(1, 1, 64, 64) for layer in range(2)}
    save_file(bare, tmp_path / "model.safetensors")
    with torch.no_grad():
        torch.testing.assert_close(
            load_language_model(tmp_path).eval()(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4
        )


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("llama", {"hidden_act": "gelu"}, "hidden_act='gelu' .only 'silu' is known"),
        ("llama", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0}}, "rope_type=yarn; only"),
        ("llama", {"attention_bias": True}, "attention_bias without mlp_bias"),
        ("qwen3", {"use_sliding_window": True}, "use_sliding_window=True"),
        ("gpt2", {"activation_function": "silu"}, "activation_function=silu; known: gelu_new"),
        ("gpt2", {"architectures": ["BertModel"]}, "architecture BertModel where one of Llama"),
    ],
)
def test_what_we_do_not_compute_is_refused(name, change, message, tokenizer, tmp_path) -> None:
    published(name, tokenizer.vocab_size).save_pretrained(tmp_path)
    values = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(values | change))
    with pytest.raises(CheckpointError, match=message):
        load_language_model(tmp_path)


def test_a_config_that_is_no_mapping_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("[1]")
    with pytest.raises(CheckpointError, match=r"config.json is no mapping, but list"):
        load_language_model(tmp_path)


def test_transformers_generates_the_same_greedy_text(model, tokenizer, tmp_path: Path) -> None:
    from llm.config.sampling import SamplingConfig
    from llm.inference.engine import Engine

    save_model(tmp_path / "base", model, tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "base").eval()
    prompt = [tokenizer.bos_id, *tokenizer.encode("pathlib.Path.read_text(self")]
    sampling = SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=20)
    [ours] = Engine.load(tmp_path / "base", "cpu").generate(
        [prompt], sampling, 0, tokenizer.stop_ids
    )
    out = theirs.generate(torch.tensor([prompt]), max_new_tokens=20, do_sample=False)[
        0, len(prompt) :
    ].tolist()
    assert ours == [token for token in out if token not in tokenizer.stop_ids]


def test_a_reward_folder_loads_in_transformers_with_equal_scores(
    model, tokenizer, ids, tmp_path: Path
) -> None:
    reward = reward_from_language(model).eval()
    torch.nn.init.normal_(reward.score.weight, generator=torch.Generator().manual_seed(3))
    save_model(tmp_path / "reward", reward, tokenizer)
    theirs = transformers.AutoModelForSequenceClassification.from_pretrained(
        tmp_path / "reward"
    ).eval()
    ids = ids.clamp(min=2)  # transformers looks for padding to find the last token
    last = torch.full((2,), ids.shape[1] - 1)
    with torch.no_grad():
        torch.testing.assert_close(
            reward(ids, last), theirs(ids).logits[:, 0], atol=1e-4, rtol=1e-4
        )
        torch.testing.assert_close(
            load_reward_model(tmp_path / "reward")(ids, last), reward(ids, last)
        )


def test_what_is_saved_is_loaded_to_the_bit_and_saved_to_the_byte(
    model, tokenizer, tmp_path: Path
) -> None:
    save_model(tmp_path / "a", model, tokenizer)
    loaded = load_language_model(tmp_path / "a")
    assert loaded.config == model.config
    save_model(tmp_path / "b", loaded, tokenizer)
    for file in (tmp_path / "a").iterdir():
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_parts_without_a_published_architecture_are_kept_with_our_config(
    tied: bool, tokenizer, ids, tmp_path: Path, caplog
) -> None:
    model = random_model(OWN | {"tie_embeddings": tied}, tokenizer)
    save_model(tmp_path / "own", model, tokenizer)
    [warning] = caplog.messages
    assert "cannot be exported to transformers" in warning
    assert "positions=sinusoidal (rope)" in warning
    assert "attention=strided (full)" in warning
    loaded = load_language_model(tmp_path / "own")
    assert loaded.config == model.config
    with torch.no_grad():
        assert torch.equal(loaded.eval()(ids), model(ids))
    reward = reward_from_language(model).eval()
    save_model(tmp_path / "reward", reward, tokenizer)
    assert load_reward_model(tmp_path / "reward").config == model.config


def test_the_recurrent_baseline_is_kept_with_our_config_and_why(
    tied: bool, tokenizer, ids, tmp_path: Path, caplog
) -> None:
    model = random_model(LSTM | {"tie_embeddings": tied}, tokenizer)
    save_model(tmp_path / "own", model, tokenizer)
    [warning] = caplog.messages
    assert "cannot be exported to transformers" in warning
    assert "which differs in kind=lstm (transformer))" in warning
    loaded = load_language_model(tmp_path / "own")
    assert loaded.config == model.config
    with torch.no_grad():
        assert torch.equal(loaded(ids), model(ids))
    reward = reward_from_language(model).eval()
    save_model(tmp_path / "reward", reward, tokenizer)
    last = torch.tensor([39, 20])
    with torch.no_grad():
        assert torch.equal(load_reward_model(tmp_path / "reward")(ids, last), reward(ids, last))


def test_the_architecture_is_named_by_the_parts(tokenizer, tmp_path: Path, caplog) -> None:
    for name, changes in PRESETS.items():
        save_model(tmp_path / name, random_model(changes, tokenizer), tokenizer)
        [found] = json.loads((tmp_path / name / "config.json").read_text())["architectures"]
        assert found == NAMES.get(name.split("-")[0], "LlamaForCausalLM")
    assert not caplog.messages


def test_a_damaged_folder_is_refused_by_name(llama, tokenizer, tmp_path: Path) -> None:
    model = llama
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_language_model(tmp_path)
    save_model(tmp_path / "m", model, tokenizer)
    with pytest.raises(CheckpointError, match="LlamaForCausalLM where one of LlamaForSequence"):
        load_reward_model(tmp_path / "m")
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    (tmp_path / "m" / "config.json").write_text(json.dumps(config | {"intermediate_size": 50}))
    with pytest.raises(CheckpointError, match="does not fit"):
        load_language_model(tmp_path / "m")
    weights = tmp_path / "m" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_language_model(tmp_path / "m")
