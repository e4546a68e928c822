"""GPT-2 (Radford et al. 2019) as transformers has it.

LayerNorm, learned positions, biases, a feed-forward without gate. Its linear layers are stored
transposed, (in, out), and queries, keys and values are one matrix side by side.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from llm.config.model import ModelConfig
from llm.errors import CheckpointError
from llm.model.architecture import UNSCALED, Architecture, Weights, differs, require

ACTIVATIONS = {"gelu": "gelu_new", "relu": "relu", "relu2": "relu2"}
OURS = {theirs: ours for ours, theirs in ACTIVATIONS.items()} | {"gelu_pytorch_tanh": "gelu"}

# Our name -> Hugging Face's; the weights of linear layers are transposed on the way.
NAMES = {
    "backbone.embed": "transformer.wte",
    "backbone.positions.embed": "transformer.wpe",
    "backbone.norm": "transformer.ln_f",
    "head": "lm_head",
    "score": "score",
}
LAYER_NAMES = {"norm_1": "ln_1", "norm_2": "ln_2"}
LINEAR_NAMES = {"attn.out": "attn.c_proj", "mlp.up": "mlp.c_fc", "mlp.down": "mlp.c_proj"}


def _missing(config: ModelConfig) -> Iterator[str]:
    yield from differs(config, norm="layernorm", positions="learned", qk_norm=False, bias=True)
    yield from differs(config, n_kv_head=config.n_head, attention_width=config.n_embd)
    if config.feed_forward not in ACTIVATIONS:
        yield f"feed_forward={config.feed_forward} ({', '.join(ACTIVATIONS)})"


def _to_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "n_positions": config.block_size,
        "n_layer": config.n_layer,
        "n_head": config.n_head,
        "n_embd": config.n_embd,
        "n_inner": config.n_inner,
        "activation_function": ACTIVATIONS[config.feed_forward],
        "layer_norm_epsilon": config.norm_eps,
        "resid_pdrop": config.dropout,
        "embd_pdrop": config.dropout,
        "attn_pdrop": config.dropout,
        "tie_word_embeddings": config.tie_embeddings,
    }


def _from_config(values: Mapping[str, Any]) -> dict[str, Any]:
    require(
        values,
        scale_attn_weights=True,
        scale_attn_by_inverse_layer_idx=False,
        add_cross_attention=False,
    )
    activation = values.get("activation_function", "gelu_new")
    if activation not in OURS:
        raise CheckpointError(f"activation_function={activation}; known: {', '.join(OURS)}")
    width = values.get("n_embd")
    inner = values.get("n_inner") or (4 * width if isinstance(width, int) else None)
    return {
        "depth": None,
        "kind": "transformer",
        "block_size": values.get("n_positions"),
        "n_layer": values.get("n_layer"),
        "n_head": values.get("n_head"),
        "n_kv_head": values.get("n_head"),
        "head_dim": 0,
        "n_embd": width,
        "n_inner": inner,
        "norm": "layernorm",
        "norm_eps": values.get("layer_norm_epsilon", 1e-5),
        "positions": "learned",
        "rope_base": 10_000.0,
        "rope_scaling": UNSCALED.model_dump(),
        "feed_forward": OURS[activation],
        "attention": "full",
        "window": 0,
        "qk_norm": False,
        "attention_softcap": 0.0,
        "logit_softcap": 0.0,
        "bias": True,
        "dropout": float(values.get("resid_pdrop", 0.1)),
        "tie_embeddings": values.get("tie_word_embeddings", True),
    }


def _to_weights(weights: Weights) -> dict[str, Tensor]:
    theirs: dict[str, Tensor] = {}
    for name, value in weights.items():
        module, kind = name.rsplit(".", 1)
        if module in NAMES:
            theirs[f"{NAMES[module]}.{kind}"] = value
            continue
        _, _, layer, part = module.split(".", 3)
        prefix = f"transformer.h.{layer}"
        if part in LAYER_NAMES:
            theirs[f"{prefix}.{LAYER_NAMES[part]}.{kind}"] = value
        elif part in LINEAR_NAMES:
            theirs[f"{prefix}.{LINEAR_NAMES[part]}.{kind}"] = (
                value.t() if kind == "weight" else value
            )
        elif part == "attn.q":  # its fellows join it
            parts = [weights[f"backbone.blocks.{layer}.attn.{each}.{kind}"] for each in "qkv"]
            joined = torch.cat(parts)
            theirs[f"{prefix}.attn.c_attn.{kind}"] = joined.t() if kind == "weight" else joined
    return theirs


def _from_weights(weights: Weights) -> dict[str, Tensor]:
    """Published folders also leave out the prefix `transformer.`, or hold causal masks."""
    modules = {theirs.removeprefix("transformer."): ours for ours, theirs in NAMES.items()}
    layers = {theirs: ours for ours, theirs in (LAYER_NAMES | LINEAR_NAMES).items()}
    ours: dict[str, Tensor] = {}
    for full_name, value in weights.items():
        name = full_name.removeprefix("transformer.")
        if re.search(r"\.attn\.(masked_)?bias$", name):
            continue
        module, kind = name.rsplit(".", 1)
        if module in modules:
            ours[f"{modules[module]}.{kind}"] = value
            continue
        match = re.fullmatch(r"h\.(\d+)\.(.+)", module)
        prefix = f"backbone.blocks.{match[1]}" if match else module
        part = match[2] if match else ""
        if part not in ("ln_1", "ln_2") and kind == "weight":
            value = value.t()
        if part == "attn.c_attn":
            for each, matrix in zip("qkv", value.chunk(3), strict=True):
                ours[f"{prefix}.attn.{each}.{kind}"] = matrix
        else:
            ours[f"{prefix}.{layers.get(part, part)}.{kind}"] = value
    return ours


GPT2 = Architecture(
    model_type="gpt2",
    language="GPT2LMHeadModel",
    reward="GPT2ForSequenceClassification",
    missing=_missing,
    to_config=_to_config,
    from_config=_from_config,
    to_weights=_to_weights,
    from_weights=_from_weights,
)
