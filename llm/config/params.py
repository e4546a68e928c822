"""The whole of params.yaml as one type: validation, the flows' form, presets."""

import typing
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Self

from pydantic import Field, model_validator

from llm.config.align import (
    DpoConfig,
    InstructionsConfig,
    Kind,
    PreferencesConfig,
    RewardConfig,
    SftConfig,
)
from llm.config.base import Section, read_yaml, validate
from llm.config.cluster import ClusterConfig
from llm.config.corpus import (
    DecontaminateConfig,
    DedupConfig,
    ExtractConfig,
    GatherConfig,
)
from llm.config.depth import refusal
from llm.config.evaluation import BenchmarkConfig, JudgeConfig
from llm.config.filter import FilterConfig
from llm.config.model import ModelConfig
from llm.config.paths import Paths
from llm.config.promote import PromoteConfig
from llm.config.registry import RegisterConfig, ReportConfig
from llm.config.tokenizer import TokenizeConfig, TokenizerConfig
from llm.config.train import LaunchConfig, PretrainConfig
from llm.errors import ConfigError

TRAINING = ("pretrain", "sft", "reward", "dpo")
PARAMS = Path("params.yaml")  # in the project's root, where every command runs


class Params(Section):
    """Every value that can change a result; one section per stage, and those they share."""

    paths: Paths
    cluster: ClusterConfig
    launch: LaunchConfig
    gather: GatherConfig
    extract: ExtractConfig
    filter: FilterConfig
    dedup: DedupConfig
    decontaminate: DecontaminateConfig
    tokenizer: TokenizerConfig
    tokenize: TokenizeConfig
    model: ModelConfig
    pretrain: PretrainConfig
    instructions: InstructionsConfig
    sft: SftConfig
    preferences: PreferencesConfig
    reward: RewardConfig
    dpo: DpoConfig
    benchmark: BenchmarkConfig
    judge: JudgeConfig
    report: ReportConfig
    register_: RegisterConfig = Field(alias="register")  # BaseModel.register is taken
    promote: PromoteConfig

    @model_validator(mode="after")
    def _check_across_sections(self) -> Self:
        """Rules that span sections, all broken ones at once."""
        broken = [*self._batch_errors(), *self._length_errors(), *self._task_errors()]
        broken += [*self._start_errors(), *self._weight_errors()]
        broken += [*self._recurrent_errors(), *self._parallel_errors()]
        if broken:
            raise ValueError("\n".join(broken))
        return self

    def _batch_errors(self) -> Iterator[str]:
        """A step is a whole number of micro-batches on every rank."""
        ranks, block_size = self.launch.data_ranks, self.model.block_size
        all_ranks = "1 rank" if ranks == 1 else f"{ranks} ranks"
        unit = ranks * self.pretrain.micro_batch_size * block_size
        given = self.pretrain.batch_tokens
        if given % unit:
            yield (
                f"pretrain.batch_tokens={given} is not a multiple of {unit} ({all_ranks} x "
                f"{self.pretrain.micro_batch_size} sequences x {block_size} tokens); "
                f"nearest: {max(unit, round(given / unit) * unit)}"
            )
        if self.pretrain.max_tokens < given:
            yield (
                f"pretrain.max_tokens={self.pretrain.max_tokens} must be at least one step, "
                f"pretrain.batch_tokens={given}"
            )
        for name, size, micro in (
            ("sft.batch_sequences", self.sft.batch_sequences, self.sft.micro_batch_size),
            ("reward.batch_pairs", self.reward.batch_pairs, self.reward.micro_batch_size),
            ("dpo.batch_pairs", self.dpo.batch_pairs, self.dpo.micro_batch_size),
        ):
            unit = ranks * micro
            if size % unit:
                yield (
                    f"{name}={size} is not a multiple of {unit} ({all_ranks} x "
                    f"micro_batch_size {micro}); nearest: {max(unit, round(size / unit) * unit)}"
                )

    def _length_errors(self) -> Iterator[str]:
        """What is generated leaves room for a prompt."""
        for name, tokens in (
            ("pretrain.samples.sampling", self.pretrain.samples.sampling.max_new_tokens),
            ("sft.samples.sampling", self.sft.samples.sampling.max_new_tokens),
            ("dpo.samples.sampling", self.dpo.samples.sampling.max_new_tokens),
            ("preferences.sampling", self.preferences.sampling.max_new_tokens),
            ("benchmark", self.benchmark.max_new_tokens),
            ("judge.sampling", self.judge.sampling.max_new_tokens),
            ("report.sampling", self.report.sampling.max_new_tokens),
            ("promote.safety", self.promote.safety.max_new_tokens),
        ):
            if tokens >= self.model.block_size:
                yield (
                    f"{name}.max_new_tokens={tokens} must be less than "
                    f"model.block_size={self.model.block_size}"
                )

    def _recurrent_errors(self) -> Iterator[str]:
        """What there is for a transformer alone."""
        if self.model.kind != "lstm":
            return
        if self.launch.parallel == "tensor":
            yield (
                "launch.parallel=tensor shares out attention's heads and hidden features, and "
                "model.kind=lstm has neither; use ddp or fsdp"
            )
        for name in TRAINING:
            if (precision := getattr(self, name).precision) in ("float8", "bf16_weights"):
                yield (
                    f"{name}.precision={precision} is for the matrices of a transformer's blocks, "
                    "which model.kind=lstm has none of; use bf16"
                )

    def _parallel_errors(self) -> Iterator[str]:
        """What a way of sharing out the model cannot compute as one process would."""
        parallel, group = self.launch.parallel, self.launch.group_ranks
        for name in TRAINING:
            if parallel != "ddp" and getattr(self, name).precision == "fp16":
                yield (
                    f"{name}.precision=fp16 needs launch.parallel=ddp, not {parallel}: its loss "
                    "scaling does not see the other processes' parts; use bf16"
                )
        if parallel != "tensor" or self.model.kind == "lstm":
            return
        for key in ("n_head", "n_kv_head", "n_inner"):
            if getattr(self.model, key) % group:
                yield (
                    f"model.{key}={getattr(self.model, key)} must be a multiple of "
                    f"launch.group_ranks={group}, over which parallel=tensor shares it out"
                )
        if self.model.dropout:
            yield (
                f"model.dropout={self.model.dropout} needs another launch.parallel than tensor, "
                "whose processes would all drop the same of their heads; set it to 0"
            )
        for name in ("pretrain", "sft", "dpo"):
            if interval := getattr(self, name).samples.interval:
                yield (
                    f"{name}.samples.interval={interval} needs another launch.parallel than "
                    "tensor, whose processes have no whole cache; set it to 0"
                )

    def _start_errors(self) -> Iterator[str]:
        """Published weights come with their own tokenizer."""
        start, tokenizer = self.pretrain.init_from, self.tokenizer.init_from
        if start and start != tokenizer:
            yield (
                f"pretrain.init_from={start!r} needs its own tokenizer, but tokenizer.init_from="
                f"{tokenizer!r}; set both to the same folder"
            )
        if start and self.model.depth is not None:
            yield (
                f"model.depth={self.model.depth} would shape the network, whose shape is that of "
                f"pretrain.init_from={start!r}; `llm depth off`"
            )

    def _weight_errors(self) -> Iterator[str]:
        """A weight is of a source that is gathered."""
        names = [source.name for source in self.gather.sources]
        for each in self.tokenize.weights:
            if each.source not in names:
                yield (
                    f"tokenize.weights: {each.source!r} is not among gather.sources: "
                    f"{', '.join(names)}"
                )

    def _task_errors(self) -> Iterator[str]:
        """A benchmark task about a kind of question has questions of that kind."""
        for kind in typing.get_args(Kind):
            if f"docs_{kind}" in self.benchmark.tasks and kind not in self.instructions.kinds:
                yield f"benchmark.tasks has docs_{kind}, but instructions.kinds has no {kind!r}"


def checked(values: Mapping[str, Any]) -> Params:
    """Values as params; ConfigError lists every error at once, or says that the depth disagrees."""
    params = validate(Params, values, "")
    if wrong := refusal(values):
        raise ConfigError(wrong)
    return params


def load_params(path: Path) -> Params:
    """A whole params.yaml, checked."""
    return checked(read_yaml(path))
