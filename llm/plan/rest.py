"""How long the stages that train nothing take, about, on two cores."""

from collections.abc import Mapping

from llm.config.params import Params
from llm.plan.speed import Speed
from llm.plan.work import work

# As measured on two cores of a server: a stage's process, dvc's bookkeeping included, and a
# megabyte of text, from gathering to tokens.
STAGE_S, CORPUS_S_PER_MB, CORPUS_STAGES = 3.2, 1.2, 7
ANSWERED_FRAC = 0.5  # of max_new_tokens, before an answer ends
TOKEN_FRAC = 2.5  # of what a token of a training step takes: a generated one, of small networks
HARNESS_S = 5.0  # lm-eval itself


def rest_seconds(
    params: Params, speed: Speed | None, text_bytes: int | None
) -> Mapping[str, float | None]:
    """By group of stages; None where nothing is known. `speed` is that of sft's steps."""
    corpus = None if text_bytes is None else text_bytes / 1e6 * CORPUS_S_PER_MB
    preferences, benchmark, judge = params.preferences, params.benchmark, params.judge
    asked = sum(task.startswith("docs_") for task in benchmark.tasks) * benchmark.limit
    tokens = {
        "preferences": preferences.prompts
        * preferences.samples_per_prompt
        * preferences.sampling.max_new_tokens,
        "benchmark": 3 * asked * benchmark.max_new_tokens,  # of base, sft and dpo
        "judge": 2 * judge.prompts * judge.sampling.max_new_tokens,
    }
    made = None
    if speed is not None:
        sft = work(params, "sft")
        token_s = speed.step_s / (sft.tokens / sft.steps)
        made = {name: ANSWERED_FRAC * n * token_s * TOKEN_FRAC for name, n in tokens.items()}
        made["benchmark"] += HARNESS_S
    return {
        "corpus": None if corpus is None else CORPUS_STAGES * STAGE_S + corpus,
        "instructions": STAGE_S + 2,
        **{name: None if made is None else STAGE_S + made[name] for name in tokens},
        "report, register": 2 * STAGE_S + 6,
    }
