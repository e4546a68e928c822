"""Llama (Touvron et al. 2023) and Qwen3 (Yang et al. 2025) as transformers has them.

RMSNorm, rotary positions, SwiGLU, grouped queries; Qwen3 also normalises queries and keys.
"""

import re
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from torch import Tensor

from llm.config.model import ModelConfig
from llm.errors import CheckpointError
from llm.model.architecture import UNSCALED, Architecture, Weights, differs, require

# Our name -> Hugging Face's, applied in this order.
RENAMES = (
    (r"^backbone\.embed\.", "model.embed_tokens."),
    (r"^backbone\.norm\.", "model.norm."),
    (r"^backbone\.blocks\.", "model.layers."),
    (r"\.norm_1\.", ".input_layernorm."),
    (r"\.norm_2\.", ".post_attention_layernorm."),
    (r"\.attn\.out\.", ".self_attn.o_proj."),
    (r"\.attn\.([qkv])\.", r".self_attn.\1_proj."),
    (r"\.attn\.([qk]_norm)\.", r".self_attn.\1."),
    (r"\.mlp\.(gate|up|down)\.", r".mlp.\1_proj."),
    (r"^head\.", "lm_head."),
)
BACK = (
    (r"^model\.embed_tokens\.", "backbone.embed."),
    (r"^model\.norm\.", "backbone.norm."),
    (r"^model\.layers\.", "backbone.blocks."),
    (r"\.input_layernorm\.", ".norm_1."),
    (r"\.post_attention_layernorm\.", ".norm_2."),
    (r"\.self_attn\.o_proj\.", ".attn.out."),
    (r"\.self_attn\.([qkv])_proj\.", r".attn.\1."),
    (r"\.self_attn\.([qk]_norm)\.", r".attn.\1."),
    (r"\.mlp\.(gate|up|down)_proj\.", r".mlp.\1."),
    (r"^lm_head\.", "head."),
)


def _rename(weights: Weights, rules: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for name, value in weights.items():
        for pattern, replacement in rules:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed


def _missing(config: ModelConfig, *, qwen3: bool) -> Iterator[str]:
    yield from differs(config, norm="rmsnorm", positions="rope", feed_forward="swiglu")
    yield from differs(config, qk_norm=qwen3)
    if qwen3:
        yield from differs(config, bias=False)


def _to_config(config: ModelConfig) -> dict[str, Any]:
    return {
        "max_position_embeddings": config.block_size,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_width,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_inner,
        "hidden_act": "silu",
        "rope_theta": config.rope_base,
        **_rope_scaling(config),
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": config.bias,
        "mlp_bias": config.bias,
        **({"attention_dropout": config.dropout} if config.dropout else {}),
    }


def _rope_scaling(config: ModelConfig) -> dict[str, Any]:
    scaling = config.rope_scaling
    if scaling.kind == "none":
        return {}
    values: dict[str, Any] = {"rope_type": scaling.kind, "factor": scaling.factor}
    if scaling.kind == "llama3":
        values |= {
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_block_size,
        }
    return {"rope_scaling": values}


def _from_config(values: Mapping[str, Any], *, qwen3: bool) -> dict[str, Any]:
    require(values, hidden_act="silu", use_sliding_window=False)
    bias = values.get("attention_bias", False)
    if bias != (values.get("mlp_bias", False) and not qwen3):
        raise CheckpointError("attention_bias without mlp_bias; only both or neither are known")
    width, n_head = values.get("hidden_size"), values.get("num_attention_heads")
    default_width = width // n_head if isinstance(width, int) and isinstance(n_head, int) else 0
    head_dim = values.get("head_dim") or (128 if qwen3 else default_width)
    rope = (values.get("rope_parameters") or {}) | (values.get("rope_scaling") or {})
    return {
        "depth": None,
        "kind": "transformer",
        "block_size": values.get("max_position_embeddings"),
        "n_layer": values.get("num_hidden_layers"),
        "n_head": n_head,
        "n_kv_head": values.get("num_key_value_heads") or n_head,
        "head_dim": 0 if head_dim == default_width else head_dim,
        "n_embd": width,
        "n_inner": values.get("intermediate_size"),
        "norm": "rmsnorm",
        "norm_eps": values.get("rms_norm_eps", 1e-6),
        "positions": "rope",
        "rope_base": float(values.get("rope_theta") or rope.get("rope_theta") or 10_000.0),
        "rope_scaling": _scaling_of(rope),
        "feed_forward": "swiglu",
        "attention": "full",
        "window": 0,
        "qk_norm": qwen3,
        "attention_softcap": 0.0,
        "logit_softcap": 0.0,
        "bias": bias,
        "dropout": float(values.get("attention_dropout", 0.0)),
        "tie_embeddings": values.get("tie_word_embeddings", False),
    }


def _scaling_of(rope: Mapping[str, Any]) -> dict[str, Any]:
    """Our rope_scaling of theirs, in its older and newer spelling."""
    kind = rope.get("rope_type") or rope.get("type") or "default"
    if kind not in ("default", "linear", "llama3"):
        raise CheckpointError(f"rope_type={kind}; only default, linear and llama3 are known")
    scaling = UNSCALED.model_dump()
    if kind == "default":
        return scaling
    scaling |= {"kind": kind, "factor": float(rope["factor"])}
    if kind == "llama3":
        scaling["low_freq_factor"] = float(rope["low_freq_factor"])
        scaling["high_freq_factor"] = float(rope["high_freq_factor"])
        scaling["original_block_size"] = rope["original_max_position_embeddings"]
    return scaling


def _architecture(model_type: str, name: str, *, qwen3: bool) -> Architecture:
    return Architecture(
        model_type=model_type,
        language=f"{name}ForCausalLM",
        reward=f"{name}ForSequenceClassification",
        missing=partial(_missing, qwen3=qwen3),
        to_config=_to_config,
        from_config=partial(_from_config, qwen3=qwen3),
        to_weights=partial(_rename, rules=RENAMES),
        from_weights=partial(_rename, rules=BACK),
    )


LLAMA = _architecture("llama", "Llama", qwen3=False)
QWEN3 = _architecture("qwen3", "Qwen3", qwen3=True)
