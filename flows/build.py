"""One run of the chain: a worktree, its params, what the cache has, and the stages that are left.

Each run works in a git worktree of its own (flows/worktree.py) and is one parent run in
MLflow with the stages as its children. Its stages are tasks of a sub-flow per group, each
beginning when those that it needs are done.
"""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prefect import flow, get_run_logger
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner

from flows.alive import alive
from flows.artifacts import Artifacts
from flows.command import end_live
from flows.earlier import earlier_results
from flows.form import Request
from flows.graph import Graph, read_graph
from flows.inputs import check_inputs
from flows.links import records_link
from flows.progress import Progress
from flows.remote import push_results
from flows.stage import Run, Workplace, run_stage
from flows.worktree import Worktree, git, worktree
from llm.config.params import load_params
from llm.config.stages import GROUPS
from llm.corpus.sources.size import text_bytes
from llm.errors import ConfigError, LLMError
from llm.plan.preflight import check_run
from llm.process import SHARED_WORK
from llm.tracking.lineage import git_tags, out_md5s, read_lock
from llm.tracking.results import record_results
from llm.tracking.spool import recording_pipeline, tracking_is_on, tracking_uri
from llm.worktree import SHARED


def build(request: Request, start: str = "HEAD") -> None:
    """Make what the request asks for, within the flow run that calls; raises the first failure.

    The run's worktree begins at the commit `start`.
    """
    root = Path.cwd()
    name, run_id = str(flow_run.name), str(flow_run.id)
    with alive(root, run_id), worktree(root, name, run_id, start) as tree:
        _announce(root, tree)
        with _discarded_if_refused(root, tree):
            request.write_params(tree)
            params = load_params(tree.folder / "params.yaml")
            graph = request.stages(read_graph(tree.folder))
        spool = root / ".llm" / "tracking" / f"flow-{run_id}-{flow_run.run_count}"
        workplace = Workplace(
            tree.folder, {**shared_environment(root), **_recording_environment(spool)}
        )
        values = params.model_dump(by_alias=True, mode="json")
        tags = {"branch": tree.branch, "prefect_flow_run": run_id, **_commit_tag(tree)}
        with recording_pipeline(spool, name, values, tags) as recorder:
            try:
                with _discarded_if_refused(root, tree):
                    restored = _restore(root, tree, graph, request, workplace)
                    left = [stage for stage in graph.needs if stage not in restored]
                    check_inputs(root, tree.folder, params, left)
                    text = text_bytes(params.gather) if "gather" in left else None
                    check_run(params, left, text, tree.folder, root / SHARED)
                run = Run(
                    flow_run_id=run_id,
                    workplace=workplace,
                    timeout_s=request.stage_timeout_s,
                    restored=restored,
                    forced=frozenset(request.only or ()),
                    progress=Progress(run_id, graph.needs, restored),
                    artifacts=Artifacts(run_id, tree.folder, params),
                )
                for group in GROUPS:
                    if needs := graph.group(group):
                        run_group(group, needs, run, request.stages_at_once)
            finally:
                if tree.folder.exists():
                    _keep_results(tree, name, spool)
                    record_results(recorder, tree.folder)
            run.artifacts.show("links", _links(tree, spool))
            if push_results(tree.folder, get_run_logger().info):
                get_run_logger().info("pushed to the DVC remote")


def run_group(group: str, needs: dict[str, list[str]], run: Run, stages_at_once: int) -> None:
    """A sub-flow with a group's stages as its tasks.

    It is made anew for each run, so that what a run is given, addresses with
    credentials among it, is no parameter, which Prefect would store and show.
    """
    runner: Any = ThreadPoolTaskRunner(max_workers=stages_at_once)  # Prefect's types refuse it

    @flow(name=group, flow_run_name=group, task_runner=runner)
    def stages_of_group(stages: list[str]) -> None:
        run_stages(needs, run)

    stages_of_group(list(needs))


