"""Many runs of the chain that differ in some params, side by side, and the page that compares them.

    prefect deployment run sweep/default --param metric=pretrain/val/loss \\
        --param 'space={"pretrain.optim.lr": [1e-3, 2e-3], "model.n_layer": [2, 4]}'

Each point is a run of build-llm/default on a worktree and branch of its own. DVC gives what
points share, and what an earlier sweep has made, from its cache.
"""

import difflib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.runtime import flow_run
from prefect.states import Completed
from pydantic import NonNegativeInt, PositiveInt

from flows.alive import alive
from flows.children import Child, run_children
from flows.form import Preset, StageTimeout, Upto
from flows.refusal import failing_plainly
from flows.sweep_plan import checked
from llm.errors import LLMError
from llm.git import git
from llm.sweep.curves import read_curves
from llm.sweep.plan import Goal, Method, Metric, Plan, Space
from llm.sweep.points import Point
from llm.sweep.results import WAITING, Row, best_row, find_metric
from llm.tracking.results import files_at, read_results
from llm.worktree import cache_folder

BUILD = "build-llm/default"
STATES = {StateType.SCHEDULED: WAITING, StateType.PENDING: WAITING}  # others as Prefect calls them
NOTE_CHARACTERS = 2000

NO_SPACE: dict[str, Any] = {}
ALL_SECTIONS: list[str] = []


@flow(
    name="sweep", description="The chain again and again with other params, compared by a metric."
)
@failing_plainly
def sweep(
    metric: Metric,
    goal: Goal = "min",
    method: Method = "grid",
    space: Space = NO_SPACE,
    samples: PositiveInt | None = None,
    seed: NonNegativeInt = 1,
    seed_sections: list[str] = ALL_SECTIONS,
    preset: Preset = None,
    upto: Upto = None,
    at_once: PositiveInt = 2,
    skip_impossible: bool = False,
    register_best: bool = False,
    stage_timeout_s: StageTimeout = None,
) -> State:
    """Run the chain for every point of a space of params, and compare them by a metric.

    Args:
        metric: STAGE/KEY, the key as `dvc metrics show` has it in metrics/STAGE.json, e.g.
            `pretrain/val/bpb` or `benchmark/sft.exact_match`.
        goal: Whether a lower or a higher value is better.
        method: grid: every combination; random: draws from the space; seeds: every combination
            again and again with other seeds, compared by mean and standard error.
        space: Dotted keys of params.yaml, each with a list of values or, for random, a range, e.g.
            `{"dpo.beta": {"low": 0.01, "high": 1, "log": true}, "model.n_layer": [2, 4]}`.
        samples: How many points to draw (random), or seeds per combination (seeds).
        seed: Of the draws (random), or the first one (seeds).
        seed_sections: For seeds: sections whose `seed` changes; of every stage that runs by default.
        preset: A file of presets/, applied to the committed params.yaml of every point.
        upto: The last stage or group of every point; the metric's stage by default.
        at_once: How many points run side by side.
        skip_impossible: Leave out points that params.yaml's rules refuse, instead of refusing all.
        register_best: Then run the whole chain on the best point, which registers its model.
        stage_timeout_s: Seconds after which a stage of a point is ended, and the point failed.
    """
    root = Path.cwd()
    asked = {
        "metric": metric,
        "goal": goal,
        "method": method,
        "space": space,
        "samples": samples,
        "seed": seed,
        "seed_sections": seed_sections,
        "preset": preset,
        "upto": upto or metric.partition("/")[0],
        "at_once": at_once,
        "skip_impossible": skip_impossible,
        "register_best": register_best,
        "stage_timeout_s": stage_timeout_s,
    }
    with alive(root, str(flow_run.id)):
        plan, points, skipped = checked(root, asked)
        for reason in skipped:
            get_run_logger().warning("left out: %s", reason)
        return _Sweep(root, plan, points, skipped).run()


