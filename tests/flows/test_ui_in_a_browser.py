"""A person with a browser: the form refuses a bad value, starts a run, and the run's page shows it."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright
from prefect.client.orchestration import SyncPrefectClient

from flows.worktree import git
from tests.flows.client import finished, wait_for

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine")


@pytest.fixture
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": 1300, "height": 1600})
        page.set_default_timeout(30_000)
        yield page
        browser.close()


def test_the_form_refuses_a_bad_value_and_starts_a_run_with_a_good_one(
    served: tuple[Path, SyncPrefectClient], page: Page, tmp_path: Path
) -> None:
    folder, client = served
    site = str(client.api_url).removesuffix("/api/").removesuffix("/api")
    deployment = client.read_deployment_by_name("build-llm/default")
    page.goto(f"{site}/deployments/deployment/{deployment.id}/run")
    name = page.locator(".flow-run-name-input input").input_value()
    seed = _field(_field(page, "pretrain"), "seed")
    expect(seed).to_contain_text("Of new weights and of the order of batches.")
    expect(_field(_field(page, "pretrain"), "precision")).to_contain_text("fp32")

    seed.locator("input").fill("-1")
    page.get_by_role("button", name="Submit").click()
    refusal = page.get_by_text("params.pretrain.seed").filter(has_text="less than the minimum of 0")
    expect(refusal.first).to_be_visible()
    page.screenshot(path=tmp_path / "refused.png")
    assert _run(client, name) is None

    seed.locator("input").fill("61")
    page.get_by_role("button", name="Submit").click()
    wait_for(lambda: _run(client, name) is not None, 60)
    run = _run(client, name)
    assert run is not None
    done = finished(client, run)
    assert done.state_name == "Completed"
    assert json.loads(git(folder, "show", f"run/{name}:metrics/pretrain.json")) == {"seed": 61}

    page.goto(f"{site}/runs/flow-run/{run.id}")
    page.get_by_text("Artifacts", exact=True).first.click()
    for key in ("progress", "links"):
        expect(page.get_by_text(key, exact=True).first).to_be_visible()
    page.screenshot(path=tmp_path / "run.png")


def _field(within: Page | Locator, name: str) -> Locator:
    """The innermost part of the form that has this title."""
    title = f"//span[contains(@class, 'schema-form-property__label')][normalize-space()='{name}']"
    part = "ancestor::div[contains(concat(' ', @class, ' '), ' schema-form-property ')][1]"
    return within.locator(f"xpath=.{title}/{part}").first


def _run(client: SyncPrefectClient, name: str):
    named = [run for run in client.read_flow_runs() if run.name == name]
    return named[0] if named else None
