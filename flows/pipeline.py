"""The whole chain as a flow, and its parts up to the end of a group of stages.

    PREFECT_API_URL=… prefect deployment run build-llm/default --param preset=smoke

What they do is in flows/build.py. Plain `dvc repro` does the same work without Prefect.
"""

import inspect
from typing import Any

from prefect import Flow, flow

from flows.build import build
from flows.form import (
    ALL_STAGES,
    NO_OVERRIDES,
    FormParams,
    Only,
    Overrides,
    Preset,
    Request,
    StagesAtOnce,
    StageTimeout,
    Upto,
)
from flows.refusal import failing_plainly


@flow(name="build-llm", description="Raw text to a registered model.")
@failing_plainly
def build_llm(
    preset: Preset = None,
    overrides: Overrides = NO_OVERRIDES,
    upto: Upto = None,
    only: Only = ALL_STAGES,
    stages_at_once: StagesAtOnce = 2,
    stage_timeout_s: StageTimeout = None,
    params: FormParams = None,  # the form is as long as it is: last
) -> None:
    """Raw text to a registered model, in a worktree of its own, recorded in Prefect and MLflow.

    Args:
        preset: A file of presets/, applied to the committed params.yaml.
        overrides: Dotted keys of params.yaml, applied last, e.g. `{"dpo.beta": 0.2}`.
        upto: The last stage or group to make; the whole chain by default.
        only: Make these stages alone, even if nothing has changed; what they read comes from
            the cache.
        stages_at_once: How many independent stages may overlap.
        stage_timeout_s: Seconds after which a stage is ended.
        params: params.yaml. Only what you change here counts, after the preset; the rest stays
            as committed.
    """
    build(Request(preset, params, overrides, upto, only, stages_at_once, stage_timeout_s))


PARTS = {
    "corpus": "Raw text to token shards.",
    "train": "Raw text to the base model.",
    "align": "Raw text to the aligned model.",
    "evaluate": "Raw text to scores, report and registered version.",
}


def __getattr__(name: str) -> Flow[Any, Any]:
    """A part, made when it is asked for: a run imports this module for one flow, and each takes time."""
    if name not in PARTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = part = _up_to(name, PARTS[name])
    return part


def _up_to(group: str, what: str) -> Flow[Any, Any]:
    """A flow that makes everything up to the end of a group of stages."""

    def part(
        preset: Preset = None,
        overrides: Overrides = NO_OVERRIDES,
        stages_at_once: StagesAtOnce = 2,
        stage_timeout_s: StageTimeout = None,
        params: FormParams = None,
    ) -> None:
        asked = Request(preset, params, overrides, group, None, stages_at_once, stage_timeout_s)
        build(asked)

    part.__name__ = part.__qualname__ = group  # by which a deployment finds it here
    part.__doc__ = inspect.getdoc(build_llm.fn)  # for the fields' descriptions
    about = f"{what} Unchanged stages come from the cache."
    return flow(name=group, description=about)(failing_plainly(part))
