"""A sweep's plan and points against the project: everything that can be wrong, before anything runs."""

import difflib
from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from flows.graph import read_graph
from llm.config.base import parse_yaml, validate
from llm.config.presets import apply_preset
from llm.errors import ConfigError
from llm.git import git
from llm.sweep.plan import Plan
from llm.sweep.points import Point, points_of, possible


def checked(root: Path, asked: Mapping[str, Any]) -> tuple[Plan, list[Point], list[str]]:
    """The plan, its possible points, and why others are left out; ConfigError with every error."""
    plan = validate(Plan, asked, "")
    graph = read_graph(root)
    errors: list[str] = []
    if plan.metric_stage not in graph.needs:
        near = difflib.get_close_matches(plan.metric_stage, graph.needs, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(graph.needs)}"
        raise ConfigError(f"metric={plan.metric!r}: no stage {plan.metric_stage!r}; {hint}")
    stages = graph.upto(plan.upto).needs
    if plan.metric_stage not in stages:
        errors.append(f"upto={plan.upto!r} does not reach {plan.metric_stage}, the metric's stage")
    try:
        text = committed_params(root, plan.preset)
        points = points_of(plan, parse_yaml(text, "params.yaml"), stages)
        kept, skipped = possible(points, text, skip=plan.skip_impossible)
    except ConfigError as error:
        raise ConfigError("\n".join([*errors, str(error)])) from None
    if errors:
        raise ConfigError("\n".join(errors))
    return plan, kept, skipped


def committed_params(root: Path, preset: str | None) -> str:
    """params.yaml's text as the points find it: of the last commit, with the preset's values."""
    text = git(root, "show", "HEAD:params.yaml")
    if preset is None:
        return text
    with TemporaryDirectory() as folder:
        for path in git(root, "ls-tree", "--name-only", "HEAD", "presets/").splitlines():
            target = Path(folder) / Path(path).name
            target.write_text(git(root, "show", f"HEAD:{path}"), encoding="utf-8")
        return apply_preset(text, preset, Path(folder))
