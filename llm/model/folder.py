"""A model folder is a Hugging Face folder: read and written here, under Hugging Face's names.

`LlamaForCausalLM` for language models, `LlamaForSequenceClassification` with one label for
reward models; both load in transformers as they are, with equal logits.
"""

import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from llm.config.base import validate
from llm.config.model import ModelConfig
from llm.errors import CheckpointError, ConfigError
from llm.files import read_json, write_dir, write_json
from llm.model.transformer import LanguageModel, RewardModel
from llm.tokenizer.load import Tokenizer

WEIGHTS = "model.safetensors"
LANGUAGE, REWARD = "LlamaForCausalLM", "LlamaForSequenceClassification"

# Our name -> Hugging Face's, applied in this order.
RENAMES = (
    ("backbone.embed.", "model.embed_tokens."),
    ("backbone.norm.", "model.norm."),
    ("backbone.blocks.", "model.layers."),
    (".norm_1.", ".input_layernorm."),
    (".norm_2.", ".post_attention_layernorm."),
    (".attn.out.", ".self_attn.o_proj."),
    (".attn.", ".self_attn."),
    (".self_attn.q.", ".self_attn.q_proj."),
    (".self_attn.k.", ".self_attn.k_proj."),
    (".self_attn.v.", ".self_attn.v_proj."),
    (".mlp.gate.", ".mlp.gate_proj."),
    (".mlp.up.", ".mlp.up_proj."),
    (".mlp.down.", ".mlp.down_proj."),
    ("head.", "lm_head."),
)


def save_model(folder: Path, model: LanguageModel | RewardModel, tokenizer: Tokenizer) -> None:
    """Write the folder at once or not at all; tied weights are written once."""
    with write_dir(folder) as partial:
        write_json(partial / "config.json", hf_config(model, tokenizer))
        weights = {hf_name(name): value for name, value in model.state_dict().items()}
        if model.config.tie_embeddings:
            weights.pop("lm_head.weight", None)
        contiguous = {name: value.detach().cpu().contiguous() for name, value in weights.items()}
        save_file(contiguous, partial / WEIGHTS, metadata={"format": "pt"})
        tokenizer.save(partial, model.config.block_size)
        if isinstance(model, LanguageModel):
            ids = {"bos_token_id": tokenizer.bos_id, "pad_token_id": tokenizer.pad_id}
            stops = {"eos_token_id": list(tokenizer.stop_ids)}
            write_json(partial / "generation_config.json", ids | stops)


def load_language_model(folder: Path) -> LanguageModel:
    """The language model in a Hugging Face Llama folder, fp32 on the CPU."""
    config, vocab_size = read_config(folder, LANGUAGE)
    model = LanguageModel(config, vocab_size)
    _load_weights(model, folder)
    return model


def load_reward_model(folder: Path) -> RewardModel:
    """The reward model in a folder that the reward stage wrote, fp32 on the CPU."""
    config, vocab_size = read_config(folder, REWARD)
    model = RewardModel(config, vocab_size)
    _load_weights(model, folder)
    return model


def hf_name(name: str) -> str:
    """Hugging Face's name of one of our parameters."""
    for ours, theirs in RENAMES:
        name = (
            re.sub(rf"^{re.escape(ours)}", theirs, name)
            if ours == "head."
            else name.replace(ours, theirs)
        )
    return name


def hf_config(model: LanguageModel | RewardModel, tokenizer: Tokenizer) -> dict[str, Any]:
    """config.json as transformers' LlamaConfig reads it."""
    config, is_reward = model.config, isinstance(model, RewardModel)
    return {
        "architectures": [REWARD if is_reward else LANGUAGE],
        "model_type": "llama",
        "vocab_size": model.vocab_size,
        "max_position_embeddings": config.block_size,
        "num_hidden_layers": config.n_layer,
        "num_attention_heads": config.n_head,
        "num_key_value_heads": config.n_kv_head,
        "head_dim": config.head_dim,
        "hidden_size": config.n_embd,
        "intermediate_size": config.n_inner,
        "hidden_act": "silu",
        "rope_theta": config.rope_base,
        "rms_norm_eps": config.norm_eps,
        "tie_word_embeddings": config.tie_embeddings,
        "attention_bias": False,
        "mlp_bias": False,
        "bos_token_id": tokenizer.bos_id,
        "eos_token_id": tokenizer.end_id,
        "pad_token_id": tokenizer.pad_id,
        "torch_dtype": "float32",
    } | (
        {"num_labels": 1, "id2label": {"0": "score"}, "label2id": {"score": 0}} if is_reward else {}
    )


def read_config(folder: Path, architecture: str) -> tuple[ModelConfig, int]:
    """Our shape and the vocabulary size from a config.json; CheckpointError when it is not ours to load."""
    if not (folder / "config.json").is_file():
        raise CheckpointError(f"{folder} is not a model folder: it has no config.json")
    values = read_json(folder / "config.json")
    found = (values.get("architectures") or ["nothing"])[0]
    if found != architecture:
        raise CheckpointError(f"{folder}: architecture {found} where {architecture} is needed")
    rope = values.get("rope_parameters") or {}
    scaling = (values.get("rope_scaling") or rope).get("rope_type", "default")
    activation = values.get("hidden_act", "silu")
    if (scaling, activation) != ("default", "silu"):
        raise CheckpointError(
            f"{folder}: rope_type={scaling} and hidden_act={activation}; only default and silu are known"
        )
    shape = {
        "block_size": values.get("max_position_embeddings"),
        "n_layer": values.get("num_hidden_layers"),
        "n_head": values.get("num_attention_heads"),
        "n_kv_head": values.get("num_key_value_heads", values.get("num_attention_heads")),
        "n_embd": values.get("hidden_size"),
        "n_inner": values.get("intermediate_size"),
        "rope_base": float(values.get("rope_theta", rope.get("rope_theta", 10_000.0))),
        "norm_eps": values.get("rms_norm_eps"),
        "tie_embeddings": values.get("tie_word_embeddings", False),
    }
    try:
        return validate(ModelConfig, shape, ""), int(values["vocab_size"])
    except (ConfigError, KeyError) as error:
        raise CheckpointError(f"{folder}/config.json: {error}") from None


def _load_weights(model: LanguageModel | RewardModel, folder: Path) -> None:
    """Fill every parameter; CheckpointError names what is missing, left over or of another shape."""
    try:
        found: dict[str, Tensor] = load_file(folder / WEIGHTS)
    except (FileNotFoundError, SafetensorError, json.JSONDecodeError) as error:
        raise CheckpointError(f"{folder / WEIGHTS} cannot be read: {error}") from None
    if model.config.tie_embeddings and isinstance(model, LanguageModel):
        found.setdefault("lm_head.weight", found.get("model.embed_tokens.weight", torch.empty(0)))
    ours = {hf_name(name): name for name in model.state_dict()}
    if wrong := sorted(set(ours) ^ set(found)):
        raise CheckpointError(f"{folder / WEIGHTS}: missing or unknown tensors: {', '.join(wrong)}")
    try:
        model.load_state_dict({ours[name]: value.float() for name, value in found.items()})
    except RuntimeError as error:
        raise CheckpointError(f"{folder / WEIGHTS} does not fit its config.json: {error}") from None


def reward_from_language(model: LanguageModel) -> RewardModel:
    """A reward model with the language model's backbone and a zero head: every score starts at 0."""
    reward = RewardModel(model.config, model.vocab_size)
    reward.backbone.load_state_dict(model.backbone.state_dict())
    nn.init.zeros_(reward.score.weight)
    return reward
