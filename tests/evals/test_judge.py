import json
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from evals import judge as stage
from evals.judge import accuracy, compare, pick_evenly, run, summarise
from evals.judges import EndpointJudge, Question, RewardJudge, Verdict, Winner, parse_verdict
from llm.align.reward import RewardScorer
from llm.config.evaluation import JudgeConfig
from llm.config.paths import Paths
from llm.config.sampling import SamplingConfig
from llm.data.conversations import Conversation, read_conversations
from llm.data.pairs import Pair
from llm.errors import ConfigError, EvaluationError, LLMError, UnreachableError
from llm.files import fingerprint, read_jsonl
from llm.process import Context
from tests.waiting import PATIENCE_S

CONFIG = JudgeConfig(
    judge="reward",
    base_url="http://127.0.0.1:1/v1",
    model="judge",
    reply_tokens=64,
    timeout_s=PATIENCE_S,
    retries=0,
    concurrency=3,
    prompts=10,
    sampling=SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=12),
    batch_size=4,
    device="cpu",
    seed=1,
)


class Rule:
    """A judge by a rule, to test what is made of verdicts."""

    def __init__(self, rule) -> None:
        self.rule = rule

    def compare(self, questions: Sequence[Question]) -> list[Verdict]:
        return [Verdict(self.rule(q.first, q.second), "reply") for q in questions]


def longer(first: str, second: str) -> Winner:
    if len(first) == len(second):
        return "tie"
    return "first" if len(first) > len(second) else "second"


def items(n: int, kind: str = "import") -> list[Conversation]:
    return [
        Conversation(
            f"{kind}{i}",
            kind,
            "docs",
            [
                {"role": "user", "content": f"question {i}"},
                {"role": "assistant", "content": "right"},
            ],
        )
        for i in range(n)
    ]


def say(verdict: str) -> str:
    return json.dumps({"reason": "because", "verdict": verdict})


def test_reward_verdicts_repeat_byte_for_byte_and_do_not_depend_on_order(world: Paths) -> None:
    context = Context("judge", world, Path(world.work) / "judge")
    metrics = run(context, judge=CONFIG)
    before = fingerprint(world.stage("judge"))
    assert run(context, judge=CONFIG) == metrics
    assert fingerprint(world.stage("judge")) == before
    rows = list(read_jsonl(world.stage("judge") / "verdicts.jsonl"))
    assert len(rows) == metrics["pairs"] == CONFIG.prompts
    assert metrics["order_flip_rate"] == 0
    assert metrics["unparsed"] == metrics["accuracy_unparsed"] == 0
    assert metrics["win_rate"] == pytest.approx(sum(r["dpo_credit"] for r in rows) / len(rows))
    assert metrics["win_rate_low"] <= metrics["win_rate"] <= metrics["win_rate_high"]
    assert metrics["accuracy_pairs"] == 10


def test_the_reward_judge_picks_the_higher_score(world: Paths) -> None:
    scorer = RewardScorer.load(world.model("reward"), device="cpu")
    prompt = [{"role": "user", "content": "which?"}]
    answers = ("one", "another", "a third answer")
    scores = [
        scorer.score([[*prompt, {"role": "assistant", "content": answer}]], batch_size=1)[0]
        for answer in answers
    ]
    questions = [Question(prompt, a, b) for a in answers for b in answers]
    verdicts = RewardJudge(scorer, batch_size=4).compare(questions)
    expected = ["tie" if a == b else "first" if a > b else "second" for a in scores for b in scores]
    assert [verdict.winner for verdict in verdicts] == expected


def test_a_win_counts_one_a_tie_half() -> None:
    rows = compare(Rule(longer), items(4), ["a", "bb", "cc", "same"], ["aa", "b", "dd", "same"])
    assert [row["dpo_credit"] for row in rows] == [1.0, 0.0, 0.5, 0.5]
    metrics = summarise(rows, seed=1)
    assert metrics["win_rate"] == 0.5
    assert (metrics["wins"], metrics["ties"], metrics["losses"]) == (1, 2, 1)
    assert metrics["identical_pairs"] == 1


