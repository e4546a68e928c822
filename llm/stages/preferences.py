"""Stage preferences: pair the reference answer with a wrong one that the sft model gave.

Reads    models/sft          the model that is sampled
         data/instructions   train.jsonl
         data/decontaminate  heldout, items.parquet: what extra pairs must not hold
         preferences.extra   JSONL pairs, UltraFeedback or HH rows, for training
Writes   data/preferences    train.jsonl, test.jsonl: prompt, chosen, rejected, source, kind;
                             contamination.parquet: document_id (file:number), set, item_id, ngram
Metrics  prompts, sampled_correct_frac, pairs per split and kind, extra pairs read, contaminated
         and dropped (as section decontaminate has it for documents), and the sft model's own
         margin: log-probability of chosen minus rejected (nats), and the share where it is negative
"""

import hashlib
import logging
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

from llm.align.dpo import reference_logps
from llm.config.align import PreferencesConfig
from llm.config.corpus import DecontaminateConfig
from llm.corpus.contamination import write_hits
from llm.data.conversations import Conversation, is_checkable, is_correct, read_conversations
from llm.data.extra import without_contaminated
from llm.data.pairs import Pair, encode_pairs, read_pairs, write_pairs
from llm.errors import DataError
from llm.files import write_dir
from llm.inference.engine import Engine
from llm.process import Context, main, warn_of_unwatched

BATCH_SIZE = 64  # sequences per forward; changes no answer

logger = logging.getLogger(__name__)


def run(
    ctx: Context, *, preferences: PreferencesConfig, decontaminate: DecontaminateConfig
) -> dict[str, Any]:
    """Sample, check, pair, split by prompt."""
    warn_of_unwatched(ctx, preferences.extra)
    files = {name: read_pairs(Path(name)) for name in preferences.extra}
    extra = without_contaminated(files, ctx.paths.stage("decontaminate"), decontaminate)
    engine = Engine.load(ctx.paths.model("sft"))
    conversations = choose(
        read_conversations(ctx.paths.stage("instructions") / "train.jsonl"), preferences
    )
    samples = sample(engine, conversations, preferences)
    train: list[Pair] = list(extra.rows)
    test: list[Pair] = []
    for conversation, answers in zip(conversations, samples, strict=True):
        if pair := pair_of(conversation, answers):
            held_out = share(conversation.id, preferences.seed) < preferences.test_frac
            (test if held_out else train).append(pair)
    if not train or not test:
        raise DataError(
            f"{len(train)} training and {len(test)} test pairs came of {len(conversations)} prompts: "
            "the sft model answers nearly all of them right; raise preferences.prompts, "
            "preferences.samples_per_prompt or preferences.sampling.temperature"
        )
    with write_dir(ctx.out) as folder:
        write_pairs(folder / "train.jsonl", train)
        write_pairs(folder / "test.jsonl", test)
        write_hits(folder, extra.hits)
    answers_checked = [
        is_correct(conversation.kind, conversation.reference, answer)
        for conversation, answers in zip(conversations, samples, strict=True)
        for answer in answers
    ]
    return {
        "prompts": len(conversations),
        "sampled_correct_frac": sum(answers_checked) / len(answers_checked),
        "train": {"pairs": len(train), **_by_kind(train)},
        "test": {"pairs": len(test), **_by_kind(test)},
        "extra": extra.counts,
        **margins(engine, [*train, *test]),
    }


def choose(conversations: list[Conversation], config: PreferencesConfig) -> list[Conversation]:
    """Checkable conversations, as many of each kind as there are to have, up to `prompts` in all."""
    queues: dict[str, list[Conversation]] = defaultdict(list)
    for conversation in conversations:
        if is_checkable(conversation.kind):
            queues[conversation.kind].append(conversation)
    chosen: list[Conversation] = []
    for rank in range(max(map(len, queues.values()), default=0)):
        for kind in sorted(queues):
            if rank < len(queues[kind]) and len(chosen) < config.prompts:
                chosen.append(queues[kind][rank])
    if not chosen:
        raise DataError("data/instructions/train.jsonl holds no conversation that can be checked")
    return chosen


def sample(
    engine: Engine, conversations: list[Conversation], config: PreferencesConfig
) -> list[list[str]]:
    """`samples_per_prompt` answers to each conversation."""
    n = config.samples_per_prompt
    prompts = [conversation.prompt for conversation in conversations for _ in range(n)]
    started, answers = time.monotonic(), []
    chunk = 8 * BATCH_SIZE
    for start in range(0, len(prompts), chunk):
        part = prompts[start : start + chunk]
        answers += engine.answer(part, config.sampling, config.seed + start, BATCH_SIZE)
        rate = len(answers) / (time.monotonic() - started)
        logger.info("preferences  %d/%d answers  %.0f/s", len(answers), len(prompts), rate)
    return [answers[i : i + n] for i in range(0, len(answers), n)]


def pair_of(conversation: Conversation, answers: list[str]) -> Pair | None:
    """The reference against the first wrong answer; None when all are right."""
    kind, reference = conversation.kind, conversation.reference
    wrong = [answer for answer in answers if not is_correct(kind, reference, answer)]
    if not wrong:
        return None
    return Pair(conversation.prompt, reference, wrong[0], conversation.source, kind)


def share(item_id: str, seed: int) -> float:
    """A number in [0, 1) that depends on the id and the seed alone."""
    digest = hashlib.sha256(f"{seed}:{item_id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def margins(engine: Engine, pairs: list[Pair]) -> dict[str, float]:
    """How far the sft model itself prefers the chosen answers, in nats per pair."""
    encoded = encode_pairs(pairs, engine.tokenizer, engine.block_size)
    scored = reference_logps(engine.model, encoded, BATCH_SIZE, engine.device)
    values = [item.ref_chosen - item.ref_rejected for item in scored]
    return {
        "margin_mean_nats": sum(values) / len(values),
        "margin_negative_frac": sum(value < 0 for value in values) / len(values),
    }


def _by_kind(pairs: list[Pair]) -> dict[str, int]:
    return dict(sorted(Counter(pair.kind for pair in pairs).items()))


if __name__ == "__main__":
    main("preferences", run, preferences=PreferencesConfig, decontaminate=DecontaminateConfig)
