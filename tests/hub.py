"""Published folders as transformers writes them, tiny: random weights, a tokenizer without chat markers."""

from pathlib import Path
from typing import Any

import tokenizers
import torch
import transformers
from tokenizers import decoders, models, pre_tokenizers, trainers

from tests.conftest import TEXT

BOS_NAMES = {"gpt2": "<|endoftext|>", "llama": "<|begin_of_text|>", "qwen3": "<|endoftext|>"}


def publish(name: str, folder: Path) -> Any:
    """Write the folder; returns the model."""
    own = transformers.PreTrainedTokenizerFast(
        tokenizer_object=_tokenizer(BOS_NAMES[name]), bos_token=BOS_NAMES[name]
    )
    own.save_pretrained(folder)
    common = {"max_position_embeddings": 64, "num_hidden_layers": 2}
    common |= {"num_attention_heads": 4, "hidden_size": 32, "vocab_size": len(own)}
    gated = {"intermediate_size": 48, "num_key_value_heads": 2}
    gated |= {"rms_norm_eps": 1e-5, "tie_word_embeddings": True}
    more = {
        "gpt2": {"n_inner": 48, "resid_pdrop": 0.0},
        "llama": gated,
        "qwen3": gated | {"head_dim": 16},
    }
    config = transformers.AutoConfig.for_model(name, **(common | more[name]))
    torch.manual_seed(3)
    model = transformers.AutoModelForCausalLM.from_config(config).eval()
    model.save_pretrained(folder)
    return model


def _tokenizer(bos: str) -> tokenizers.Tokenizer:
    """Byte-level BPE whose only special token has the last id, as GPT-2's."""
    backend = tokenizers.Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=350, initial_alphabet=alphabet, show_progress=False)
    backend.train_from_iterator(TEXT, trainer)
    backend.add_special_tokens([bos])
    return backend
