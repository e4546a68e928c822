"""Stage judge: are dpo's answers better than sft's, and how far can the judge be trusted?

Reads    paths.models/{sft,dpo}                  answer held-out prompts
         paths.models/reward                     the judge, when judge.judge is `reward`
         paths.data/instructions/test.jsonl      held-out prompts
         paths.data/preferences/test.jsonl       held-out pairs, to measure the judge itself
         evals/rubrics/pairwise.md               the judge's instructions, when it is `openai`
Writes   paths.data/judge/verdicts.jsonl         per prompt: both answers, the verdict in each
         order, and dpo's share of the win (null when a verdict could not be parsed)
Metrics  judge.json   win_rate of dpo over sft, ties as half, with a 95 % interval;
         order_flip_rate (pairs whose winner changes with the order); the judge's accuracy on
         held-out pairs with its stderr; exact_agreement (how often it names the answer that
         alone is exactly right); counts, and what was unparsed

Every pair is shown in both orders. Equal answers are a tie and are not shown. The verdicts
of judge `reward` are reproducible, those of an endpoint are not.
"""

import logging
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from evals.judges import Judge, Question, Verdict, Winner, build_judge, endpoint_key
from evals.order import order
from evals.significance import bootstrap_interval, mean_stderr
from llm.config.evaluation import JudgeConfig
from llm.data.conversations import (
    Conversation,
    is_checkable,
    is_correct,
    read_conversations,
)
from llm.data.pairs import Pair, read_pairs
from llm.errors import EvaluationError
from llm.files import write_dir, write_jsonl
from llm.inference.engine import Engine
from llm.process import Context, main

ORDERS = ("sft_first", "dpo_first")
CREDIT: dict[Winner, float | None] = {
    "first": 1.0,
    "second": 0.0,
    "tie": 0.5,
    "unparsed": None,
}

logger = logging.getLogger(__name__)


def run(ctx: Context, *, judge: JudgeConfig) -> dict[str, Any]:
    """Answer, compare, and measure the judge; returns the metrics."""
    if judge.judge == "openai":
        endpoint_key()
    conversations = read_conversations(ctx.paths.stage("instructions") / "test.jsonl")
    chosen = pick_evenly(conversations, judge.prompts, judge.seed)
    pairs = read_pairs(ctx.paths.stage("preferences") / "test.jsonl")
    pairs.sort(key=lambda pair: order(judge.seed, pair.prompt[-1]["content"], pair.rejected))
    answers = {name: _answers(ctx, name, chosen, judge) for name in ("sft", "dpo")}
    built = build_judge(judge, ctx.paths.model("reward"), ctx.work)
    rows = compare(built, chosen, answers["sft"], answers["dpo"])
    own = accuracy(built, pairs[: judge.prompts])
    with write_dir(ctx.out) as out:
        write_jsonl(out / "verdicts.jsonl", ({"judge": judge.judge, **row} for row in rows))
    return summarise(rows, judge.seed) | own


def pick_evenly(conversations: Sequence[Conversation], count: int, seed: int) -> list[Conversation]:
    """At most `count` conversations, taken from the kinds in turn, each kind shuffled by hash."""
    by_kind: dict[str, list[Conversation]] = defaultdict(list)
    for item in sorted(conversations, key=lambda item: order(seed, item.id)):
        by_kind[item.kind].append(item)
    ranked = [
        (rank, kind, item) for kind, items in by_kind.items() for rank, item in enumerate(items)
    ]
    ranked.sort(key=lambda entry: entry[:2])
    return [item for _, _, item in ranked[:count]]


def compare(
    judge: Judge,
    conversations: Sequence[Conversation],
    sft: Sequence[str],
    dpo: Sequence[str],
) -> list[dict[str, Any]]:
    """One row per conversation: the answers, the winner in each order, and dpo's credit."""
    cases = list(zip(conversations, sft, dpo, strict=True))
    shown = [case for case in cases if case[1] != case[2]]
    verdicts = iter(_both_orders(judge, [(item.prompt, a, b) for item, a, b in shown]))
    rows = []
    for item, ours, theirs in cases:
        row = _row(item, ours, theirs)
        if ours != theirs:
            _add_verdicts(row, next(verdicts))
        rows.append(row)
    return rows


def accuracy(judge: Judge, pairs: Sequence[Pair]) -> dict[str, Any]:
    """How often the judge prefers the chosen answer of held-out pairs, ties as half."""
    verdicts = _both_orders(judge, [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs])
    credits = [credit for both in verdicts if (credit := _credit(both)) is not None]
    unparsed = sum(v.winner == "unparsed" for both in verdicts for v in both)
    result: dict[str, Any] = {
        "accuracy_pairs": len(credits),
        "accuracy_unparsed": unparsed,
    }
    if credits:
        mean, stderr = mean_stderr(credits)
        result |= {"accuracy": round(mean, 6), "accuracy_stderr": round(stderr, 6)}
    return result


