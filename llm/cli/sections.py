"""A version's lineage in titled tables, which the terminal and the page both show."""

import time
from collections.abc import Iterator, Mapping

from rich.markup import escape
from rich.table import Table
from rich.tree import Tree

from llm.registry.lineage import Lineage, RunOfStage
from llm.report.drawing import KINDS, Node, draw, figures, lineage_graph, main_out
from llm.report.version_page import Cell, Section
from llm.tracking.lineage import out_md5s

TITLES = {  # kind of stage to the title of its section, from the version back
    "evaluation": "Evaluation",
    "model": "Models",
    "data": "Conversations and pairs",
    "tokenizer": "Tokenizer and tokens",
    "corpus": "Corpus",
}
SCORE = "metric/"
NO_LOCK = (
    "the version keeps no dvc.lock (it was registered by an earlier stage register); these are "
    "the outs that its tags name"
)


def sections_of(found: Lineage, tracking_uri: str) -> list[Section]:
    """From the version back to the sources."""
    return [
        _version(found),
        _gates(found),
        _runs(found, tracking_uri),
        _params(found),
        _code(found),
        _packages(found),
        *_stages(found),
        _sources(found),
    ]


def tree_of(found: Lineage, tracking_uri: str) -> Tree:
    """The sections as a tree for a terminal."""
    aliases = "".join(f" [green]@{alias}[/]" for alias in found.version.aliases)
    tree = Tree(f"[bold]{found.version.uri}[/]{aliases}", guide_style="dim")
    for section in sections_of(found, tracking_uri):
        branch = tree.add(f"[bold]{section.title}[/]  {escape(section.note)}")
        if section.rows:
            table = Table.grid(padding=(0, 2))
            for _ in range(max(map(len, section.rows))):
                table.add_column(overflow="fold")
            for row in section.rows:
                table.add_row(*(escape(cell.text) for cell in row))
            branch.add(table)
    return tree


def picture(found: Lineage) -> str:
    """The drawing, down to the version."""
    outs = {stage: out_md5s(locked) for stage, locked in found.record.stages.items()}
    deps = {
        stage: [dep["path"] for dep in locked.get("deps", [])]
        for stage, locked in found.record.stages.items()
    }
    nodes, edges = lineage_graph(outs, deps, found.record.metrics)
    version = found.version
    said = " ".join(f"@{alias}" for alias in version.aliases) or "no alias"
    model = version.tags.get("model", "?")
    nodes.append(Node(version.uri, f"{model}, {said}", "", f"{version.uri} {said}", "version"))
    above = {model, "report"} & outs.keys()
    edges += [(stage, version.uri) for stage in above]
    shown = "; ".join(f"{node.name} {node.figures}".strip() for node in nodes)
    return draw(nodes, edges, f"Graph of what {version.uri} was made from: {shown}.")


def _version(found: Lineage) -> Section:
    tags = found.version.tags
    when = _time(found.registered_by.started_ms)
    return Section("Version", f"model {tags.get('model', '?')}, registered {when}", _scores(tags))


def _scores(tags: Mapping[str, str]) -> list[list[Cell]]:
    """The benchmark's scores with their standard errors."""
    scores = {
        key.removeprefix(SCORE): value for key, value in tags.items() if key.startswith(SCORE)
    }
    rows = []
    for key, value in scores.items():
        task, _, metric = key.replace("/", ".").rpartition(".")
        if not metric.endswith("stderr") and metric != "n":
            near = (f"{key}_stderr", f"{task}.stderr", f"{task}/stderr")
            stderr = next((scores[each] for each in near if each in scores), None)
            rows.append([Cell(key), Cell(value if stderr is None else f"{value} ± {stderr}")])
    return rows


def _gates(found: Lineage) -> Section:
    """What the gates said the last time, and every time that somebody decided."""
    rows = [[Cell(gate), Cell(verdict)] for gate, verdict in sorted(found.verdicts.items())]
    rows += [
        [Cell(move.action), Cell(f"{move.time} by {move.by}. {move.reason}".strip())]
        for move in found.moves
    ]
    return Section("Gates", "" if rows else "no promotion has judged it", rows)


def _runs(found: Lineage, tracking_uri: str) -> Section:
    parent = found.parent
    note = f"{parent.name} {parent.run_id}, {_ended(parent)}" if parent else "no pipeline run"
    rows = []
    for stage, run in {**found.stages, "register": found.registered_by}.items():
        earlier = parent is not None and run.parent_id != parent.run_id
        where = "made by an earlier run" if earlier else "of this run"
        rows.append(
            [
                Cell(stage),
                Cell(run.run_id, _url(tracking_uri, run)),
                Cell(_ended(run)),
                Cell(where),
            ]
        )
    return Section("Runs", note, rows)


