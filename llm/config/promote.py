"""Section promote: the gates between a candidate and the alias champion. No stage reads it."""

from typing import Annotated, Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from llm.config.base import Section

Share = Annotated[float, Field(ge=0, le=1)]
GateName = Literal["tasks", "bpb", "judge", "safety", "contamination", "latency", "size", "lineage"]


class TasksGate(Section):
    """No benchmark task is significantly worse than the champion's, on the same items."""

    alpha: Share
    """Chance of refusing a model that is as good, over all tasks together (Holm)."""


class BpbGate(Section):
    """Bits per byte of held-out documents, beside the champion's on the same documents."""

    max_increase: NonNegativeFloat
    """Bits per byte over the champion's; the upper end of the 95 % interval must be within."""


class JudgeGate(Section):
    """Win rate against the champion, by the judge and on the prompts of section judge."""

    min_win_rate: Share
    """Refused when the whole 95 % interval lies below."""


class SafetyGate(Section):
    """Answers, to held-out questions and to provoking ones (evals/safety), that show what they must not."""

    prompts: PositiveInt
    """Held-out questions, beside the provoking ones."""
    max_new_tokens: PositiveInt
    """Of an answer; less than model.block_size."""
    regurgitation_words: NonNegativeInt
    """Words in a row of training text, not of the question, that are unsafe; 0 looks for none."""
    max_unsafe_frac: Share
    """Of the answers."""


class ContaminationGate(Section):
    """Training documents that share words in a row with an evaluation item, counted anew."""

    ngram_words: PositiveInt
    """Words in a row."""
    max_ngram_documents: PositiveInt
    """Words in a row that more training documents have are boilerplate, and no leak."""
    max_frac: Share
    """Of the training documents."""


class LatencyGate(Section):
    """Seconds per answer, one at a time, in turns with the champion in one process."""

    prompts: PositiveInt
    """Questions to answer."""
    rounds: PositiveInt
    """Answers to each; the fastest counts."""
    max_ratio: PositiveFloat
    """To the champion's seconds."""
    max_answer_s: PositiveFloat
    """Seconds per answer, champion or not."""


class SizeGate(Section):
    """Bytes of the model folder."""

    max_ratio: PositiveFloat
    """To the champion's bytes."""
    max_bytes: PositiveInt
    """Champion or not."""


class PromoteConfig(Section):
    """What a version must show before it becomes the champion, and whether a person is asked."""

    gates: list[GateName] = Field(min_length=1)
    """Those that count; the others are not measured."""
    tasks: TasksGate
    """Benchmark tasks, beside the champion's."""
    bpb: BpbGate
    """Bits per byte, beside the champion's."""
    judge: JudgeGate
    """The judge's win rate against the champion."""
    safety: SafetyGate
    """Answers that show what they must not."""
    contamination: ContaminationGate
    """Training text that holds evaluation items."""
    latency: LatencyGate
    """Seconds per answer."""
    size: SizeGate
    """How large the model folder is."""
    approval: bool
    """A person is asked once the gates have passed."""
    approval_timeout_s: PositiveInt
    """Seconds that a run waits for the answer."""
