"""A tiny network of every kind: Llama's parts, and any key changed."""

from typing import Any

from llm.config.model import ModelConfig

LLAMA: dict[str, Any] = {
    "depth": None,
    "kind": "transformer",
    "block_size": 64,
    "n_layer": 2,
    "n_head": 4,
    "n_kv_head": 2,
    "head_dim": 0,
    "n_embd": 32,
    "n_inner": 48,
    "norm": "rmsnorm",
    "norm_eps": 1e-5,
    "positions": "rope",
    "rope_base": 10_000.0,
    "rope_scaling": {
        "kind": "none",
        "factor": 1.0,
        "original_block_size": 8192,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
    },
    "feed_forward": "swiglu",
    "attention": "full",
    "window": 0,
    "qk_norm": False,
    "attention_softcap": 0.0,
    "logit_softcap": 0.0,
    "bias": False,
    "dropout": 0.0,
    "tie_embeddings": True,
}
GPT2 = {
    "n_kv_head": 4,
    "norm": "layernorm",
    "positions": "learned",
    "feed_forward": "gelu",
    "bias": True,
}
LSTM = {"kind": "lstm"}
QWEN3 = {"qk_norm": True, "head_dim": 16}


def shape(**changes: Any) -> ModelConfig:
    """Two layers, four query heads on two key/value heads, width 32, 64 positions."""
    return ModelConfig.model_validate(LLAMA | changes)
