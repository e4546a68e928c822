"""Aliases move at once or not at all, one move at a time, and each is on record."""

import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from llm.errors import ConfigError
from llm.registry.moves import (
    UNDER_WAY,
    Overtaken,
    Said,
    history,
    make_champion,
    note,
    roll_back,
    settle,
)
from llm.registry.versions import CHAMPION, PREVIOUS, Registry, Version
from tests.waiting import PATIENCE_S

ADA = Said("Ada", "it answers better", "8 gates passed")

# real processes that need not import MLflow anew
PROCESSES = multiprocessing.get_context("forkserver")
PROCESSES.set_forkserver_preload(["llm.registry.moves", "mlflow.store.model_registry"])


def aliases(registry: Registry) -> tuple[str | None, str | None]:
    """Numbers of champion and previous."""
    found = (registry.by_alias("llm", alias) for alias in (CHAMPION, PREVIOUS))
    first, second = (version.number if version else None for version in found)
    return first, second


def version(registry: Registry, number: str) -> Version:
    return registry.find(number, "llm")


def crown(registry: Registry, number: str, expected: str | None, tmp_path: Path) -> None:
    before = version(registry, expected) if expected else None
    make_champion(registry, version(registry, number), before, ADA, tmp_path / "locks")


def test_the_former_champion_becomes_previous_and_who_when_why_is_on_both(
    registry: Registry, tmp_path: Path
) -> None:
    crown(registry, "1", None, tmp_path)
    assert aliases(registry) == ("1", None)
    crown(registry, "2", "1", tmp_path)
    assert aliases(registry) == ("2", "1")
    tags = version(registry, "2").tags
    assert tags["champion/by"] == "Ada"
    assert tags["champion/reason"] == "it answers better"
    assert tags["champion/after"] == "1"
    assert tags["champion/at"] == version(registry, "1").tags["replaced/at"]
    assert version(registry, "1").tags["replaced/with"] == "2"
    told = [(m.action, m.version, m.champion, m.by, m.gates) for m in history(registry, "llm")]
    assert told == [
        ("promoted", "1", None, "Ada", "8 gates passed"),
        ("promoted", "2", "1", "Ada", "8 gates passed"),
    ]


def test_a_rollback_swaps_and_another_one_swaps_back(registry: Registry, tmp_path: Path) -> None:
    crown(registry, "1", None, tmp_path)
    with pytest.raises(ConfigError, match="no version with the alias previous"):
        roll_back(registry, "llm", ADA, tmp_path / "locks")
    crown(registry, "2", "1", tmp_path)
    roll_back(registry, "llm", Said("Bob", "it swears"), tmp_path / "locks")
    assert aliases(registry) == ("1", "2")
    assert version(registry, "1").tags["champion/action"] == "rolled back"
    assert version(registry, "2").tags["replaced/reason"] == "it swears"
    roll_back(registry, "llm", ADA, tmp_path / "locks")
    assert aliases(registry) == ("2", "1")


def test_evidence_against_a_former_champion_moves_nothing(
    registry: Registry, tmp_path: Path
) -> None:
    crown(registry, "1", None, tmp_path)
    crown(registry, "2", "1", tmp_path)
    message = r"champion was models:/llm/1 .* now is models:/llm/2 \(promoted by Ada"
    with pytest.raises(Overtaken, match=message):
        crown(registry, "3", "1", tmp_path)
    with pytest.raises(Overtaken, match="champion was none"):
        crown(registry, "3", None, tmp_path)
    assert aliases(registry) == ("2", "1")
    assert len(history(registry, "llm")) == 2


def test_a_refusal_is_on_record_and_moves_nothing(registry: Registry, tmp_path: Path) -> None:
    crown(registry, "1", None, tmp_path)
    note(registry, "refused", version(registry, "2"), ADA, tmp_path / "locks")
    assert aliases(registry) == ("1", None)
    assert [(m.action, m.version) for m in history(registry, "llm")][1:] == [("refused", "2")]