class _Sweep:
    """The points' runs, and what is known of them."""

    def __init__(self, root: Path, plan: Plan, points: list[Point], skipped: list[str]) -> None:
        from flows.sweep_pages import SweepPages  # charts and MLflow take seconds to import

        self._root, self._plan = root, plan
        self._name = fit_name(str(flow_run.name))
        self._rows = [Row(point) for point in points]
        self._pages = SweepPages(root, self._name, str(flow_run.id), plan, self._rows, skipped)
        self._logger = get_run_logger()
        self._cache = cache_folder(root)

    def run(self) -> State:
        """Run every point, compare them, and register the best if that was asked for."""
        self._logger.info("%d points, %d at once", len(self._rows), self._plan.at_once)
        head = git(self._root, "rev-parse", "HEAD")
        points = [
            Child(f"{self._name}-{row.point.number}", self._request(row.point, self._plan.upto))
            for row in self._rows
        ]
        try:
            run_children(BUILD, points, self._plan.at_once, self._changed, self._pages.refresh)
        finally:
            self._pages.show()
        if git(self._root, "rev-parse", "HEAD") != head:
            self._logger.warning("commits came in between: not all points have the same code")
        self._pages.keep()
        best = best_row(self._rows, self._plan.goal)
        if best is None:
            notes = "\n".join(dict.fromkeys(row.note for row in self._rows if row.note))
            raise LLMError(f"no point has a value of {self._plan.metric}:\n{notes}")
        said = f"best: point {best.point.number} ({best.point}), {best.value:.6g}"
        if self._plan.register_best:
            said += f"; registered by {self._register(best)}"
        return Completed(message=said)

    def _request(self, point: Point, upto: str | None) -> dict[str, Any]:
        """What a run of the point is asked for."""
        return {
            "preset": self._plan.preset,
            "overrides": point.overrides,
            "upto": upto,
            "stage_timeout_s": self._plan.stage_timeout_s,
        }

    def _changed(self, index: int, run: FlowRun) -> None:
        """Note the new state of a point's run; its results, once it has ended."""
        row = self._rows[index]
        assert run.state is not None, "Prefect keeps a state of every run"
        row.state = STATES.get(run.state.type, run.state.type.value.lower())
        self._pages.began(row, str(run.id))
        if run.state.is_final():
            row.seconds = run.total_run_time.total_seconds()
            self._read_results(row, run, run.state)
            value = row.note if row.value is None else f"{self._plan.metric} = {row.value:.6g}"
            self._logger.info("point %d (%s) %s: %s", row.point.number, row.point, row.state, value)

    def _read_results(self, row: Row, run: FlowRun, state: State) -> None:
        row.branch = branch_of(self._root, run.name, str(run.id))
        if not state.is_completed() or row.branch is None:
            row.note = (state.message or row.state)[:NOTE_CHARACTERS]
            return
        read = files_at(self._root, row.branch)
        try:
            metrics = read_results(read).metrics
            row.curves = read_curves(read, self._cache)
        except LLMError as error:
            row.note = str(error)
            return
        if found := find_metric(metrics, self._plan.metric):
            row.value, row.stderr = found
        else:
            row.note = _no_metric(self._plan.metric, metrics)

    def _register(self, best: Row) -> str:
        """Run the whole chain on the best point, and say on which branch.

        What is made already comes from the cache.
        """
        child = Child(f"{self._name}-best", self._request(best.point, None))
        runs: list[FlowRun] = []
        run_children(BUILD, [child], 1, lambda _, run: runs.append(run))
        ended = runs[-1]
        if ended.state is None or not ended.state.is_completed():
            message = ended.state.message if ended.state else ""
            raise LLMError(f"the best point was found, but run {ended.name} failed: {message}")
        return branch_of(self._root, ended.name, str(ended.id)) or ended.name


def fit_name(name: str) -> str:
    """The name as a branch, a folder and a file can have it."""
    return re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-") or "sweep"


def branch_of(root: Path, name: str, run_id: str) -> str | None:
    """The branch that the run has worked on; None when it has not come as far as to have one."""
    for branch in (f"run/{name}-{run_id[:8]}", f"run/{name}"):  # the first where names recur
        if git(root, "branch", "--list", branch):
            return branch
    return None


def _no_metric(metric: str, metrics: Mapping[str, float]) -> str:
    near = difflib.get_close_matches(metric, metrics, n=3, cutoff=0.4)
    stage = metric.partition("/")[0]
    known = near or [key for key in metrics if key.startswith(f"{stage}/")]
    return f"the run has no metric {metric!r}; nearest: {', '.join(known) or 'none'}"
