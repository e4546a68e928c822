"""The commands about versions, as a person uses them: what they show, ask and exit with."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from llm.cli import app
from llm.errors import LLMError
from llm.registry.versions import Registry
from tests.registry.conftest import project, registered, template
from tests.registry.project import commit, git, made, register, repro, set_params

__all__ = ["project", "registered", "template"]  # fixtures


def llm(*arguments: str, answer: str | None = None) -> str:
    """What `llm …` says; LLMError or SystemExit as it ends."""
    result = CliRunner().invoke(app, arguments, input=answer)
    if isinstance(result.exception, LLMError):
        raise result.exception
    assert result.exit_code == 0, result.output
    return result.output


@pytest.fixture
def version(project: Path, registered: Registry) -> str:
    """A candidate of a committed project; the checkout has other results by now."""
    set_params(project, documents=2, seed=7)
    commit(project, "A <b>bold</b> change")
    repro(project)
    found = register(project, registered)
    registered.set_alias(found, "candidate")
    set_params(project, documents=1, seed=1)
    repro(project)
    return found.uri


def test_lineage_shows_the_candidate_when_there_is_no_champion(version: str) -> None:
    shown = llm("lineage")
    assert f"{version} @candidate" in shown
    assert "A <b>bold</b> change" in shown
    assert re.search(r"gather\s+data/gather\s+[0-9a-f]{32}\.dir", shown)
    assert json.loads(llm("lineage", "--json"))["version"]["uri"] == version


def test_the_page_of_a_version_asks_for_nothing_else_and_runs_nothing(
    version: str, tmp_path: Path
) -> None:
    llm("lineage", version, "--html", str(tmp_path / "page.html"))
    text = (tmp_path / "page.html").read_text()
    tags: set[str] = set()
    parser = HTMLParser()
    parser.handle_starttag = lambda tag, attrs: tags.add(tag)  # type: ignore[method-assign]
    parser.feed(text)
    assert {"svg", "table"} <= tags
    assert not tags & {"script", "link", "img", "iframe", "object", "b"}
    assert "A &lt;b&gt;bold&lt;/b&gt; change" in text
    assert text.count("<svg") == 1


def test_what_cannot_be_asked_for_a_document_is_said_with_its_remedy(version: str) -> None:
    shown = llm("lineage", "--document", "json.dumps")
    assert "llm/1 @candidate: cannot be asked" in shown
    assert "none of them gathered" in shown


def test_reproduce_exits_0_when_all_is_the_same_and_1_with_the_stage_when_not(
    version: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert f"{version} is reproduced" in llm("reproduce", version)
    assert not list((project / ".llm" / "worktrees").iterdir())
    monkeypatch.setenv("NOISE", "another machine")
    result = CliRunner().invoke(app, ["reproduce", version, "--scratch"])
    assert result.exit_code == 1
    assert "it begins in stage sft" in result.output
    assert re.search(r"models/sft .* different", result.output)
    assert list((project / ".llm" / "worktrees").iterdir())


def test_gc_shows_asks_and_frees(version: str, project: Path) -> None:
    set_params(project, documents=3, seed=3)
    repro(project)
    commit(project, "the last")
    before = made(project)
    assert "nothing to free" in llm("gc")
    assert "--older-than 0" in llm("gc")
    shown = llm("gc", "--older-than", "0")
    assert f"{version} @candidate" in shown
    assert re.search(r"models/sft\s+[\d.]+ kB\s+1 run-cache entry and", shown)
    refused = CliRunner().invoke(app, ["gc", "--older-than", "0", "--free"], input="n\n")
    assert refused.exit_code == 1
    assert llm("gc", "--older-than", "0") == shown
    assert "freed " in llm("gc", "--older-than", "0", "--free", answer="y\n")
    assert "nothing to free" in llm("gc", "--older-than", "0", "--free")
    assert made(project) == before
    assert f"{version} is reproduced" in llm("reproduce", version)


def test_gc_forgets_the_commit_of_a_version_that_was_deleted(
    version: str, project: Path, registered: Registry
) -> None:
    registered.client.delete_model_version("llm", "1")
    plan = json.loads(llm("gc", "--json"))
    assert [(item["kind"], item["name"]) for item in plan["freeable"]] == [("kept commit", "llm/1")]
    llm("gc", "--free", "--yes")
    assert git(project, "for-each-ref", "refs/llm") == ""