def test_a_judge_that_always_names_the_first_is_all_bias_and_no_win() -> None:
    rows = compare(Rule(lambda first, second: "first"), items(6), ["a"] * 6, ["b"] * 6)
    metrics = summarise(rows, seed=1)
    assert metrics["order_flip_rate"] == 1.0
    assert metrics["win_rate"] == 0.5
    assert accuracy(Rule(lambda first, second: "first"), [pair()] * 4)["accuracy"] == 0.5


def test_what_is_unparsed_in_one_order_is_graded_in_neither() -> None:
    def rule(first: str, second: str) -> Winner:
        return "unparsed" if first == "odd" else longer(first, second)

    rows = compare(Rule(rule), items(3), ["odd", "a", "a"], ["oddly", "aa", "aaa"])
    metrics = summarise(rows, seed=1)
    assert [row["dpo_credit"] for row in rows] == [None, 1.0, 1.0]
    assert metrics["unparsed"] == 1
    assert metrics["judged_pairs"] == 2
    assert metrics["win_rate"] == 1.0


def test_nothing_parsed_is_an_error_not_a_draw() -> None:
    rows = compare(Rule(lambda first, second: "unparsed"), items(3), ["a"] * 3, ["b"] * 3)
    with pytest.raises(EvaluationError, match="none of the judge's 3 comparisons"):
        summarise(rows, seed=1)


def test_agreement_looks_only_where_one_answer_alone_is_right() -> None:
    rows = compare(
        Rule(longer), items(3), ["right", "wrong answer", "no"], ["no", "right", "neither"]
    )
    metrics = summarise(rows, seed=1)
    assert metrics["exact_agreement_pairs"] == 2
    assert metrics["exact_agreement"] == 0.5  # the longer answer was right once


def test_prompts_are_taken_evenly_over_kinds() -> None:
    many = [*items(50, "import"), *items(3, "type"), *items(50, "default")]
    picked = pick_evenly(many, 23, seed=1)
    counts = {kind: sum(p.kind == kind for p in picked) for kind in ("import", "type", "default")}
    assert counts == {"import": 10, "type": 3, "default": 10}
    assert picked == pick_evenly(many[::-1], 23, seed=1)


@pytest.mark.parametrize(
    ("reply", "winner"),
    [
        (say("A"), "first"),
        (say("B"), "second"),
        (say("tie"), "tie"),
        (f"Let me see.\n```json\n{say('B')}\n```", "second"),
        (f"{say('A')} and again {say('A')}", "first"),
        (f"{say('A')} or rather {say('B')}", "unparsed"),
        (say("C"), "unparsed"),
        ('{"verdict": 1}', "unparsed"),
        ("A is better", "unparsed"),
        ('{"reason": "cut sho', "unparsed"),
        ("", "unparsed"),
    ],
)
def test_only_a_clear_verdict_is_parsed(reply: str, winner: str) -> None:
    assert parse_verdict(reply) == winner


@pytest.fixture
def key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "secret")


def judge_at(url: str, folder: Path, **changes) -> EndpointJudge:
    return EndpointJudge(CONFIG.model_copy(update={"base_url": url, **changes}), folder)


QUESTIONS = [
    Question([{"role": "user", "content": f"question {i}"}], f"answer {i}", "a longer answer")
    for i in range(5)
]


def test_an_endpoint_is_asked_with_the_rubric_and_its_verdicts_keep_their_order(
    endpoint, tmp_path: Path, key: None
) -> None:
    def reply(question: str, first: str, second: str) -> str:
        return say("A" if question in ("question 1", "question 3") else "B")

    with endpoint(reply) as server:
        verdicts = judge_at(server.base_url, tmp_path).compare(QUESTIONS)
    winners = [verdict.winner for verdict in verdicts]
    assert winners == ["second", "first", "second", "first", "second"]
    request = server.requests[0]
    assert request["path"] == "/v1/chat/completions"
    assert request["key"] == "Bearer secret"
    assert request["temperature"] == 0
    assert "Correctness" in request["messages"][0]["content"]
    assert "a longer answer" in request["messages"][1]["content"]


