"""How large a network is and what training it costs, from its section alone: no torch is loaded.

`llm.model.flops` counts the same on the network itself; a test holds the two together.
"""

from llm.config.model import ModelConfig


def parameter_count(config: ModelConfig, vocab_size: int) -> int:
    """Parameters of the language model; a tied output projection counts once."""
    width = config.n_embd
    learned = config.kind == "transformer" and config.positions == "learned"
    embeddings = vocab_size * width + (config.block_size * width if learned else 0)
    head = 0 if config.tie_embeddings else vocab_size * width
    return embeddings + head + block_parameter_count(config) + _norm(config)


def block_parameter_count(config: ModelConfig) -> int:
    """Parameters of all blocks: without embeddings, output projection and last norm."""
    return config.n_layer * (_matrices(config) + _vectors(config))


def block_flops_per_token(config: ModelConfig) -> int:
    """Training FLOPs per token of the blocks: 6 per matrix weight, and attention's 12 T x its width.

    DeepSeek LLM's M (Bi et al. 2024, eq. 2): embedding and output projection do not count.
    """
    attention = 12 * config.attention_width * config.block_size
    return config.n_layer * (
        6 * _matrices(config) + (attention if config.kind == "transformer" else 0)
    )


def flops_per_token(config: ModelConfig, vocab_size: int) -> int:
    """Training FLOPs per token of a full block, as `llm.model.flops` counts them on the network."""
    dense = 6 * (config.n_layer * _matrices(config) + vocab_size * config.n_embd)
    if config.kind == "lstm":
        return dense
    keys = 2 * config.mean_keys(config.block_size) - 1
    return dense + round(12 * config.n_layer * config.attention_width * keys)


def backbone_flops_per_token(config: ModelConfig) -> int:
    """The blocks' matrices alone, as `llm.model.flops` counts alignment."""
    return 6 * config.n_layer * _matrices(config)


def _matrices(config: ModelConfig) -> int:
    """Weights of a block's matrices."""
    width = config.n_embd
    if config.kind == "lstm":
        return 8 * width * width
    kv_width = config.n_kv_head * config.head_width
    attention = 2 * width * (config.attention_width + kv_width)
    return attention + (3 if config.feed_forward == "swiglu" else 2) * width * config.n_inner


def _vectors(config: ModelConfig) -> int:
    """Weights of a block's norms and biases."""
    width = config.n_embd
    if config.kind == "lstm":
        return _norm(config) + 8 * width
    kv_width = config.n_kv_head * config.head_width
    hidden = config.n_inner * (2 if config.feed_forward == "swiglu" else 1)
    biases = config.attention_width + 2 * kv_width + width + hidden + width
    return (
        2 * _norm(config)
        + (2 * config.head_width if config.qk_norm else 0)
        + (biases if config.bias else 0)
    )


def _norm(config: ModelConfig) -> int:
    has_bias = config.norm == "layernorm" and config.bias
    return config.n_embd * (2 if has_bias else 1)
