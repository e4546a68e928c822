"""The DVC graph as the flows drive it: which stage needs which, in an order that works."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import networkx
from dvc.exceptions import DvcException
from dvc.repo import Repo
from dvc.stage import PipelineStage

from llm.config.stages import GROUPS
from llm.errors import ConfigError


@dataclass(frozen=True)
class Graph:
    """Per stage the stages that it reads from; in topological order."""

    needs: dict[str, list[str]]

    def upto(self, last: str | None) -> Self:
        """A stage, or the stages of a group, and all that they need; everything for None."""
        if last is None:
            return self
        ends = [stage for stage in GROUPS.get(last, (last,)) if stage in self.needs]
        if not ends:
            names = (*GROUPS, *self.needs)
            raise ConfigError(
                f"upto={last!r}: no such stage or group; there are {', '.join(names)}"
            )
        return self.with_needs(ends)

    def with_needs(self, ends: Iterable[str]) -> Self:
        """The stages in `ends` and all that they need."""
        wanted, pending = set(), list(ends)
        while pending:
            name = pending.pop()
            if name not in wanted:
                wanted.add(name)
                pending += self.needs[name]
        return type(self)({name: needs for name, needs in self.needs.items() if name in wanted})

    def only(self, stages: Sequence[str]) -> Self:
        """The stages and all that they need; ConfigError where another one would lie in between."""
        if unknown := [stage for stage in stages if stage not in self.needs]:
            raise ConfigError(f"only={unknown}: no such stage; there are {', '.join(self.needs)}")
        kept = self.with_needs(stages)
        for stage in kept.needs:
            after = sorted(set(kept.with_needs([stage]).needs) & set(stages))
            if stage not in stages and after:
                raise ConfigError(
                    f"only={list(stages)}: {stage} reads what {', '.join(after)} makes and is read by "
                    "what follows; add it to `only`"
                )
        return kept

    def group(self, name: str) -> dict[str, list[str]]:
        """The stages of one sub-flow, and what they need of each other."""
        members = [stage for stage in self.needs if stage in GROUPS[name]]
        return {stage: [need for need in self.needs[stage] if need in members] for stage in members}


def read_graph(folder: Path) -> Graph:
    """The graph of the DVC project in `folder`; ConfigError when dvc.yaml is not usable."""
    try:
        with Repo(str(folder)) as repo:
            # what `dvc add` tracks is in DVC's graph too, but nothing makes it
            names = {
                stage: stage.name
                for stage in repo.index.graph.nodes
                if isinstance(stage, PipelineStage)
            }
            stages = repo.index.graph.subgraph(names)
            graph: Any = networkx.relabel_nodes(stages, names)
            ordered = networkx.lexicographical_topological_sort(graph.reverse(copy=False))
            needs = {stage: sorted(graph.successors(stage)) for stage in ordered}
    except DvcException as error:
        raise ConfigError(f"{folder}: DVC cannot read the graph: {error}") from None
    grouped = {stage for stages in GROUPS.values() for stage in stages}
    if strangers := [stage for stage in needs if stage not in grouped]:
        raise ConfigError(
            f"dvc.yaml: no sub-flow has the stages {', '.join(strangers)}; "
            "add them to GROUPS in llm/config/stages.py"
        )
    return Graph(needs)
