"""A tokenizer as Hugging Face's files: what transformers, vLLM and llama.cpp read."""

from pathlib import Path
from typing import Any

import tokenizers

from llm.files import write_json, write_text
from llm.tokenizer.chat import BOS, CHAT_TEMPLATE, PAD, SPECIALS

TOKENIZER_FILE = "tokenizer.json"


def save_tokenizer(
    folder: Path, tokenizer: tokenizers.Tokenizer, block_size: int | None = None, bos: str = BOS
) -> None:
    """Write the files; `block_size` is the model's.

    `bos` is the token that begins a text: ours, or a published tokenizer's own.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = {"bos_token": bos, "eos_token": bos, "pad_token": PAD}
    config: dict[str, Any] = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **names,
        "additional_special_tokens": [t for t in SPECIALS if t not in (*names.values(), BOS)],
        "clean_up_tokenization_spaces": False,
        "chat_template": CHAT_TEMPLATE,
    }
    if block_size is not None:
        config["model_max_length"] = block_size
    write_text(folder / TOKENIZER_FILE, tokenizer.to_str())
    write_json(folder / "tokenizer_config.json", config)
    write_json(folder / "special_tokens_map.json", names)