def test_a_reason_that_no_tag_can_hold_is_refused_before_anything_moves() -> None:
    with pytest.raises(ConfigError, match="at most 1000 are kept"):
        Said("Ada", "because " * 200)


def _race(uri: str, number: str, locks: Path, start: Any, results: Any) -> None:
    """A process of its own that wants the version to be champion after version 1."""
    registry = Registry(uri)
    wanted, before = version(registry, number), version(registry, "1")
    start.wait(PATIENCE_S)
    try:
        make_champion(registry, wanted, before, Said(f"process {number}", ""), locks)
        results.put((number, "won"))
    except Overtaken as error:
        results.put((number, str(error)))


def test_of_two_promotions_at_once_one_wins_and_the_other_says_so(
    registry: Registry, tmp_path: Path
) -> None:
    crown(registry, "1", None, tmp_path)
    results = PROCESSES.Queue()
    arguments = (tmp_path / "locks", PROCESSES.Barrier(2), results)
    racers = [
        PROCESSES.Process(target=_race, args=(registry.uri, number, *arguments))
        for number in ("2", "3")
    ]
    for racer in racers:
        racer.start()
    told = dict(results.get(timeout=PATIENCE_S) for _ in racers)
    for racer in racers:
        racer.join(timeout=PATIENCE_S)
    (winner,) = [number for number, words in told.items() if words == "won"]
    (loser,) = [number for number in told if number != winner]
    assert f"now is models:/llm/{winner} (promoted by process {winner}" in told[loser]
    assert aliases(registry) == (winner, "1")
    assert [m.version for m in history(registry, "llm")] == ["1", winner]


def _killed(uri: str, action: str, locks: Path, after: int) -> None:
    """Promote 2 after 1, or roll back to it, and die by SIGKILL before write `after` + 1."""
    registry = Registry(uri)
    acts = iter(range(after))
    do = registry._do

    def do_or_die(act: Any) -> None:
        if next(acts, None) is None:
            os.kill(os.getpid(), signal.SIGKILL)
        do(act)

    registry._do = do_or_die
    if action == "promote":
        make_champion(registry, version(registry, "2"), version(registry, "1"), ADA, locks)
    else:
        roll_back(registry, "llm", ADA, locks)


@pytest.mark.parametrize("action", ["promote", "roll back"])
def test_a_move_that_is_killed_anywhere_is_undone_or_completed_by_the_next(
    registry: Registry, tmp_path: Path, action: str
) -> None:
    locks = tmp_path / "locks"
    third = "2" if action == "roll back" else "3"  # who is previous
    crown(registry, third, None, tmp_path)
    crown(registry, "1", third, tmp_path)
    lines = len(history(registry, "llm"))
    for writes in (0, 1, 2, 3, 4, 9, 13, 99):  # from the fourth on the versions' tags
        copy = Registry(
            f"sqlite:///{shutil.copy(tmp_path / 'mlflow.db', tmp_path / f'{writes}.db')}"
        )
        process = PROCESSES.Process(target=_killed, args=(copy.uri, action, locks, writes))
        process.start()
        process.join(timeout=PATIENCE_S)
        killed = process.exitcode == -signal.SIGKILL
        assert killed or (process.exitcode, writes) == (0, 99)
        moved = aliases(copy)[0] == "2"
        assert moved or aliases(copy)[0] == "1"  # there is a champion at every moment
        settle(copy, "llm", locks)
        assert aliases(copy) == (("2", "1") if moved else ("1", third))
        assert UNDER_WAY not in copy.model_tags("llm")
        told = history(copy, "llm")[lines:]
        assert len(told) == (1 if moved else 0)
        if moved:
            assert version(copy, "2").tags["champion/at"] == told[0].time
            assert version(copy, "1").tags["replaced/at"] == told[0].time
