"""The whole chain as a flow: sub-flows corpus, training and evaluation over the DVC graph.

    PREFECT_API_URL=… prefect deployment run build-llm/default --param preset=smoke

Each run works in a git worktree of its own (flows/worktree.py) and is one parent run in
MLflow with the stages as its children. Plain `dvc repro` does the same work without Prefect.
"""

import os
import shutil
from pathlib import Path
from typing import Annotated, Any

from prefect import Flow, flow, get_run_logger
from prefect.futures import PrefectFuture, wait
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import Field, PositiveFloat, PositiveInt

from flows.alive import alive
from flows.command import end_live
from flows.graph import read_graph
from flows.stage import Run, run_stage
from flows.worktree import Worktree, git, worktree
from llm.config.base import read_yaml
from llm.config.params import Params
from llm.config.presets import apply_preset, apply_values
from llm.errors import ConfigError
from llm.files import read_text, write_text
from llm.tracking.spool import recording_pipeline, tracking_is_on, tracking_uri

Needs = dict[str, list[str]]  # stage -> the stages before it, in an order that works


@flow(name="corpus", flow_run_name="corpus")
def corpus(needs: Needs, run: Run) -> None:
    """Raw text to token shards."""
    run_stages(needs, run)


@flow(name="training", flow_run_name="training")
def training(needs: Needs, run: Run) -> None:
    """Token shards to the aligned model."""
    run_stages(needs, run)


@flow(name="evaluation", flow_run_name="evaluation")
def evaluation(needs: Needs, run: Run) -> None:
    """Models to scores, report and registry."""
    run_stages(needs, run)


SUBFLOWS: tuple[Flow[Any, None], ...] = (corpus, training, evaluation)


@flow(name="build-llm")
def build_llm(
    preset: Annotated[str | None, Field(description="A file of presets/, e.g. smoke")] = None,
    params: Annotated[
        Params | None, Field(description="All of params.yaml, instead of what is committed")
    ] = None,
    upto: Annotated[str | None, Field(description="Last stage to make; all by default")] = None,
    stages_at_once: Annotated[PositiveInt, Field(description="Independent stages overlap")] = 2,
    stage_timeout_s: Annotated[PositiveFloat | None, Field(description="Per stage")] = None,
) -> None:
    """Raw text to a registered model, in a worktree of its own, recorded in Prefect and MLflow."""
    root = Path.cwd()
    name, run_id = str(flow_run.name), str(flow_run.id)
    _check_choice(preset, params)
    with alive(root, run_id), worktree(root, name, run_id) as tree:
        _announce(root, tree)
        _write_params(tree, preset, params)
        graph = read_graph(tree.folder).upto(upto)
        spool = root / ".llm" / "tracking" / f"flow-{run_id}-{flow_run.run_count}"
        environment = _environment(spool)
        run = Run(
            flow_run_id=run_id,
            folder=tree.folder,
            environment=environment,
            stage_timeout_s=stage_timeout_s,
        )
        runner: Any = ThreadPoolTaskRunner(max_workers=stages_at_once)  # Prefect's types refuse it
        values = read_yaml(tree.folder / "params.yaml")
        tags = {"branch": tree.branch, "prefect_flow_run": run_id, **_commit_tag(tree)}
        with recording_pipeline(spool, name, values, tags):
            try:
                for subflow in SUBFLOWS:
                    if needs := graph.group(subflow.name):
                        subflow.with_options(task_runner=runner)(needs, run)
            finally:
                _keep_results(tree, name, spool)


def run_stages(needs: Needs, run: Run) -> None:
    """Run the stages, each once those that it needs are done; raises the first failure."""
    futures: dict[str, PrefectFuture[Any]] = {}
    with alive(Path.cwd(), str(flow_run.id)):
        try:
            for stage, before in needs.items():
                ready = [futures[need] for need in before]
                futures[stage] = run_stage.submit(stage, run, return_state=False, wait_for=ready)
            wait(list(futures.values()))
        finally:
            end_live()  # a cancellation is raised here, while the stages run in threads
    for future in futures.values():
        if future.state.is_failed() or future.state.is_crashed():
            future.result(raise_on_failure=True)


def _check_choice(preset: str | None, params: Params | None) -> None:
    if preset is not None and params is not None:
        raise ConfigError(f"preset={preset!r} and params are both given; choose one")


def _announce(root: Path, tree: Worktree) -> None:
    logger = get_run_logger()
    logger.info("branch %s, in %s", tree.branch, tree.folder)
    if git(root, "status", "--porcelain"):
        logger.warning("the checkout has changes that are not committed; this run has them not")


def _write_params(tree: Worktree, preset: str | None, params: Params | None) -> None:
    """Write what was chosen into the worktree's params.yaml, and commit it before anything runs."""
    path = tree.folder / "params.yaml"
    if preset is not None:
        text = apply_preset(read_text(path), preset, tree.folder / "presets")
    elif params is not None:
        text = apply_values(read_text(path), params.model_dump(by_alias=True), "params")
    else:
        return
    write_text(path, text)
    tree.commit(f"params of {tree.branch}")


def _environment(spool: Path) -> dict[str, str]:
    """What makes the stages' records one pipeline run; DVC's caching does not see it."""
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
