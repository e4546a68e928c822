import json
from pathlib import Path

import pytest
import torch

from llm.config.model import ModelConfig
from llm.errors import CheckpointError
from llm.model.folder import (
    load_language_model,
    load_reward_model,
    reward_from_language,
    save_model,
)
from llm.model.transformer import LanguageModel, initialise
from llm.tokenizer.load import Tokenizer

transformers = pytest.importorskip("transformers")


@pytest.fixture(params=[True, False], ids=["tied", "untied"])
def model(request, tiny: ModelConfig, tokenizer: Tokenizer) -> LanguageModel:
    config = tiny.model_copy(update={"tie_embeddings": request.param})
    model = LanguageModel(config, tokenizer.vocab_size)
    initialise(model, 1)
    return model.eval()


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


def test_we_load_what_transformers_saves_with_equal_logits(
    tiny, tokenizer, ids, tmp_path: Path
) -> None:
    config = transformers.LlamaConfig(
        vocab_size=tokenizer.vocab_size,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=64,
    )
    theirs = transformers.LlamaForCausalLM(config).eval()
    theirs.save_pretrained(tmp_path)
    with torch.no_grad():
        torch.testing.assert_close(
            load_language_model(tmp_path)(ids), theirs(ids).logits, atol=1e-4, rtol=1e-4
        )


def test_transformers_generates_the_same_greedy_text(model, tokenizer, tmp_path: Path) -> None:
    from llm.config.align import SamplingConfig
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
    reward = reward_from_language(model)
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


def test_a_damaged_folder_is_refused_by_name(model, tokenizer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"no config\.json"):
        load_language_model(tmp_path)
    save_model(tmp_path / "m", model, tokenizer)
    with pytest.raises(CheckpointError, match="LlamaForCausalLM where LlamaForSequence"):
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
