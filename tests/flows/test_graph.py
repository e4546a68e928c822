"""The flows drive exactly the stages of dvc.yaml, each after those that it needs."""

from pathlib import Path

import pytest

from flows.graph import GROUPS, Graph, read_graph
from llm.errors import ConfigError

ROOT = Path(__file__).parents[2]


def test_the_graph_is_that_of_dvc_yaml_in_an_order_that_works(project: Path) -> None:
    graph = read_graph(project)
    assert graph.needs == {
        "gather": [],
        "instructions": ["gather"],
        "pretrain": ["gather"],
        "report": ["instructions", "pretrain"],
    }
    assert graph.upto("pretrain").needs == {"gather": [], "pretrain": ["gather"]}
    assert graph.upto(None) == graph
    assert graph.upto("train").needs.keys() == {"gather", "instructions", "pretrain"}
    assert graph.group("train") == {"instructions": [], "pretrain": []}


def test_every_stage_of_the_project_is_in_a_subflow_that_runs_after_what_it_needs() -> None:
    graph = read_graph(ROOT)
    assert set(graph.needs) == {stage for stages in GROUPS.values() for stage in stages}
    done: set[str] = set()
    for name in GROUPS:
        for stage in graph.group(name):
            assert set(graph.needs[stage]) <= done
            done.add(stage)


def test_only_some_stages_is_them_and_what_they_read() -> None:
    graph = Graph({"gather": [], "pretrain": ["gather"], "sft": ["pretrain"], "dpo": ["sft"]})
    assert list(graph.only(["sft"]).needs) == ["gather", "pretrain", "sft"]
    assert list(graph.only(["dpo", "sft"]).needs) == list(graph.needs)
    with pytest.raises(ConfigError, match=r"sft reads what pretrain makes.*add it to `only`"):
        graph.only(["pretrain", "dpo"])


def test_a_stage_that_is_not_there_is_named(project: Path) -> None:
    for name in ("trian", "train"):  # the group has no stage there
        with pytest.raises(ConfigError, match=rf"upto='{name}'.*corpus.*gather"):
            Graph({"gather": []}).upto(name)
    with pytest.raises(ConfigError, match=r"only=\['trian'\].*gather"):
        Graph({"gather": []}).only(["trian"])
    dvc_yaml = project / "dvc.yaml"
    dvc_yaml.write_text(dvc_yaml.read_text() + "  extra:\n    cmd: echo\n")
    with pytest.raises(ConfigError, match=r"stages extra; add them to GROUPS"):
        read_graph(project)
    dvc_yaml.write_text("stages: 3\n")
    with pytest.raises(ConfigError, match="cannot read the graph"):
        read_graph(project)
