"""The network that trainers are compared by, and its first weights."""

from torch import Tensor

from llm.config.model import ModelConfig
from llm.model.architecture import UNSCALED
from llm.model.transformer import LanguageModel, initialise

VOCAB_SIZE = 8192
N_SEQUENCES = 16
GPT2_SHAPE = ModelConfig(
    depth=None,
    kind="transformer",
    block_size=256,
    n_layer=6,
    n_head=6,
    n_kv_head=6,
    head_dim=0,
    n_embd=384,
    n_inner=1536,
    norm="layernorm",
    norm_eps=1e-5,
    positions="learned",
    rope_base=10_000.0,
    rope_scaling=UNSCALED,
    feed_forward="gelu",
    attention="full",
    window=0,
    qk_norm=False,
    attention_softcap=0.0,
    logit_softcap=0.0,
    bias=True,
    dropout=0.0,
    tie_embeddings=True,
)


def gpt2_weights() -> dict[str, Tensor]:
    """GPT-2's initialisation from a fixed seed, under our names."""
    model = LanguageModel(GPT2_SHAPE, VOCAB_SIZE)
    initialise(model, 1)
    return model.state_dict()
