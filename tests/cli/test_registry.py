"""`llm promote`, `rollback`, `versions`: what they say, and what they exit with."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from llm.cli import app
from llm.config.presets import apply_values
from llm.errors import ConfigError, LLMError
from llm.registry.promotion import Refused
from tests.registry.conftest import promotable

__all__ = ["promotable"]  # a fixture


def llm(*arguments: str) -> str:
    """What `llm …` says; the error that it prints in one line, as it is."""
    result = CliRunner().invoke(app, arguments, env={"COLUMNS": "200"})
    if isinstance(result.exception, LLMError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


def ask_only(**promote: object) -> None:
    """Judge by nothing but the lineage, which is quick."""
    values = {"promote": {"gates": ["lineage"], **promote}}
    text = apply_values(Path("params.yaml").read_text(), values, "")
    Path("params.yaml").write_text(text)


def test_a_promotion_is_shown_listed_and_undone(promotable: Path) -> None:
    ask_only()
    assert "version 1 is the champion\n" in llm("promote", "1", "--reason", "first")
    shown = llm("promote")  # the candidate
    assert "lineage" in shown
    assert "promoted: version 3 is the champion; 1 is previous" in shown
    assert "candidate is the champion already; nothing was changed" in llm("promote")
    listed = llm("versions")
    assert "candidate, champion" in listed
    assert "1 passed" in listed
    done = llm("rollback", "--reason", "it swears")
    assert done == "rolled back: version 1 is the champion; 3 is previous\n"
    told = [line.split()[2:4] for line in llm("versions", "--history").splitlines() if "20" in line]
    assert told == [["promoted", "1"], ["promoted", "3"], ["rolled", "back"]]


def test_without_a_terminal_nobody_can_approve_but_by_yes(promotable: Path) -> None:
    ask_only(approval=True)
    with pytest.raises(ConfigError, match="there is no terminal: give --yes"):
        llm("promote", "1")
    assert "version 1 is the champion" in llm("promote", "1", "--yes")


def test_a_refusal_names_the_gates_and_changes_nothing(promotable: Path) -> None:
    ask_only()
    from llm.cli.registry import _open

    _, registry = _open()
    registry.set_tags(registry.find("2", "llm"), {"git_dirty": "true"})
    with pytest.raises(Refused, match=r"models:/llm/2 is not promoted; gates failed: lineage"):
        llm("promote", "2")
    assert "failed: lineage" in llm("versions")
    with pytest.raises(ConfigError, match="no version with the alias previous"):
        llm("rollback")
    with pytest.raises(ConfigError, match="no version '9' of llm; there are 1, 2, 3 @candidate"):
        llm("promote", "9")


def test_an_empty_registry_says_so(promotable: Path) -> None:
    Path("params.yaml").write_text(
        apply_values(Path("params.yaml").read_text(), {"register": {"name": "other"}}, "")
    )
    assert llm("versions") == "no version of other is registered\n"
    assert llm("versions", "--history") == "no history of other\n"
