"""A person with a browser: a run asked for in a form, its page, and two runs beside each other."""

import json
from pathlib import Path
from urllib.parse import quote

from mlflow import MlflowClient
from playwright.sync_api import Page, expect
from prefect.client.orchestration import SyncPrefectClient

from flows.worktree import git
from tests.flows.browser import field, submit
from tests.flows.client import finished, start


def test_the_form_refuses_a_bad_value_and_starts_a_run_with_a_good_one(
    served: tuple[Path, SyncPrefectClient], page: Page, tmp_path: Path
) -> None:
    folder, client = served
    site = str(client.api_url).removesuffix("/api/").removesuffix("/api")
    deployment = client.read_deployment_by_name("build-llm/default")
    page.goto(f"{site}/deployments/deployment/{deployment.id}/run")
    expect(page.locator(".flow-run-name-input input")).not_to_have_value("")
    name = page.locator(".flow-run-name-input input").input_value()
    seed = field(field(page, "pretrain"), "seed")
    expect(seed).to_contain_text("Of new weights and of the order of batches.")
    expect(field(field(page, "pretrain"), "precision")).to_contain_text("fp32")

    seed.locator("input").fill("-1")
    submit(page, "/create_flow_run")
    refusal = page.get_by_text("params.pretrain.seed").filter(has_text="less than the minimum of 0")
    expect(refusal.first).to_be_visible()
    page.screenshot(path=tmp_path / "refused.png")
    assert _run(client, name) is None

    seed.locator("input").fill("61")
    submit(page, "/create_flow_run")
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


def test_mlflow_shows_two_runs_beside_each_other_with_the_param_that_differs(
    served: tuple[Path, SyncPrefectClient], page: Page, tmp_path: Path
) -> None:
    folder, client = served
    asked = [start(client, {"overrides": {"pretrain.seed": n}, "upto": "corpus"}) for n in (62, 63)]
    runs = [finished(client, run) for run in asked]
    site = json.loads((folder / ".llm" / "up.json").read_text())["mlflow"]
    mlflow = MlflowClient(site)
    experiment = mlflow.get_experiment_by_name("llm")
    assert experiment is not None
    ids = [experiment.experiment_id]
    found = [mlflow.search_runs(ids, f"tags.prefect_flow_run = '{run.id}'")[0] for run in runs]
    wanted = quote(json.dumps([record.info.run_id for record in found]))
    page.goto(f"{site}/#/compare-runs?runs={wanted}&experiments={quote(json.dumps(ids))}")
    for run in runs:
        expect(page.get_by_text(run.name, exact=True)).to_be_visible()
    seed = page.get_by_role("row", name="pretrain.seed")
    same = page.get_by_role("row", name="pretrain.precision")
    expect(same).to_be_visible()
    page.get_by_role("switch", name="Parameters - Show diff only").click()
    expect(same).to_have_count(0)
    assert seed.inner_text().split("\t") == ["pretrain.seed", "62", "63"]
    page.screenshot(path=tmp_path / "compare.png")


def _run(client: SyncPrefectClient, name: str):
    named = [run for run in client.read_flow_runs() if run.name == name]
    return named[0] if named else None
