"""`llm lineage --document`: per version one line that says what became of a document."""

import dataclasses
import json
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer
from rich.markup import escape
from rich.table import Table

from llm.cli.terminal import terminal
from llm.config.base import load_section, read_yaml
from llm.config.params import PARAMS
from llm.config.paths import Paths
from llm.registry.cache import Cache
from llm.registry.corpus import CachedCorpus, CheckoutCorpus, Corpus, MissingData
from llm.registry.documents import (
    DROPPED,
    HELDOUT,
    TRAIN,
    UNKNOWN,
    VAL,
    Document,
    Fate,
    Found,
    documents_by_id,
    fates,
    find_documents,
)
from llm.registry.exposure import DRAWN_BY
from llm.registry.record import REGISTER, Record, locked_code, read_record
from llm.registry.versions import Registry
from llm.tracking.lineage import git_tags, out_md5s, read_lock
from llm.worktree import cache_folder

LOCK = Path("dvc.lock")
MOST_DOCUMENTS = 10  # more are counted instead
CORPUS_STAGES = ("gather", "extract", "filter", "dedup", "decontaminate", "tokenizer", "tokenize")
TRAINED, UNREAD, IN_TRAIN = "trained on", "not read", "in train, not known if read"
WORDS = (TRAINED, UNREAD, IN_TRAIN, VAL, HELDOUT, DROPPED, UNKNOWN)
STAGES = (*CORPUS_STAGES, "pretrain", "instructions", "preferences")

console = terminal()


@dataclass(frozen=True)
class Answer:
    """What one version has to say about the documents that a query means."""

    name: str
    aliases: tuple[str, ...]
    found: Found
    fates: Mapping[str, Fate]  # by id, also of the documents that they point to
    others: Mapping[str, Document]
    missing: str = ""  # what was gathered is not at hand


def show_document(
    registry: Registry, name: str, version: str, query: str, *, every: bool, as_json: bool
) -> None:
    """Every version of `name`, or the one that is named, and the checkout's data."""
    answers = list(_answers(registry, name, version, query, every))
    if as_json:
        typer.echo(json.dumps([_as_json(answer) for answer in answers], indent=2))
        return
    documents = {document.id: document for each in answers for document in each.found.documents}
    for answer in answers:
        if answer.missing:
            console.print(f"[yellow]{_label(answer)}: cannot be asked: {escape(answer.missing)}[/]")
    if not documents:
        console.print(f"none of them gathered a document that is or contains {escape(query)!r}")
    elif len(documents) > MOST_DOCUMENTS:
        console.print(f"{len(documents):,} documents are or contain {escape(query)!r}")
        console.print(_counts(answers))
    else:
        for document in documents.values():
            _show_one(document, answers)
    if others := max((answer.found.others for answer in answers), default=0):
        console.print(f"[dim]{others:,} others contain it; --all shows those as well[/]")


def _answers(
    registry: Registry, name: str, version: str, query: str, every: bool
) -> Iterator[Answer]:
    """One after the other; versions of the same data are asked once."""
    root = Path.cwd()
    cache = Cache(cache_folder(root))
    versions = [registry.find(version, name)] if version else registry.versions(name)
    known: dict[str, Answer] = {}
    for each in versions:
        record = read_record(registry, each, root)
        key = _data_key(record)
        if key not in known:
            known[key] = _ask(CachedCorpus(record, cache), record, query, every)
        yield dataclasses.replace(known[key], name=each.uri, aliases=each.aliases)
    if not version and LOCK.exists():
        data = Path(load_section(Paths, "paths", PARAMS).data)
        yield _ask(CheckoutCorpus(data), _checkout_record(), query, every)


def _ask(corpus: Corpus, record: Record, query: str, every: bool) -> Answer:
    try:
        found = find_documents(corpus, query, every=every)
    except MissingData as error:
        remedy = f"{error}; `dvc pull` brings it back, or `llm reproduce {record.name}`"
        return Answer(record.name, (), Found([], 0), {}, {}, remedy)
    became = fates(corpus, record, found.documents)
    ids = {fate.other for fate in became.values() if fate.other}
    others = documents_by_id(corpus, ids)
    return Answer(
        record.name, (), found, {**fates(corpus, record, others.values()), **became}, others
    )


def _checkout_record() -> Record:
    stages = read_lock(LOCK)
    stages.pop(REGISTER, None)
    outs = {path: md5 for stage in stages.values() for path, md5 in out_md5s(stage).items()}
    tags = git_tags(written={*outs, str(LOCK)})
    return Record(
        name="this checkout",
        outs=outs,
        stages=stages,
        params=read_yaml(PARAMS),
        metrics={},
        packages={},
        code=locked_code(stages),
        commit=tags["git_commit"],
        dirty=tags["git_dirty"] == "true",
    )


