"""Who is champion: the aliases `champion` and `previous`, moved one at a time, each move on record.

    move = make_champion(registry, version, expected, said, locks)
    move = roll_back(registry, "llm", said, locks)

The registered model's own tags hold the history, one JSON line per move, and while a move
is under way the move itself. Setting the alias `champion` is one call and decides: a move
that was killed before it is undone by the next one, and after it completed. Moves of
processes that share a checkout exclude one another by a lock file; a move whose champion
is not the one that the evidence was gathered against is refused.
"""

import fcntl
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal, Self

from llm.errors import ConfigError, LLMError
from llm.registry.versions import CHAMPION, PREVIOUS, Registry, Version

UNDER_WAY = "move"  # tag of the registered model while aliases move
HISTORY = "history/"  # and one per move, under the time
REASON_CHARACTERS = 1000  # a tag of a registered model holds 5000, with the rest of the line

Action = Literal["promoted", "rolled back", "refused", "declined"]


class Overtaken(LLMError):
    """Another promotion or rollback came first."""


@dataclass(frozen=True)
class Said:
    """Who wants it, why, and what the gates found."""

    by: str
    reason: str
    gates: str = ""

    def __post_init__(self) -> None:
        if len(self.by) + len(self.reason) > REASON_CHARACTERS:
            raise ConfigError(
                f"name and reason have {len(self.by) + len(self.reason)} characters together; "
                f"at most {REASON_CHARACTERS} are kept"
            )


@dataclass(frozen=True)
class Move:
    """One line of the history."""

    time: str  # UTC, to the millisecond
    action: Action
    version: str  # number of the version that it is about
    champion: str | None  # number of the champion before
    previous: str | None  # and of its predecessor
    by: str
    reason: str
    gates: str

    @property
    def line(self) -> str:
        """As it is kept."""
        return json.dumps(asdict(self), ensure_ascii=False)

    @classmethod
    def parse(cls, line: str) -> Self:
        """The inverse of `line`."""
        return cls(**json.loads(line))


def make_champion(
    registry: Registry, version: Version, expected: Version | None, said: Said, locks: Path
) -> Move:
    """Make the version the champion, if `expected` still is, which becomes `previous`.

    Raises Overtaken, and changes nothing, when the champion is another one by now.
    """
    with _alone(registry, version.name, locks):
        champion = registry.by_alias(version.name, CHAMPION)
        if _number(champion) != _number(expected):
            latest = history(registry, version.name)[-1:]
            told = f" ({latest[0].action} by {latest[0].by} at {latest[0].time})" if latest else ""
            raise Overtaken(
                f"the champion was {_name(expected)} when {version.uri} was measured beside it, and "
                f"now is {_name(champion)}{told}; nothing was changed, run it again"
            )
        move = _move(registry, "promoted", version, said)
        _carry_out(registry, version.name, move)
    return move


def roll_back(registry: Registry, name: str, said: Said, locks: Path) -> Move:
    """Make `previous` the champion again, and the champion `previous`; no gate is asked."""
    with _alone(registry, name, locks):
        former = registry.by_alias(name, PREVIOUS)
        if former is None:
            raise ConfigError(f"{name} has no version with the alias {PREVIOUS} to go back to")
        if CHAMPION in former.aliases:
            raise ConfigError(f"{former.uri} is the champion already, and {PREVIOUS} as well")
        move = _move(registry, "rolled back", former, said)
        _carry_out(registry, name, move)
    return move


def note(registry: Registry, action: Action, version: Version, said: Said, locks: Path) -> Move:
    """Keep in the history that the version was refused or declined; moves nothing."""
    with _alone(registry, version.name, locks):
        move = _move(registry, action, version, said)
        registry.set_model_tag(version.name, f"{HISTORY}{move.time}", move.line)
    return move


def settle(registry: Registry, name: str, locks: Path) -> None:
    """Complete or undo a move that was killed."""
    with _alone(registry, name, locks):
        pass


def history(registry: Registry, name: str) -> list[Move]:
    """Every move of the model's aliases, and every refusal, oldest first."""
    tags = registry.model_tags(name)
    return [Move.parse(tags[key]) for key in sorted(tags) if key.startswith(HISTORY)]


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Hold the lock file, which other processes wait for; a killed one lets go of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _alone(registry: Registry, name: str, locks: Path) -> Iterator[None]:
    """No other move is under way, and none is left half done."""
    with exclusive(locks / f"champion-{name}.lock"):
        if line := registry.model_tags(name).get(UNDER_WAY):
            _settle(registry, name, Move.parse(line))
        yield


def _settle(registry: Registry, name: str, move: Move) -> None:
    if _number(registry.by_alias(name, CHAMPION)) == move.version:
        _record(registry, name, move)
        return
    before = registry.by_number(name, move.previous) if move.previous else None
    if before is not None:
        registry.set_alias(before, PREVIOUS)
    elif registry.by_alias(name, PREVIOUS) is not None:
        registry.delete_alias(name, PREVIOUS)
    registry.delete_model_tag(name, UNDER_WAY)


def _carry_out(registry: Registry, name: str, move: Move) -> None:
    registry.set_model_tag(name, UNDER_WAY, move.line)
    if move.champion is not None:
        registry.set_alias(registry.find(move.champion, name), PREVIOUS)
    registry.set_alias(registry.find(move.version, name), CHAMPION)
    _record(registry, name, move)


def _record(registry: Registry, name: str, move: Move) -> None:
    """Tag both versions and add the line; the same again changes nothing."""
    about = {"action": move.action, "at": move.time, "by": move.by, "reason": move.reason}
    if champion := registry.by_number(name, move.version):
        tags = {**about, "after": move.champion or "none"}
        registry.set_tags(champion, {f"champion/{key}": value for key, value in tags.items()})
    if move.champion and (former := registry.by_number(name, move.champion)):
        tags = {**about, "with": move.version}
        registry.set_tags(former, {f"replaced/{key}": value for key, value in tags.items()})
    registry.set_model_tag(name, f"{HISTORY}{move.time}", move.line)
    registry.delete_model_tag(name, UNDER_WAY)


def _move(registry: Registry, action: Action, version: Version, said: Said) -> Move:
    time.sleep(0.001)  # no two lines have the same time
    return Move(
        time=datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
        action=action,
        version=version.number,
        champion=_number(registry.by_alias(version.name, CHAMPION)),
        previous=_number(registry.by_alias(version.name, PREVIOUS)),
        **asdict(said),
    )


def _number(version: Version | None) -> str | None:
    return version.number if version else None


def _name(version: Version | None) -> str:
    return version.uri if version else "none"
