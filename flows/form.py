"""What a run can be asked for: the fields of the form in Prefect's UI, and what they amount to.

Prefect takes a field's description from the flow's docstring, and sends what is left empty
as its default, so that each field's schema accepts its default.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from prefect.client.orchestration import get_client
from prefect.runtime import deployment
from pydantic import PositiveFloat, PositiveInt, WithJsonSchema
from pydantic.json_schema import SkipJsonSchema

from flows.graph import Graph
from flows.worktree import Worktree, git
from llm.config.base import parse_yaml, validate
from llm.config.params import Params
from llm.config.presets import (
    apply_overrides,
    apply_preset,
    apply_values,
    changes,
    preset_names,
)
from llm.config.stages import GROUPS, STAGES
from llm.errors import ConfigError
from llm.files import read_text, write_text

Preset = Annotated[str | None, WithJsonSchema({"enum": [*preset_names(), None]})]
FormParams = Params | SkipJsonSchema[None]  # the form shows no switch for what is always filled in
Overrides = Annotated[dict[str, Any] | None, WithJsonSchema({"type": "object"})]
Upto = Annotated[str | None, WithJsonSchema({"enum": [*GROUPS, *STAGES, None]})]
Only = Annotated[
    list[str] | None,
    WithJsonSchema({"type": "array", "items": {"type": "string", "enum": list(STAGES)}}),
]
StagesAtOnce = PositiveInt
StageTimeout = PositiveFloat | None

NO_OVERRIDES: dict[str, Any] = {}
ALL_STAGES: list[str] = []


@dataclass(frozen=True)
class Request:
    """A filled-in form."""

    preset: str | None = None
    params: Params | None = None
    overrides: Mapping[str, Any] | None = None
    upto: str | None = None
    only: list[str] | None = None
    stages_at_once: int = 2
    stage_timeout_s: float | None = None

    def stages(self, graph: Graph) -> Graph:
        """The stages that the run is about."""
        if self.upto and self.only:
            raise ConfigError(f"upto={self.upto!r} and only={self.only} are both given; choose one")
        return graph.only(self.only) if self.only else graph.upto(self.upto)

    def write_params(self, tree: Worktree) -> None:
        """Write what was asked for into the worktree's params.yaml, and commit it.

        The committed values, then the preset's, then what was changed in the form, then the
        overrides. ConfigError when the result is not valid.
        """
        path = tree.folder / "params.yaml"
        text = before = read_text(path)
        if self.preset is not None:
            text = apply_preset(text, self.preset, tree.folder / "presets")
        if self.params is not None:
            text = apply_values(text, form_changes(self.params), "params")
        text = apply_overrides(text, self.overrides or {})
        if text != before:
            write_text(path, text)
            tree.commit(f"params of {tree.branch}")


def prefilled(root: Path) -> dict[str, Any]:
    """What the form holds when it opens: the committed params.yaml, so that a person edits values."""
    text = git(root, "show", "HEAD:params.yaml")
    params = validate(Params, parse_yaml(text, "params.yaml as committed"), "")
    return {"params": params.model_dump(by_alias=True, mode="json")}


def form_changes(params: Params | None) -> dict[str, Any]:
    """What a person changed in the form; all of `params` when no deployment was asked."""
    if params is None:
        return {}
    return changes(_prefilled_params(), params.model_dump(by_alias=True, mode="json"))


def _prefilled_params() -> dict[str, Any]:
    """What this run's form held when it opened; nothing when no deployment was asked."""
    if deployment.id is None:
        return {}
    with get_client(sync_client=True) as client:
        asked = client.read_deployment(deployment.id)
    return asked.parameters.get("params") or {}
