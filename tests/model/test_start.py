from pathlib import Path
from typing import Any

import pytest
import torch

from llm.config.align import SamplingConfig
from llm.config.model import ModelConfig
from llm.errors import CheckpointError, ConfigError, DataError
from llm.inference.engine import Engine
from llm.model.folder import load_language_model, save_model
from llm.model.start import load_as, load_start
from llm.model.transformer import LanguageModel, initialise
from llm.tokenizer.load import Tokenizer
from tests.hub import publish
from tests.shapes import GPT2, LLAMA, QWEN3, shape

transformers = pytest.importorskip("transformers")

SHAPES: dict[str, dict[str, Any]] = {"gpt2": GPT2, "llama": {}, "qwen3": QWEN3}


@pytest.mark.parametrize("name", SHAPES)
def test_a_published_folder_starts_a_stage_with_its_tokenizer(name: str, tmp_path: Path) -> None:
    theirs = publish(name, tmp_path / "hub")
    model, tokenizer = load_start(str(tmp_path / "hub"), tmp_path / "none")
    own = transformers.AutoTokenizer.from_pretrained(tmp_path / "hub")
    text = "pathlib.Path.read_text(self, encoding=None) Größe 漢字"
    assert tokenizer.encode(text) == own(text)["input_ids"]
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.bos_id == own.bos_token_id
    assert tokenizer.end_id >= len(own)  # markers come after the published ids
    assert model.vocab_size == tokenizer.vocab_size
    ids = torch.tensor([tokenizer.encode(text)])
    with torch.no_grad():
        ours, wanted = model(ids)[..., : len(own)], theirs(ids).logits
    torch.testing.assert_close(ours, wanted, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("name", SHAPES)
def test_a_published_folder_writes_the_same_greedy_text(name: str, tmp_path: Path) -> None:
    """Ids, and their text by either side's tokenizer."""
    theirs = publish(name, tmp_path / "hub")
    own = transformers.AutoTokenizer.from_pretrained(tmp_path / "hub")
    tokenizer = Tokenizer.adopt(tmp_path / "hub")
    engine = Engine(load_language_model(tmp_path / "hub"), tokenizer, torch.device("cpu"))
    prompt = own("pathlib.Path.read_text(self")["input_ids"]
    assert tokenizer.encode("pathlib.Path.read_text(self") == prompt
    sampling = SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=20)
    [ours] = engine.generate([prompt], sampling, 0, ())
    wanted = theirs.generate(
        torch.tensor([prompt]), max_new_tokens=20, min_new_tokens=20, do_sample=False
    )[0, len(prompt) :].tolist()
    assert ours == wanted
    assert tokenizer.decode(ours) == own.decode(wanted, skip_special_tokens=True)


@pytest.mark.parametrize("name", SHAPES)
def test_what_started_from_a_published_folder_is_saved_as_one(name: str, tmp_path: Path) -> None:
    publish(name, tmp_path / "hub")
    model, tokenizer = load_start(str(tmp_path / "hub"), tmp_path / "none")
    save_model(tmp_path / "sft", model, tokenizer)
    theirs = transformers.AutoModelForCausalLM.from_pretrained(tmp_path / "sft").eval()
    chat = transformers.AutoTokenizer.from_pretrained(tmp_path / "sft")
    messages = [{"role": "user", "content": "json.dumps"}]
    ids = tokenizer.render_prompt(messages)
    rendered = chat.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
    assert chat(rendered, add_special_tokens=False)["input_ids"] == ids
    with torch.no_grad():
        logits = theirs(torch.tensor([ids])).logits
        torch.testing.assert_close(model(torch.tensor([ids])), logits, atol=1e-4, rtol=1e-4)
    again = Tokenizer.load(tmp_path / "sft")
    assert (again.hash, again.bos_id) == (tokenizer.hash, tokenizer.bos_id)
    assert Tokenizer.adopt(tmp_path / "sft").hash == tokenizer.hash


def test_without_init_from_a_stage_goes_on_from_the_model_before(tiny, tokenizer, tmp_path) -> None:
    model = LanguageModel(tiny, tokenizer.vocab_size)
    initialise(model, 1)
    save_model(tmp_path / "base", model, tokenizer)
    loaded, same = load_start("", tmp_path / "base")
    assert torch.equal(loaded.head.weight, model.head.weight)
    assert same.hash == tokenizer.hash


def wanted(name: str, **changes: Any) -> ModelConfig:
    return shape(**({"n_inner": 48} | SHAPES[name] | changes))


def test_pretraining_takes_published_weights_at_a_shorter_block(tmp_path: Path) -> None:
    theirs = publish("gpt2", tmp_path / "hub")
    tokenizer = Tokenizer.adopt(tmp_path / "hub")
    model = load_as(tmp_path / "hub", wanted("gpt2", block_size=32, dropout=0.2), tokenizer).eval()
    assert model.config.dropout == 0.2
    ids = torch.randint(300, (1, 32), generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(
            model(ids)[..., :351], theirs(ids).logits[..., :351], atol=1e-4, rtol=1e-4
        )


def test_another_shape_than_the_folders_is_refused_key_by_key(tmp_path: Path) -> None:
    publish("llama", tmp_path / "hub")
    tokenizer = Tokenizer.adopt(tmp_path / "hub")
    with pytest.raises(ConfigError) as caught:
        load_as(tmp_path / "hub", wanted("llama", n_layer=3, norm="layernorm"), tokenizer)
    assert "it has model.n_layer=2, not 3; model.norm=rmsnorm, not layernorm" in str(caught.value)
    publish("gpt2", tmp_path / "gpt2")
    adopted = Tokenizer.adopt(tmp_path / "gpt2")
    with pytest.raises(ConfigError, match=r"model.block_size=64 at most"):
        load_as(tmp_path / "gpt2", wanted("gpt2", block_size=128), adopted)


def test_weights_want_the_shards_of_their_own_tokenizer(tokenizer: Tokenizer, tmp_path) -> None:
    publish("llama", tmp_path / "hub")
    with pytest.raises(ConfigError, match=r"set tokenizer.init_from to the same folder"):
        load_as(tmp_path / "hub", shape(**LLAMA), tokenizer)


def test_a_folder_that_is_none_is_named(tmp_path: Path) -> None:
    publish("llama", tmp_path / "hub")
    (tmp_path / "hub" / "config.json").unlink()
    with pytest.raises(CheckpointError, match=r"hub is not a model folder: it has no config.json"):
        load_start(str(tmp_path / "hub"), tmp_path)
    (tmp_path / "hub" / "tokenizer.json").unlink()
    with pytest.raises(DataError, match=r"tokenizer.json does not exist; init_from names a folder"):
        load_start(str(tmp_path / "hub"), tmp_path)
