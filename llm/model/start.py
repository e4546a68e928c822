"""Where a training stage starts: the model before it in the chain, or a published folder."""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from llm.config.model import ModelConfig
from llm.errors import ConfigError
from llm.model.folder import load_language_model
from llm.model.transformer import LanguageModel
from llm.tokenizer.load import Tokenizer


def load_start(init_from: str, before: Path) -> tuple[LanguageModel, Tokenizer]:
    """The model and tokenizer of folder `init_from`; of `before` where it is empty.

    A published tokenizer gets the chat markers it lacks, and its model a row for each.
    """
    if not init_from:
        return load_language_model(before), Tokenizer.load(before)
    tokenizer = Tokenizer.adopt(Path(init_from))
    return grown(load_language_model(Path(init_from)), tokenizer.vocab_size), tokenizer


def load_as(folder: Path, config: ModelConfig, tokenizer: Tokenizer) -> LanguageModel:
    """Published weights in the network that section `model` describes.

    The section may have another dropout, and another block_size (with learned positions a
    smaller one: the first rows are taken). ConfigError lists what else differs, or says that
    the data was not made by the folder's tokenizer.
    """
    found, own = load_start(str(folder), folder)
    if own.hash != tokenizer.hash:
        raise ConfigError(
            f"pretrain.init_from={folder}: its tokenizer is not the one of the token shards; "
            "set tokenizer.init_from to the same folder"
        )
    if wrong := list(_differences(config, found.config)):
        raise ConfigError(f"pretrain.init_from={folder}: it has {'; '.join(wrong)}; set them so")
    model = LanguageModel(config, found.vocab_size)
    weights = found.state_dict()
    if (places := "backbone.positions.embed.weight") in weights:
        weights[places] = weights[places][: config.block_size]
    model.load_state_dict(weights)
    return model


def _differences(config: ModelConfig, found: ModelConfig) -> Iterator[str]:
    """`model.key=value, not ...` for each key whose value the weights were not made for."""
    free = {"depth", "block_size", "dropout", "head_dim"}
    if found.positions != "rope":
        free |= {"rope_base", "rope_scaling"}
    for key, value in found.model_dump().items():
        if key not in free and getattr(config, key) != getattr(found, key):
            yield f"model.{key}={value}, not {config.model_dump()[key]}"
    if config.head_width != found.head_width:
        yield f"model.head_dim={found.head_width}, not {config.head_width}"
    if found.positions == "learned" and config.block_size > found.block_size:
        yield f"model.block_size={found.block_size} at most, not {config.block_size}"


def grown(model: LanguageModel, vocab_size: int) -> LanguageModel:
    """The model with at least `vocab_size` ids; new rows are the mean of the old (Hewitt 2021)."""
    if vocab_size <= model.vocab_size:
        return model
    larger = LanguageModel(model.config, vocab_size)
    weights = model.state_dict()
    for name in ("backbone.embed.weight", "head.weight"):
        weights[name] = _with_mean_rows(weights[name], vocab_size)
    larger.load_state_dict(weights)
    return larger.eval()


def _with_mean_rows(matrix: Tensor, n_rows: int) -> Tensor:
    mean = matrix.mean(0, keepdim=True).expand(n_rows - matrix.shape[0], -1)
    return torch.cat([matrix, mean])
