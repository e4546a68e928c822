"""MLflow's runs go when no version came of them and their branch is gone; killed in between, for good later."""

import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from mlflow.entities import ViewType
from mlflow.exceptions import MlflowException
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from llm.registry.clean.runs import MARK, free_run, run_items
from llm.registry.versions import Registry
from tests.registry.project import commit, experiment, git, register, repro


def pipeline(
    registry: Registry, project: Path, tags: Mapping[str, str], status: str = "FINISHED"
) -> list[str]:
    """A parent run with one stage that has an artifact; their ids, the stage's first."""
    client, place = registry.client, experiment(registry, project)
    parent = client.create_run(place, tags=dict(tags), run_name="pipeline").info.run_id
    child = client.create_run(
        place,
        tags={MLFLOW_PARENT_RUN_ID: parent, "stage": "sft", "git_commit": UNKNOWN},
        run_name="sft",
    ).info.run_id
    client.log_text(child, "x" * 10_000, "notes.txt")
    for run_id in (child, parent):
        client.set_terminated(run_id, status)
    return [child, parent]


UNKNOWN = "0" * 39 + "1"


def why(registry: Registry, project: Path, cutoff: float | None = None) -> list[str]:
    """Why each pipeline run stays; `free` for what goes."""
    versions = [version for name in registry.names() for version in registry.versions(name)]
    freeable, kept = run_items(
        registry, project, versions, time.time() + 1 if cutoff is None else cutoff
    )
    return ["free" for _ in freeable] + [item.why for item in kept]


def test_a_run_whose_branch_is_gone_goes_with_its_artifacts(
    project: Path, registered: Registry
) -> None:
    git(project, "branch", "run/calm-hare")
    ids = pipeline(registered, project, {"branch": "run/calm-hare"})
    assert why(registered, project) == ["branch run/calm-hare has its results"]
    git(project, "branch", "--delete", "--force", "run/calm-hare")
    assert "younger" in why(registered, project, cutoff=0.0)[0]
    (item,), _ = run_items(registered, project, [], time.time() + 1)
    assert item.run_ids == tuple(ids), "the stages go first"
    notes = Path(registered.client.get_run(ids[0]).info.artifact_uri.removeprefix("file://"))
    assert (notes / "notes.txt").exists()
    for run_id in item.run_ids:
        free_run(registered, project, run_id)
    assert not notes.exists()
    for run_id in ids:
        with pytest.raises(MlflowException, match="not found"):
            registered.client.get_run(run_id)


def test_a_run_that_a_version_came_of_stays(project: Path, registered: Registry) -> None:
    repro(project)
    version = register(project, registered)
    registered.client.set_tag(version.run_id, "branch", "gone")
    assert why(registered, project) == ["a version was registered by it"]


def test_a_run_that_made_what_a_version_has_stays(project: Path, registered: Registry) -> None:
    repro(project)
    version = register(project, registered)
    (child, _) = pipeline(registered, project, {"branch": "gone"})
    registered.client.set_tag(child, "out/models/sft", version.tags["out/models/sft"])
    assert sorted(why(registered, project)) == [
        "a version was registered by it",
        "made what a version has",
    ]


@pytest.mark.parametrize(
    ("tags", "status", "reason"),
    [
        ({"branch": "gone"}, "RUNNING", "has not ended"),
        ({}, "FINISHED", "its commit is not known here"),
    ],
)
def test_what_cannot_be_judged_or_still_runs_stays(
    project: Path, registered: Registry, tags: dict[str, str], status: str, reason: str
) -> None:
    pipeline(registered, project, tags, status)
    assert why(registered, project) == [reason]


def test_a_plain_repro_stays_while_its_commit_is_on_a_branch(
    project: Path, registered: Registry
) -> None:
    git(project, "checkout", "--quiet", "-b", "side")
    made = commit(project, "on a side branch")
    child, _ = pipeline(registered, project, {})
    registered.client.set_tag(child, "git_commit", made)
    assert why(registered, project) == ["its commit is on a branch"]
    git(project, "checkout", "--quiet", "main")
    git(project, "branch", "--delete", "--force", "side")
    assert why(registered, project) == ["free"]


def test_in_a_registry_of_many_only_this_projects_runs_are_judged(
    project: Path, tmp_path: Path
) -> None:
    registry = Registry(f"sqlite:///{tmp_path / 'elsewhere.db'}")
    pipeline(registry, project, {"branch": "gone"})
    assert why(registry, project) == ["is another project's, or does not say whose"]
    pipeline(registry, project, {"branch": "gone", "project": str(project)})
    assert sorted(why(registry, project)) == [
        "free",
        "is another project's, or does not say whose",
    ]


def test_what_a_killed_clean_up_deleted_but_did_not_remove_is_removed_by_the_next(
    project: Path, registered: Registry
) -> None:
    child, parent = pipeline(registered, project, {"branch": "gone"})
    registered.client.set_tag(child, MARK, "now")
    registered.client.delete_run(child)
    by_person, _ = pipeline(registered, project, {"branch": "gone"})
    registered.client.delete_run(by_person)
    freeable, _ = run_items(registered, project, [], time.time() + 1)
    for run_id in [run_id for item in freeable for run_id in item.run_ids]:
        free_run(registered, project, run_id)
    left = registered.client.search_runs(
        [experiment(registered, project)], run_view_type=ViewType.ALL
    )
    assert [run.info.run_id for run in left] == [by_person], "a person may still restore it"
    assert parent not in {run.info.run_id for run in left}
