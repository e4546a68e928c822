"""Promotions from the UI: the run shows the table, asks where it is to ask, and moves the alias."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.client.schemas.responses import SetStateStatus
from prefect.settings import PREFECT_API_URL, temporary_settings

from llm.config.presets import apply_values
from llm.registry.moves import history
from llm.registry.versions import CHAMPION, Registry
from tests.flows.browser import choose, field, submit
from tests.flows.client import FINAL, ended, start
from tests.flows.up_process import running_up
from tests.registry.promotable import built_project, copy_of
from tests.waiting import wait_for

PROMOTE = "promote/default"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with three versions."""
    folder = tmp_path_factory.mktemp("served") / "project"
    copy_of(built_project(tmp_path_factory.getbasetemp()), folder)
    ask(folder, 600)
    return folder


@pytest.fixture(scope="module")
def served(folder: Path) -> Iterator[tuple[Registry, SyncPrefectClient]]:
    """The project's servers running, and a client of each."""
    with (
        running_up(folder, {}) as up,
        temporary_settings({PREFECT_API_URL: f"{up.state['prefect']}/api"}),
        get_client(sync_client=True) as client,
    ):
        yield Registry(up.state["mlflow"]), client


def test_the_run_pauses_with_the_table_and_an_approval_makes_the_champion(
    served: tuple[Registry, SyncPrefectClient],
) -> None:
    registry, client = served
    run = start(client, {"version": "1", "reason": "the first", "approval": True}, PROMOTE)
    paused(client, run)
    keyset = client.read_flow_run(run.id).state.state_details.run_input_keyset  # pyright: ignore
    shown = json.loads(client.read_flow_run_input(run.id, keyset["description"]))
    assert "models:/llm/1 (sft), no champion yet" in shown
    assert "| size | pass | " in shown
    (table,) = client.read_artifacts(
        artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=["gates"]))
    )
    assert [row["verdict"] for row in json.loads(str(table.data))] == ["pass", "pass"]
    assert champion(registry) is None

    neither = client.resume_flow_run(run.id, {"decision": "perhaps", "name": "Bob"})
    assert neither.status == SetStateStatus.REJECT
    assert client.read_flow_run(run.id).state_type == StateType.PAUSED
    answer = {"decision": "approve", "name": "Bob", "comment": "looks good"}
    client.resume_flow_run(run.id, answer)
    assert ended(client, run).state_name == "Completed"
    assert champion(registry) == "1"
    tags = registry.find("1", "llm").tags
    assert (tags["champion/by"], tags["champion/reason"]) == ("Bob", "looks good")


def test_a_worse_version_fails_the_run_with_the_gates_named(
    served: tuple[Registry, SyncPrefectClient],
) -> None:
    registry, client = served
    run = ended(client, start(client, {"version": "2", "approval": True}, PROMOTE))
    assert run.state_name == "Failed"
    assert run.state is not None
    assert "models:/llm/2 is not promoted; gates failed: tasks" in str(run.state.message)
    assert champion(registry) == "1"


def test_who_declines_or_does_not_answer_promotes_nothing_and_is_on_record(
    served: tuple[Registry, SyncPrefectClient], folder: Path
) -> None:
    registry, client = served
    run = start(client, {"version": "3", "approval": True}, PROMOTE)
    paused(client, run)
    client.resume_flow_run(run.id, {"decision": "decline", "name": "Eve", "comment": "no"})
    assert ended(client, run).state_name == "Failed"
    ask(folder, 3)
    ended(client, start(client, {"version": "3", "approval": True}, PROMOTE))
    ask(folder, 600)
    # Prefect's server ends a pause by itself, and the run's process records it a moment later
    wait_for(lambda: history(registry, "llm")[-1].by == "nobody")
    told = [(m.action, m.version, m.by, m.reason) for m in history(registry, "llm")][-2:]
    assert told == [
        ("declined", "3", "Eve", "no"),
        ("declined", "3", "nobody", "no answer within 3 s"),
    ]
    assert champion(registry) == "1"


def test_without_approval_a_run_promotes_and_another_one_rolls_back(
    served: tuple[Registry, SyncPrefectClient],
) -> None:
    registry, client = served
    run = ended(client, start(client, {}, PROMOTE))  # the candidate is version 3
    assert run.state_name == "Completed"
    assert champion(registry) == "3"
    run = ended(client, start(client, {"reason": "it swears", "name": "Eve"}, "rollback/default"))
    assert run.state_name == "Completed"
    assert champion(registry) == "1"
    tags = registry.find("1", "llm").tags
    assert (tags["champion/by"], tags["champion/reason"]) == ("Eve", "it swears")


def test_a_person_approves_in_the_browser(
    served: tuple[Registry, SyncPrefectClient], page: Page, tmp_path: Path
) -> None:
    registry, client = served
    other = "3" if champion(registry) == "1" else "1"
    run = start(client, {"version": other, "approval": True}, PROMOTE)
    paused(client, run)
    page.goto(f"{str(client.api_url).partition('/api')[0]}/runs/flow-run/{run.id}")
    page.get_by_role("button", name="Resume").click()
    expect(page.get_by_role("heading", name=f"models:/llm/{other}")).to_be_visible()
    page.screenshot(path=tmp_path / "asks.png")
    choose(field(page, "Decision"), "approve")
    field(page, "Name").locator("textarea").fill("Ann")
    page.screenshot(path=tmp_path / "answers.png")
    submit(page, "/resume")
    assert ended(client, run).state_name == "Completed"
    assert champion(registry) == other
    assert registry.find(other, "llm").tags["champion/by"] == "Ann"


def ask(folder: Path, timeout_s: int) -> None:
    """Judge by two gates, and let a person take so long."""
    asked = {"promote": {"gates": ["tasks", "size"], "approval_timeout_s": timeout_s}}
    text = (folder / "params.yaml").read_text()
    (folder / "params.yaml").write_text(apply_values(text, asked, ""))


def champion(registry: Registry) -> str | None:
    found = registry.by_alias("llm", CHAMPION)
    return found.number if found else None


def paused(client: SyncPrefectClient, run: FlowRun) -> None:
    """Wait until the run asks."""
    states = {StateType.PAUSED, *FINAL}
    wait_for(lambda: client.read_flow_run(run.id).state_type in states)
    state = client.read_flow_run(run.id).state
    assert state is not None
    assert state.type == StateType.PAUSED, state.message
    wait_for(lambda: bool(state.state_details.run_input_keyset))
