"""dvc.yaml's deps against the real import graph, and one name in five places."""

import ast
from functools import cache
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from llm.config.params import Params
from llm.config.stages import STAGES
from tests.conftest import ROOT

GRAPH = YAML(typ="safe").load(ROOT / "dvc.yaml")["stages"]
PACKAGES = ("llm", "evals", "flows")
# Validation of the whole file and of what fits refuses and never changes a result: no stage depends on it.
NOT_DEPS = {
    ("llm/process.py", "llm/config/params.py"),
    ("llm/process.py", "llm/plan/preflight.py"),
}
BY_NAME = {
    "evals/harness.py": ["evals/items.py"],  # the tasks' YAML files name its functions
    "llm/registry/entry.py": ["llm/serve/pyfunc_model.py"],  # given to MLflow as a path
}


def module_file(name: str) -> Path | None:
    """The file of a module of ours."""
    base = ROOT.joinpath(*name.split("."))
    return next((f for f in (base.with_suffix(".py"), base / "__init__.py") if f.is_file()), None)


@cache
def imported(path: Path) -> frozenset[Path]:
    """Files of ours that a file imports, anywhere in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        files = [module_file(name) for name in names if name.split(".")[0] in PACKAGES]
        found |= {file for file in files if file}
    own = path.relative_to(ROOT).as_posix()
    found |= {ROOT / name for name in BY_NAME.get(own, [])}
    return frozenset(f for f in found if (own, f.relative_to(ROOT).as_posix()) not in NOT_DEPS)


def closure(path: Path) -> set[str]:
    """Every file of ours that running `path` may import, itself included; bare package files left out."""
    seen, todo = set(), [path]
    while todo:
        file = todo.pop()
        if file not in seen:
            seen.add(file)
            todo += imported(file)
    return {f.relative_to(ROOT).as_posix() for f in seen if not is_bare(f)}


def is_bare(path: Path) -> bool:
    """An `__init__.py` of nothing but a docstring."""
    return path.name == "__init__.py" and all(
        isinstance(n, ast.Expr) for n in ast.parse(path.read_text()).body
    )


def stage_file(name: str) -> Path:
    file = module_file(GRAPH[name]["cmd"].removeprefix("exec python -m "))
    assert file, GRAPH[name]["cmd"]
    return file


@pytest.mark.parametrize("name", GRAPH)
def test_a_stage_takes_the_place_of_its_shell(name: str) -> None:
    assert GRAPH[name]["cmd"].startswith("exec python -m ")


def code_deps(name: str) -> list[str]:
    """The deps that are Python files or packages; evals/tasks and evals/rubrics are data."""
    ours = [dep for dep in GRAPH[name]["deps"] if dep.split("/")[0] in PACKAGES]
    return [dep for dep in ours if dep.endswith(".py") or list((ROOT / dep).glob("*.py"))]


def covers(dep: str, file: str) -> bool:
    return file == dep or file.startswith(dep + "/")


def test_the_stages_are_those_of_the_graph_in_its_order() -> None:
    assert tuple(GRAPH) == STAGES


@pytest.mark.parametrize("name", STAGES)
def test_deps_name_exactly_what_the_stage_imports(name: str) -> None:
    needed, given = closure(stage_file(name)), code_deps(name)
    missing = sorted(f for f in needed if not any(covers(dep, f) for dep in given))
    needless = sorted(dep for dep in given if not any(covers(dep, f) for f in needed))
    assert not missing, f"dvc.yaml, stage {name}: add {missing}"
    assert not needless, f"dvc.yaml, stage {name}: remove {needless}"


@pytest.mark.parametrize("name", STAGES)
def test_one_name_in_five_places(name: str) -> None:
    keys = {field.alias or key for key, field in Params.model_fields.items()}
    assert name in keys
    given = {key.partition(".")[0] for key in GRAPH[name]["params"]}
    assert name in given
    assert stage_file(name).stem == name
    main = next(
        node
        for node in ast.walk(ast.parse(stage_file(name).read_text()))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "main"
    )
    assert isinstance(main.args[0], ast.Constant)
    assert main.args[0].value == name
    sections = {keyword.arg for keyword in main.keywords}
    assert sections | {"paths"} == given


def test_editing_the_judge_reruns_no_training() -> None:
    for name in ("pretrain", "sft", "preferences", "reward", "dpo"):
        assert not any(dep.startswith("evals") or "evaluation" in dep for dep in code_deps(name))
