"""A version leads back to its runs, params, commit and packages; what is not known is empty."""

from pathlib import Path

import pytest
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from llm.errors import DataError, TrackingError
from llm.registry.lineage import trace
from llm.registry.packages import differences, read_packages, write_packages
from llm.registry.record import changed_code, read_record
from llm.registry.versions import Registry, Version, open_registry
from tests.registry.project import commit, experiment, git, register, repro, set_params


@pytest.fixture
def version(project: Path, registered: Registry) -> Version:
    """Of a committed project whose params are not the commit's."""
    commit(project, "the code")
    set_params(project, documents=2, seed=7)
    repro(project)
    return register(project, registered)


def stage_run(registry: Registry, project: Path, stage: str, parent: str, out: str) -> str:
    client = registry.client
    tags = {"stage": stage, MLFLOW_PARENT_RUN_ID: parent}
    run = client.create_run(experiment(registry, project), tags=tags, run_name=stage)
    client.set_tag(run.info.run_id, f"out/{out.partition('=')[0]}", out.partition("=")[2])
    client.set_terminated(run.info.run_id)
    return run.info.run_id


def test_a_version_leads_back_to_code_params_and_packages(
    project: Path, registered: Registry, version: Version
) -> None:
    found = trace(registered, version, project)
    assert found.record.commit == git(project, "rev-parse", "HEAD")
    assert found.commit is not None
    assert found.commit["subject"] == "the code"
    assert found.changed_code == []
    assert found.changed_params == {
        "gather.max_documents": ("0", "2"),
        "sft.seed": ("1", "7"),
    }
    assert found.packages_differ == {}
    assert set(found.record.stages) == {"gather", "sft", "report"}
    assert found.record.metrics["sft"] == {"seed": 7}
    assert found.as_json()["version"]["uri"] == "models:/llm/1"


def test_a_restored_stage_leads_to_the_earlier_run_that_made_it(
    project: Path, registered: Registry, version: Version
) -> None:
    client = registered.client
    place = experiment(registered, project)
    earlier, own = (client.create_run(place, run_name=name).info.run_id for name in ("a", "b"))
    outs = {path: f"{path}={version.tags[f'out/{path}']}" for path in ("data/gather", "models/sft")}
    made = stage_run(registered, project, "gather", earlier, outs["data/gather"])
    stage_run(registered, project, "sft", earlier, outs["models/sft"])
    again = stage_run(registered, project, "sft", own, outs["models/sft"])
    stage_run(registered, project, "sft", own, "models/sft=another")
    client.set_tag(version.run_id, MLFLOW_PARENT_RUN_ID, own)
    found = trace(registered, version, project)
    assert found.parent is not None
    assert found.parent.run_id == own
    assert {stage: run.run_id for stage, run in found.stages.items()} == {
        "gather": made,
        "sft": again,
    }


def test_changed_code_is_named_file_by_file_and_folder_by_folder(
    project: Path, registered: Registry
) -> None:
    (project / "lib" / "more.py").write_text("y = 1\n")
    with (project / "stage.py").open("a") as file:
        file.write("# changed\n")
    repro(project)
    record = read_record(registered, register(project, registered), project)
    assert record.dirty
    assert changed_code(record, project) == ["lib", "stage.py"]


def test_what_an_older_version_does_not_keep_comes_from_its_commit_if_the_hash_is_right(
    project: Path, registered: Registry
) -> None:
    repro(project)
    older = read_record(registered, register(project, registered, older=True), project)
    assert older.stages == {}
    assert older.params["sft"]["seed"] == 1
    assert set(older.outs) >= {"data/gather", "models/sft", "metrics/gather.json"}
    assert older.code["stage.py"]
    set_params(project, documents=2, seed=2)
    other = read_record(registered, register(project, registered, older=True), project)
    assert other.params == {}


def test_a_commit_that_is_elsewhere_leaves_unknown_what_it_would_say(
    project: Path, registered: Registry, version: Version
) -> None:
    registered.set_tags(version, {"git_commit": "1" * 40})
    found = trace(registered, registered.find("1", "llm"), project)
    assert (found.commit, found.changed_code, found.changed_params) == (None, None, {})


def test_gates_and_decisions_are_part_of_it(
    project: Path, registered: Registry, version: Version
) -> None:
    registered.set_tags(version, {"gate/size": "pass", "gate/bpb": "fail"})
    found = trace(registered, registered.find("1", "llm"), project)
    assert found.verdicts == {"size": "pass", "bpb": "fail"}
    assert found.moves == []


def test_asking_makes_no_empty_registry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(TrackingError, match=r"no registry .*mlflow\.db; `make repro` makes it"):
        open_registry(tmp_path / ".llm")
    assert not (tmp_path / ".llm").exists()


def test_packages_are_compared_python_first(tmp_path: Path) -> None:
    then = {"python": "3.11.1", "numpy": "2.0", "old": "1"}
    now = {"python": "3.11.2", "numpy": "2.0", "new": "1"}
    assert differences(then, now) == {
        "python": ("3.11.1", "3.11.2"),
        "new": (None, "1"),
        "old": ("1", None),
    }
    assert next(iter(differences(then, now))) == "python"
    write_packages(tmp_path / "packages.txt", then)
    assert read_packages(tmp_path / "packages.txt") == then
    (tmp_path / "packages.txt").write_text("numpy\n")
    with pytest.raises(DataError, match=r"packages\.txt:1: 'numpy' is not name==version"):
        read_packages(tmp_path / "packages.txt")
