"""The whole of params.yaml as one type: validation, the flows' form, presets."""

from pathlib import Path
from typing import Self

from pydantic import Field, model_validator

from llm.config.align import (
    DpoConfig,
    InstructionsConfig,
    PreferencesConfig,
    RewardConfig,
    SftConfig,
)
from llm.config.base import Section, read_yaml, validate
from llm.config.corpus import (
    DecontaminateConfig,
    DedupConfig,
    ExtractConfig,
    FilterConfig,
    GatherConfig,
)
from llm.config.evaluation import BenchmarkConfig, JudgeConfig
from llm.config.model import ModelConfig
from llm.config.paths import Paths
from llm.config.registry import RegisterConfig, ReportConfig
from llm.config.tokenizer import TokenizeConfig, TokenizerConfig
from llm.config.train import LaunchConfig, PretrainConfig


class Params(Section):
    """Every value that can change a result; one section per stage, and those they share."""

    paths: Paths
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

    @model_validator(mode="after")
    def _check_batches(self) -> Self:
        """Rules that span sections."""
        ranks = self.launch.nproc_per_node
        unit = ranks * self.pretrain.micro_batch_size * self.model.block_size
        given = self.pretrain.batch_tokens
        if given % unit:
            raise ValueError(
                f"pretrain.batch_tokens={given} is not a multiple of {unit} ({ranks} ranks x "
                f"{self.pretrain.micro_batch_size} sequences x {self.model.block_size} tokens); "
                f"nearest: {max(unit, round(given / unit) * unit)}"
            )
        if self.pretrain.max_tokens < given:
            raise ValueError(
                f"pretrain.max_tokens={self.pretrain.max_tokens} must be at least one step, "
                f"pretrain.batch_tokens={given}"
            )
        for name, size in (
            ("sft.batch_sequences", self.sft.batch_sequences),
            ("reward.batch_pairs", self.reward.batch_pairs),
            ("dpo.batch_pairs", self.dpo.batch_pairs),
        ):
            section = getattr(self, name.split(".")[0])
            unit = ranks * section.micro_batch_size
            if size % unit:
                raise ValueError(
                    f"{name}={size} is not a multiple of {unit} ({ranks} ranks x "
                    f"micro_batch_size {section.micro_batch_size}); "
                    f"nearest: {max(unit, round(size / unit) * unit)}"
                )
        return self


def load_params(path: Path) -> Params:
    """A whole params.yaml; ConfigError lists every error at once."""
    return validate(Params, read_yaml(path), "")