def run_stages(needs: dict[str, list[str]], run: Run) -> None:
    """Run the stages, each once those that it needs are done; raises the first failure."""
    futures: dict[str, PrefectFuture[Any]] = {}
    with alive(Path.cwd(), str(flow_run.id)):
        try:
            for stage, before in needs.items():
                ready = [futures[need] for need in before]
                futures[stage] = run_stage.submit(stage, run, return_state=False, wait_for=ready)
            wait(list(futures.values()))
        except BaseException:
            run.workplace.ending.set()  # a cancellation is raised here, while stages run in threads
            raise
        finally:
            end_live()
    for future in futures.values():
        if future.state.is_failed() or future.state.is_crashed():
            future.result(raise_on_failure=True)


@contextmanager
def _discarded_if_refused(root: Path, tree: Worktree) -> Iterator[None]:
    """What was asked for is not possible: nothing has been done that a retry could continue."""
    try:
        yield
    except LLMError:
        if flow_run.run_count == 1:
            tree.discard(root)
        raise


def _announce(root: Path, tree: Worktree) -> None:
    logger = get_run_logger()
    logger.info("branch %s, in %s", tree.branch, tree.folder)
    stages = read_lock(root / "dvc.lock")
    written = {path for stage in stages.values() for path in out_md5s(stage)} | {"dvc.lock"}
    if git_tags(written)["git_dirty"] == "true":
        logger.warning("the checkout has changes that are not committed; this run has them not")


def _restore(
    root: Path, tree: Worktree, graph: Graph, request: Request, workplace: Workplace
) -> dict[str, str]:
    """Check out what the cache has, and say how for each stage; with `only`, that has to be all."""
    forced = request.only or []
    asked = [stage for stage in graph.needs if stage not in forced]
    known = [f"--earlier={folder}" for folder in earlier_results(root, tree)]
    restored: dict[str, str] = {}

    def take(line: str) -> None:
        if line.startswith("{"):
            found = json.loads(line)
            restored[found["stage"]] = found["how"]
        else:
            get_run_logger().info(line)

    if asked:
        workplace.run("flows.restore", [*known, *asked], take)
    get_run_logger().info("%d of %d stages are in the cache", len(restored), len(graph.needs))
    missing = [stage for stage in asked if stage not in restored]
    if forced and missing:
        raise ConfigError(
            f"only={forced}: what {'it reads' if len(forced) == 1 else 'they read'} is not made yet "
            f"with these params: {', '.join(missing)}; leave `only` empty, or make them first"
        )
    return restored


def _links(tree: Worktree, spool: Path) -> str:
    """Where the run's results and records are."""
    back = f"git checkout {tree.branch} && dvc checkout"
    return f"# Results\n\nBranch `{tree.branch}`: `{back}`\n\n{records_link(spool)}\n"


def shared_environment(root: Path) -> dict[str, str]:
    """What the stages of all runs share; DVC's caching does not see it."""
    return {
        "LLM_STAGE_LOCKS": str(root / ".llm" / "locks"),
        "LLM_RUN_NAME": str(flow_run.name),
        SHARED_WORK: str(root / SHARED),
    }


def _recording_environment(spool: Path) -> dict[str, str]:
    """What makes the stages' records one pipeline run."""
    return {
        "LLM_PIPELINE": spool.name,
        "LLM_PIPELINE_PID": str(os.getpid()),
        "LLM_SPOOL": str(spool.parent),
        "MLFLOW_TRACKING_URI": tracking_uri(spool),
    }


def _commit_tag(tree: Worktree) -> dict[str, str]:
    return {"git_commit": git(tree.folder, "rev-parse", "HEAD")}


def _keep_results(tree: Worktree, name: str, spool: Path) -> None:
    """Commit params, dvc.lock and metrics on the run's branch; dvc.lock also to MLflow's sender."""
    lock = tree.folder / "dvc.lock"
    if lock.exists() and tracking_is_on():
        shutil.copy(lock, spool / lock.name)
    tree.commit(f"results of {name}")