def test_a_dollar_in_an_answer_is_shown_as_it_is(endpoint, tmp_path: Path, key: None) -> None:
    seen = []
    with endpoint(lambda *shown: seen.append(shown) or say("tie")) as server:
        question = Question([{"role": "user", "content": "$first?"}], "$HOME {x}", "$question")
        judge_at(server.base_url, tmp_path).compare([question])
    assert seen == [("$first?", "$HOME {x}", "$question")]


def test_replies_are_not_asked_for_twice(endpoint, tmp_path: Path, key: None) -> None:
    with endpoint(lambda *shown: say("A")) as server:
        before = judge_at(server.base_url, tmp_path).compare(QUESTIONS[:3])
        with (tmp_path / "replies.jsonl").open("a") as file:
            file.write('{"key": "a kill came he')
        after = judge_at(server.base_url, tmp_path).compare(QUESTIONS)
        again = judge_at(server.base_url, tmp_path).compare(QUESTIONS)
    assert len(server.requests) == 5
    assert after[:3] == before
    assert again == after


def test_a_failing_request_is_tried_again(endpoint, tmp_path: Path, key: None) -> None:
    lock, failed = threading.Lock(), set()

    def reply(question: str, first: str, second: str) -> str | int:
        with lock:
            if question in failed:
                return say("tie")
            failed.add(question)
            return 500

    with endpoint(reply) as server:
        verdicts = judge_at(server.base_url, tmp_path, retries=2).compare(QUESTIONS[:2])
    assert [verdict.winner for verdict in verdicts] == ["tie", "tie"]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, EvaluationError),
        (404, EvaluationError),
        (429, UnreachableError),
        (500, UnreachableError),
    ],
)
def test_an_endpoint_that_refuses_ends_the_stage_with_its_address(
    endpoint, tmp_path: Path, key: None, status: int, kind: type[LLMError]
) -> None:
    with (
        endpoint(lambda *shown: status) as server,
        pytest.raises(kind, match=f"judge.base_url={server.base_url}"),
    ):
        judge_at(server.base_url, tmp_path).compare(QUESTIONS)


def test_the_whole_stage_runs_with_an_endpoint(endpoint, world: Paths, key: None) -> None:
    def reply(question: str, first: str, second: str) -> str:
        """Likes the reference of held-out pairs, and cannot decide about anything else."""
        return say("A" if second == "no idea" else "B" if first == "no idea" else "tie")

    context = Context("judge", world, Path(world.work) / "judge")
    with endpoint(reply) as server:
        config = CONFIG.model_copy(update={"judge": "openai", "base_url": server.base_url})
        metrics = run(context, judge=config)
    assert metrics["accuracy"] == 1.0
    assert metrics["win_rate"] == 0.5
    assert metrics["ties"] == metrics["pairs"]


def test_a_missing_key_is_said_before_any_work(
    world: Paths, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    config = CONFIG.model_copy(update={"judge": "openai"})
    broken = world.model_copy(update={"models": "nowhere", "data": "nowhere"})
    with pytest.raises(ConfigError, match="OPENAI_API_KEY"):
        run(Context("judge", broken, Path(world.work)), judge=config)


def test_the_judge_sees_the_held_out_prompts(world: Paths) -> None:
    run(Context("judge", world, Path(world.work) / "judge"), judge=CONFIG)
    heldout = read_conversations(world.stage("instructions") / "test.jsonl")
    expected = pick_evenly(heldout, CONFIG.prompts, CONFIG.seed)
    rows = read_jsonl(world.stage("judge") / "verdicts.jsonl")
    assert [row["id"] for row in rows] == [item.id for item in expected]


def test_the_rubric_file_says_what_the_parser_reads() -> None:
    rubric = (Path(stage.__file__).parent / "rubrics" / "pairwise.md").read_text()
    assert all(word in rubric for word in ('"verdict"', '"A"', '"B"', '"tie"', "$question"))


def pair() -> Pair:
    return Pair([{"role": "user", "content": "question"}], "good", "bad", "docs", "import")
