"""What a published architecture is to us: a config.json, names of weights, and what it can't express."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from llm.config.model import ModelConfig, RopeScaling
from llm.errors import CheckpointError

Weights = Mapping[str, Tensor]

# The values of keys that an architecture has no use for.
UNSCALED = RopeScaling(
    kind="none",
    factor=1.0,
    original_block_size=8192,
    low_freq_factor=1.0,
    high_freq_factor=4.0,
)


@dataclass(frozen=True)
class Architecture:
    """An architecture of transformers: the same network under other names, in both directions."""

    model_type: str
    language: str  # class of the language model
    reward: str  # class of the reward model
    missing: Callable[[ModelConfig], Iterator[str]]  # what of ours it does not have
    to_config: Callable[[ModelConfig], dict[str, Any]]  # its own part of config.json
    from_config: Callable[[Mapping[str, Any]], dict[str, Any]]  # our section `model`
    to_weights: Callable[[Weights], dict[str, Tensor]]
    from_weights: Callable[[Weights], dict[str, Tensor]]

    def obstacles(self, config: ModelConfig) -> list[str]:
        """Every reason why this architecture cannot express the network; none: it can."""
        if config.kind != "transformer":
            return list(differs(config, kind="transformer"))  # its other parts do not matter
        return [*_unpublished(config), *self.missing(config)]


def _unpublished(config: ModelConfig) -> Iterator[str]:
    """What none of our architectures has."""
    if config.attention != "full":
        yield f"attention={config.attention} (full)"
    if config.attention_softcap:
        yield f"attention_softcap={config.attention_softcap} (0)"
    if config.logit_softcap:
        yield f"logit_softcap={config.logit_softcap} (0)"


def differs(config: ModelConfig, **wanted: Any) -> Iterator[str]:
    """Each key whose value is not the wanted one, with both."""
    for key, value in wanted.items():
        if getattr(config, key) != value:
            yield f"{key}={getattr(config, key)} ({value})"


def require(values: Mapping[str, Any], **known: Any) -> None:
    """CheckpointError names every key of a config.json that has another value than the known one."""
    wrong = [
        f"{key}={values[key]!r} (only {value!r} is known)"
        for key, value in known.items()
        if key in values and values[key] != value
    ]
    if wrong:
        raise CheckpointError("; ".join(wrong))
