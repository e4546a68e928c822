"""Judges: which of two answers to a prompt is better.

A judge is asked about a list of questions and gives one verdict for each, in order. What
it says that cannot be understood is `unparsed`, and is never counted for either side.
"""

import hashlib
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Literal, Protocol

from llm.align.reward import RewardScorer
from llm.config.evaluation import JudgeConfig
from llm.errors import ConfigError, EvaluationError, UnreachableError
from llm.files import read_jsonl, read_text
from llm.tokenizer.chat import Message

RUBRIC = Path(__file__).parent / "rubrics" / "pairwise.md"
API_KEY = "OPENAI_API_KEY"

Winner = Literal["first", "second", "tie", "unparsed"]
WINNERS: dict[str, Winner] = {"A": "first", "B": "second", "tie": "tie"}


@dataclass(frozen=True)
class Question:
    """Two answers to one prompt, in the order the judge sees them."""

    prompt: Sequence[Message]
    first: str
    second: str


@dataclass(frozen=True)
class Verdict:
    """What the judge decided, and what it said."""

    winner: Winner
    reply: str


class Judge(Protocol):
    def compare(self, questions: Sequence[Question]) -> list[Verdict]:
        """One verdict per question, in order."""
        ...


class RewardJudge:
    """The higher score of the pipeline's reward model wins.

    Each distinct answer is scored once and by itself, so the order of a pair cannot matter
    and equal answers are always a tie.
    """

    def __init__(self, scorer: RewardScorer, batch_size: int) -> None:
        self.scorer = scorer
        self.batch_size = batch_size

    def compare(self, questions: Sequence[Question]) -> list[Verdict]:
        answers: dict[str, list[Message]] = {}
        for question in questions:
            for answer in (question.first, question.second):
                conversation = [*question.prompt, {"role": "assistant", "content": answer}]
                answers.setdefault(json.dumps(conversation), conversation)
        scores = self.scorer.score(list(answers.values()), batch_size=self.batch_size)
        score_of = dict(zip(answers, scores, strict=True))
        return [_verdict(question, score_of) for question in questions]


class EndpointJudge:
    """A model behind an OpenAI-compatible endpoint, asked with the rubric at temperature 0.

    Replies are kept in `folder` as they come, so that a killed stage does not pay twice.
    An endpoint need not say the same thing twice: its verdicts are not reproducible.
    """

    def __init__(self, config: JudgeConfig, folder: Path) -> None:
        import openai  # half a second, which the other judge does without

        self.config = config
        self.system, _, self.form = read_text(RUBRIC).partition("\n---\n")
        self.client = openai.OpenAI(
            base_url=config.base_url,
            api_key=endpoint_key(),
            timeout=config.timeout_s,
            max_retries=config.retries,
        )
        self.replies = folder / "replies.jsonl"

    def compare(self, questions: Sequence[Question]) -> list[Verdict]:
        messages = {self._key(question): self._messages(question) for question in questions}
        known = dict(self._read_replies())
        waiting = [key for key in messages if key not in known]
        self.replies.parent.mkdir(parents=True, exist_ok=True)
        with (
            self.replies.open("a", encoding="utf-8") as file,
            ThreadPoolExecutor(self.config.concurrency) as pool,
        ):
            replies = pool.map(lambda key: self._ask(messages[key]), waiting)
            for key, reply in zip(waiting, replies, strict=True):
                known[key] = reply
                file.write(json.dumps({"key": key, "reply": reply}) + "\n")
                file.flush()
        keys = [self._key(question) for question in questions]
        return [Verdict(parse_verdict(known[key]), known[key]) for key in keys]

    def _ask(self, messages: list[Message]) -> str:
        import openai

        # a timeout is the first of these
        passing = (openai.APIConnectionError, openai.InternalServerError, openai.RateLimitError)
        try:
            completion = self.client.chat.completions.create(
                model=self.config.model,
                messages=messages,  # pyright: ignore[reportArgumentType]
                temperature=0.0,
                max_tokens=self.config.reply_tokens,
            )
        except openai.OpenAIError as error:
            kind = UnreachableError if isinstance(error, passing) else EvaluationError
            raise kind(
                f"judge.base_url={self.config.base_url}, judge.model={self.config.model}: {error} "
                f"(after {self.config.retries} retries); is the endpoint up, and does it know the "
                f"key in {API_KEY}?"
            ) from None
        return completion.choices[0].message.content or ""

    def _messages(self, question: Question) -> list[Message]:
        turns = question.prompt
        asked = "\n\n".join(f"{turn['role']}: {turn['content']}" for turn in turns)
        form = Template(self.form).substitute(
            question=turns[0]["content"] if len(turns) == 1 else asked,
            first=question.first,
            second=question.second,
        )
        return [
            {"role": "system", "content": self.system},
            {"role": "user", "content": form},
        ]

    def _key(self, question: Question) -> str:
        asked = [self.config.model, self.config.reply_tokens, self._messages(question)]
        return hashlib.sha256(json.dumps(asked).encode()).hexdigest()

    def _read_replies(self) -> Iterator[tuple[str, str]]:
        """Replies of an earlier attempt; a last line that a kill cut short is asked again."""
        if not self.replies.exists():
            return
        whole, _, _ = self.replies.read_text(encoding="utf-8").rpartition("\n")
        self.replies.write_text(whole + "\n" if whole else "", encoding="utf-8")
        for row in read_jsonl(self.replies, ("key", "reply")):
            yield row["key"], row["reply"]


def build_judge(config: JudgeConfig, reward: Path, folder: Path) -> Judge:
    """The configured judge; `reward` is the reward model, `folder` keeps work in progress."""
    if config.judge == "openai":
        return EndpointJudge(config, folder)
    return RewardJudge(RewardScorer.load(reward, device=config.device), config.batch_size)


def endpoint_key() -> str:
    """The endpoint's key from the environment; ConfigError when there is none."""
    if key := os.environ.get(API_KEY):
        return key
    raise ConfigError(
        f"judge.judge=openai needs the endpoint's key in the environment: export {API_KEY}=… "
        "(any value for an endpoint that asks for none), or set judge.judge to reward"
    )


def parse_verdict(reply: str) -> Winner:
    """The verdict in a reply: one JSON object with "verdict" A, B or tie; all else is unparsed.

    Prose or a code fence around the object is allowed; two objects that disagree are not.
    """
    winners = map(_winner, re.findall(r"\{[^{}]*\}", reply))
    found: set[Winner] = {winner for winner in winners if winner}
    return found.pop() if len(found) == 1 else "unparsed"


def _winner(text: str) -> Winner | None:
    try:
        value = json.loads(text).get("verdict")
    except json.JSONDecodeError:
        return None
    return WINNERS.get(value, "unparsed") if isinstance(value, str) else "unparsed"


def _verdict(question: Question, scores: dict[str, float]) -> Verdict:
    first, second = (
        scores[json.dumps([*question.prompt, {"role": "assistant", "content": answer}])]
        for answer in (question.first, question.second)
    )
    winner: Winner = "tie" if first == second else "first" if first > second else "second"
    return Verdict(winner, f"{first:.4f} {second:.4f}")