def summarise(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    """The comparison's figures; a pair counts only when both of its verdicts were parsed."""
    wins = [row["dpo_credit"] for row in rows if row["dpo_credit"] is not None]
    if not wins:
        raise EvaluationError(
            f"none of the judge's {len(rows)} comparisons could be parsed; look at the judge model "
            "(judge.model), or let it reply at more length (judge.reply_tokens)"
        )
    shown = [row for row in rows if "winners" in row]
    parsed = [row for row in shown if row["dpo_credit"] is not None]
    low, high = bootstrap_interval(wins, seed=seed)
    flips = sum(_flipped(row["winners"]) for row in parsed)
    return {
        "pairs": len(rows),
        "judged_pairs": len(wins),
        "identical_pairs": len(rows) - len(shown),
        "unparsed": sum(w == "unparsed" for row in shown for w in row["winners"].values()),
        "win_rate": round(sum(wins) / len(wins), 6),
        "win_rate_low": round(low, 6),
        "win_rate_high": round(high, 6),
        "wins": sum(win > 0.5 for win in wins),
        "ties": sum(win == 0.5 for win in wins),
        "losses": sum(win < 0.5 for win in wins),
        "order_flip_rate": round(flips / len(parsed), 6) if parsed else 0.0,
        **_exact_agreement(parsed),
    }


def _answers(
    ctx: Context, name: str, conversations: Sequence[Conversation], config: JudgeConfig
) -> list[str]:
    engine = Engine.load(ctx.paths.model(name), device=config.device)
    prompts = [list(item.prompt) for item in conversations]
    logger.info("%s answers %d held-out prompts", name, len(prompts))
    return engine.answer(prompts, config.sampling, seed=config.seed, batch_size=config.batch_size)


def _both_orders(
    judge: Judge, cases: Sequence[tuple[Sequence[dict[str, str]], str, str]]
) -> list[tuple[Verdict, Verdict]]:
    """Per (prompt, one, other): the verdict on one-other, and on other-one."""
    questions = [Question(prompt, one, other) for prompt, one, other in cases]
    turned = [Question(prompt, other, one) for prompt, one, other in cases]
    verdicts = judge.compare([*questions, *turned])
    return list(zip(verdicts[: len(cases)], verdicts[len(cases) :], strict=True))


def _credit(both: tuple[Verdict, Verdict]) -> float | None:
    """What the first order shows first gets of the win; None when a verdict is unparsed."""
    ahead, behind = CREDIT[both[0].winner], CREDIT[both[1].winner]
    return None if ahead is None or behind is None else (ahead + 1 - behind) / 2


def _row(item: Conversation, sft: str, dpo: str) -> dict[str, Any]:
    row = {
        "id": item.id,
        "kind": item.kind,
        "prompt": item.prompt[-1]["content"],
        "reference": item.reference,
        "sft": sft,
        "dpo": dpo,
        "dpo_credit": 0.5,
    }
    if is_checkable(item.kind):
        row["sft_correct"] = is_correct(item.kind, item.reference, sft)
        row["dpo_correct"] = is_correct(item.kind, item.reference, dpo)
    return row


def _add_verdicts(row: dict[str, Any], both: tuple[Verdict, Verdict]) -> None:
    credit = _credit(both)
    row["dpo_credit"] = None if credit is None else 1 - credit
    seats = ({"first": "sft", "second": "dpo"}, {"first": "dpo", "second": "sft"})
    row["winners"] = {
        name: seat.get(verdict.winner, verdict.winner)
        for name, seat, verdict in zip(ORDERS, seats, both, strict=True)
    }
    row["replies"] = dict(zip(ORDERS, (verdict.reply for verdict in both), strict=True))


def _flipped(winners: dict[str, str]) -> bool:
    """Whether the two orders name different models."""
    return {*winners.values()} == {"sft", "dpo"}


def _exact_agreement(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Among pairs of which one answer alone is exactly right: dpo's or sft's credit for it."""
    credits = [
        row["dpo_credit"] if row["dpo_correct"] else 1 - row["dpo_credit"]
        for row in rows
        if "dpo_correct" in row and row["dpo_correct"] != row["sft_correct"]
    ]
    result: dict[str, Any] = {"exact_agreement_pairs": len(credits)}
    if credits:
        mean, stderr = mean_stderr(credits)
        result |= {
            "exact_agreement": round(mean, 6),
            "exact_agreement_stderr": round(stderr, 6),
        }
    return result


if __name__ == "__main__":
    main("judge", run, judge=JudgeConfig)