def _data_key(record: Record) -> str:
    """The same for versions in which every document met the same fate."""
    outs = {stage: record.outs.get(record.folder_of(stage) or "") for stage in STAGES}
    drawn = {path: record.code.get(path) for path in DRAWN_BY}
    params = {stage: record.value(stage) for stage in (*STAGES, "model")}
    return json.dumps([outs, drawn, params], sort_keys=True, default=str)


def _show_one(document: Document, answers: list[Answer]) -> None:
    console.print(
        f"[bold]{escape(document.url)}[/]  {escape(document.source)}  [dim]{document.id}[/]",
        soft_wrap=True,
    )
    table = Table.grid(padding=(0, 2))
    for answer in answers:
        if not answer.missing:
            table.add_row("", _label(answer), *_words(answer, document.id))
    console.print(table)


def _words(answer: Answer, id_: str) -> tuple[str, str]:
    """What became of the document, and how, in this version."""
    fate = answer.fates.get(id_)
    if fate is None:
        return "[dim]not gathered[/]", ""
    return _outcome(fate), escape("; ".join(_details(answer, fate)))


def _outcome(fate: Fate) -> str:
    colours = {TRAINED: "green", UNKNOWN: "yellow", IN_TRAIN: "yellow"}
    word = _word(fate)
    return f"[{colours[word]}]{word}[/]" if word in colours else word


def _word(fate: Fate) -> str:
    """One of WORDS."""
    if fate.trained:
        return TRAINED
    if fate.outcome == TRAIN:
        return UNREAD if fate.trained is False else IN_TRAIN
    return fate.outcome


def _details(answer: Answer, fate: Fate) -> Iterator[str]:
    if fate.outcome == TRAIN:
        yield f"pretraining: {_reading(fate)}"
    elif fate.outcome == VAL:
        yield "pretraining: validated on, not trained on"
    elif fate.outcome == DROPPED:
        yield f"by {fate.stage}: {fate.reason}{_other(answer, fate)}"
    else:
        yield fate.reason
    for number, words in (
        (fate.conversations, "in sft"),
        (fate.questions, "in the test"),
    ):
        if number:
            yield f"{number} conversation{'s' * (number > 1)} about it {words}"
    for number, words in ((fate.pairs, "in reward and dpo"), (fate.test_pairs, "in their test")):
        if number:
            yield f"{number} pair{'s' * (number > 1)} {words}"
    yield from fate.unread


def _reading(fate: Fate) -> str:
    if fate.exposure is None:
        return f"in the training split ({fate.exposure_unknown})"
    steps, n_steps = fate.exposure.steps, fate.exposure.n_steps
    if not steps:
        return f"in the training split, but its {n_steps:,} steps ended before reading it"
    shown = ", ".join(f"{step:,}" for step in steps[:3])
    more = f" and {len(steps) - 3:,} more" if len(steps) > 3 else ""
    return f"read in step {shown}{more} of {n_steps:,}"


def _other(answer: Answer, fate: Fate) -> str:
    """The document that it was dropped for, and what became of that."""
    if fate.other is None:
        return ""
    other = answer.others.get(fate.other)
    if other is None:
        return f" {fate.other}"
    became = answer.fates[fate.other]
    return f" {other.url} ({_word(became)})"


def _counts(answers: list[Answer]) -> Table:
    """How many documents met which fate, version by version."""
    table = Table(box=None, padding=(0, 2), header_style="bold")
    counted = [
        (answer, Counter(_word(answer.fates[each.id]) for each in answer.found.documents))
        for answer in answers
        if not answer.missing
    ]
    columns = [word for word in WORDS if any(counts[word] for _, counts in counted)]
    for column in ("", "gathered", *columns):
        table.add_column(column, justify="right" if column else "left")
    for answer, counts in counted:
        numbers = [len(answer.found.documents), *(counts[column] for column in columns)]
        table.add_row(_label(answer), *(f"{number:,}" for number in numbers))
    return table


def _label(answer: Answer) -> str:
    return answer.name.removeprefix("models:/") + "".join(
        f" [green]@{alias}[/]" for alias in answer.aliases
    )


def _as_json(answer: Answer) -> dict[str, Any]:
    rows = [
        {
            **dataclasses.asdict(document),
            **dataclasses.asdict(answer.fates[document.id]),
            "trained": answer.fates[document.id].trained,
        }
        for document in answer.found.documents
    ]
    return {
        "version": answer.name,
        "aliases": answer.aliases,
        "documents": rows,
        "missing": answer.missing,
    }
