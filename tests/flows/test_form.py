"""What a filled-in form amounts to: committed values, then preset, then changes, then overrides."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools import validate as validate_schema

from flows import form
from flows.form import Request, prefilled
from flows.graph import Graph
from flows.pipeline import align, build_llm
from flows.worktree import Worktree
from llm.config.base import read_yaml, validate
from llm.config.params import Params, load_params
from llm.config.presets import preset_names
from llm.errors import ConfigError
from tests.conftest import ROOT
from tests.flows.conftest import git

GRAPH = Graph({"gather": [], "pretrain": ["gather"], "sft": ["pretrain"]})


@pytest.fixture
def tree(project: Path) -> Worktree:
    """A checkout with presets."""
    shutil.copytree(ROOT / "presets", project / "presets")
    return Worktree(project, "run/calm-hare")


def test_each_layer_overrides_the_one_before(tree: Worktree, monkeypatch) -> None:
    opened = prefilled(tree.folder)["params"]
    monkeypatch.setattr(form, "_prefilled_params", lambda: opened)
    filled = {
        **opened,
        "dpo": {**opened["dpo"], "beta": 0.3, "seed": 7},
        "extract": {**opened["extract"], "min_characters": 30},
    }
    request = Request(
        preset="smoke", params=validate(Params, filled, ""), overrides={"dpo.seed": 8}
    )
    request.write_params(tree)
    values = read_yaml(tree.folder / "params.yaml")
    assert values["model"]["n_layer"] == 2  # the preset's, not the form's untouched 4
    assert values["extract"]["min_characters"] == 30
    assert values["dpo"]["beta"] == 0.3
    assert values["dpo"]["seed"] == 8
    assert git(tree.folder, "log", "-1", "--format=%s") == "params of run/calm-hare"
    request.write_params(tree)  # as a retry does
    assert read_yaml(tree.folder / "params.yaml") == values


def test_a_depth_in_the_form_or_the_overrides_sets_what_goes_with_it(
    tree: Worktree, monkeypatch
) -> None:
    opened = prefilled(tree.folder)["params"]
    monkeypatch.setattr(form, "_prefilled_params", lambda: opened)
    filled = validate(Params, {**opened, "model": {**opened["model"], "depth": 6}}, "")
    Request(params=filled).write_params(tree)
    assert load_params(tree.folder / "params.yaml").model.n_embd == 384
    Request(overrides={"model.depth": 2}).write_params(tree)
    assert load_params(tree.folder / "params.yaml").model.n_embd == 128
    with pytest.raises(ConfigError, match=r"model.depth=2 sets model.n_embd=128 \(here 64\)"):
        Request(overrides={"model.n_embd": 64}).write_params(tree)


def test_without_a_deployment_all_of_params_counts(tree: Worktree) -> None:
    values = read_yaml(tree.folder / "params.yaml")
    values["model"]["n_layer"] = 3
    Request(preset="smoke", params=validate(Params, values, "")).write_params(tree)
    assert read_yaml(tree.folder / "params.yaml") == values


def test_nothing_asked_for_changes_not_a_byte(tree: Worktree) -> None:
    before = (tree.folder / "params.yaml").read_bytes()
    Request().write_params(tree)
    assert (tree.folder / "params.yaml").read_bytes() == before
    assert git(tree.folder, "log", "-1", "--format=%s") == "first"


def test_what_is_asked_for_is_refused_in_words(tree: Worktree) -> None:
    with pytest.raises(ConfigError, match=r"no key 'dpo.betta'; did you mean 'dpo.beta'\?"):
        Request(overrides={"dpo.betta": 1}).write_params(tree)
    with pytest.raises(ConfigError, match=r"upto='sft' and only=\['sft'\] are both given"):
        Request(upto="sft", only=["sft"]).stages(GRAPH)
    assert list(Request(only=["pretrain"]).stages(GRAPH).needs) == ["gather", "pretrain"]
    assert list(Request(upto="train").stages(GRAPH).needs) == ["gather", "pretrain"]
    assert Request().stages(GRAPH) == GRAPH


def test_the_form_has_choices_descriptions_and_bounds() -> None:
    schema = parameter_schema(build_llm.fn).model_dump()
    shown = schema["properties"]
    assert set(shown) == {
        "preset",
        "params",
        "overrides",
        "upto",
        "only",
        "stages_at_once",
        "stage_timeout_s",
    }
    assert all(field["description"] for field in shown.values())
    assert shown["preset"]["enum"] == [*preset_names(ROOT / "presets"), None]
    assert {"corpus", "train", "align", "evaluate", "gather", "register"} <= set(
        shown["upto"]["enum"]
    )
    beta = schema["definitions"]["DpoConfig"]["properties"]["beta"]
    assert beta["title"] == "beta"
    assert beta["description"] == "Strength of the pull towards the reference model."
    assert beta["exclusiveMinimum"] == 0
    precision = schema["definitions"]["PretrainConfig"]["properties"]["precision"]
    assert precision["enum"] == ["fp32", "bf16", "bf16_weights", "fp16", "float8"]
    part = parameter_schema(align.fn).model_dump()["properties"]
    assert set(part) == set(shown) - {"upto", "only"}
    assert part["params"]["description"] == shown["params"]["description"]


def test_the_untouched_form_is_valid_and_a_bad_value_is_not() -> None:
    """Prefect's server and its UI validate by this schema; the UI sends defaults as they are."""
    schema = parameter_schema(build_llm.fn).model_dump()
    sent = {name: field.get("default") for name, field in schema["properties"].items()}
    sent["params"] = prefilled(ROOT)["params"]
    assert not validate_schema(sent, schema, raise_on_error=False)
    for bad in (
        {"preset": "huge"},
        {"upto": "trian"},
        {"only": ["trian"]},
        {"stages_at_once": 0},
        {"params": {**sent["params"], "dpo": {**sent["params"]["dpo"], "beta": 0}}},
        {"params": {**sent["params"], "dpoo": {}}},
    ):
        assert validate_schema({**sent, **bad}, schema, raise_on_error=False), bad


def test_importing_the_flows_imports_no_torch() -> None:
    code = "import sys, flows.pipeline; sys.exit('torch' in sys.modules or 'mlflow' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False).returncode == 0