def _params(found: Lineage) -> Section:
    digest = found.version.tags.get("params_sha256", "?")[:12]
    if not found.record.params:
        return Section("Parameters", f"sha256 {digest}…; params.yaml is not kept")
    changed = found.changed_params
    if found.commit is None:
        note = "kept; its commit is not here to compare with"
    elif changed:
        note = f"{len(changed)} differ from the commit's"
    else:
        note = "as committed"
    rows = [
        [Cell(key), Cell(f"{_or_none(then)} → {_or_none(now)}")]
        for key, (then, now) in changed.items()
    ]
    return Section("Parameters", f"sha256 {digest}…, {note}", rows)


def _code(found: Lineage) -> Section:
    record, commit = found.record, found.commit
    note = record.commit[:12]
    if record.commit == "none":
        note = "made outside a git repository"
    elif commit is None:
        note += ", which is not in this repository (`git fetch` it)"
    else:
        note += f" “{commit['subject']}”, {commit['author']}, {commit['date']}"
    return Section("Code", note, [[Cell(line)] for line in _differences_of_code(found)])


def _differences_of_code(found: Lineage) -> Iterator[str]:
    changed = found.changed_code
    if changed:
        yield "the working tree differed from the commit in what the stages read:"
        yield from (f"  {path}" for path in changed)
    elif changed == [] and found.record.dirty:
        yield "the working tree had changes, but in nothing that a stage reads"
    elif changed == []:
        yield "all that the stages read is in the commit as it was"
    elif found.record.dirty:
        yield "the working tree had changes; which, is not known"


def _packages(found: Lineage) -> Section:
    packages, differ = found.record.packages, found.packages_differ
    if not packages:
        return Section("Packages", "not recorded")
    here = f"{len(differ)} differ here" if differ else "the same here"
    note = f"Python {packages['python']}, {len(packages) - 1} packages, {here}"
    rows = [
        [Cell(name), Cell(f"{_or_none(then)} then, {_or_none(now)} here")]
        for name, (then, now) in differ.items()
    ]
    return Section("Packages", note, rows)


def _stages(found: Lineage) -> Iterator[Section]:
    """A section per kind of stage, the last made first."""
    record = found.record
    if not record.stages:
        folders = [out for out in sorted(record.outs.items()) if out[1].endswith(".dir")]
        outs = [[Cell(path), Cell(md5)] for path, md5 in folders]
        yield Section("Outs", NO_LOCK, outs)
        return
    for kind, title in TITLES.items():
        names = [name for name in record.stages if KINDS.get(name, "evaluation") == kind]
        rows = []
        for name in reversed(names):
            path, md5 = main_out(out_md5s(record.stages[name]), name)
            said = figures(name, record.metrics.get(name, {}))
            rows.append([Cell(name), Cell(path), Cell(md5), Cell(said)])
        yield Section(title, rows=rows)


def _sources(found: Lineage) -> Section:
    by_source = found.record.metrics.get("gather", {}).get("by_source", {})
    settings = {
        source["name"]: ", ".join(
            f"{key}={value if not isinstance(value, list) else ' '.join(map(str, value))}"
            for key, value in source.items()
            if key != "name"
        )
        for source in found.record.value("gather", "sources") or []
    }
    rows = [
        [
            Cell(name),
            Cell(f"{counts['documents']:,} documents, {counts['bytes'] / 1e6:.1f} MB"),
            Cell(settings.get(name, "")),
        ]
        for name, counts in by_source.items()
    ]
    rows = rows or [[Cell(name), Cell(said)] for name, said in settings.items()]
    return Section("Sources", rows=rows)


def _url(tracking_uri: str, run: RunOfStage) -> str:
    if not tracking_uri.startswith("http"):
        return ""
    return f"{tracking_uri.rstrip('/')}/#/experiments/{run.experiment_id}/runs/{run.run_id}"


def _ended(run: RunOfStage) -> str:
    if run.ended_ms is None:
        return run.status
    return f"{run.status}, {(run.ended_ms - run.started_ms) / 1000:,.0f} s"


def _time(time_ms: int) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(time_ms / 1000))


def _or_none(value: str | None) -> str:
    return "(none)" if value is None else value
