"""Whether a document reached training, in which way, or what kept it out: by content, never by guess.

    for document in find_documents(corpus, "json.dumps").found: ...
    fates(corpus, record, ids)

Every stage of the corpus says what it left out and why (llm/stages); what is kept to the
end is listed by stage tokenize with its split and how often it is read, asked about in
conversations, and answered in preference pairs. Where a stage's files are no longer at
hand, the outcome is `unknown` with what is missing, unless those of another stage prove it.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import duckdb
import pyarrow as pa

from llm.errors import DataError
from llm.registry.corpus import Corpus, MissingData, shards
from llm.registry.exposure import Exposure, exposures
from llm.registry.record import Record

TRAIN, VAL, HELDOUT, DROPPED, UNKNOWN = "in train", "in val", "held out", "dropped", "unknown"
SHORTEST_ID_PREFIX = 8


@dataclass(frozen=True)
class Document:
    """A gathered document."""

    id: str
    source: str
    url: str


@dataclass(frozen=True)
class Found:
    """The documents that a query means, and how many others contain it."""

    documents: list[Document]
    others: int


@dataclass(frozen=True)
class Fate:
    """What became of a document in one version."""

    outcome: str  # TRAIN, VAL, HELDOUT, DROPPED or UNKNOWN
    stage: str = ""  # that decided
    reason: str = ""  # the rule, the measured value and its limit; or what is missing
    other: str | None = None  # the id of the document that was kept instead, or is shared with
    exposure: Exposure | None = None  # of TRAIN: the steps of pretraining that read it
    exposure_unknown: str = ""  # why there is no telling
    conversations: int = 0  # about it, that sft trained on
    questions: int = 0  # about it, in the test
    pairs: int = 0  # about it, that reward and dpo trained on
    test_pairs: int = 0
    unread: list[str] = field(default_factory=list)  # why conversations or pairs are not counted

    @property
    def trained(self) -> bool | None:
        """Whether some model of the version was trained on it, or on what was derived from it.

        None when that cannot be told.
        """
        if self.conversations + self.pairs > 0 or (self.exposure and self.exposure.steps):
            return True
        uncertain = self.outcome == UNKNOWN or self.unread
        return None if uncertain or (self.outcome == TRAIN and not self.exposure) else False


def find_documents(corpus: Corpus, query: str, *, every: bool = False) -> Found:
    """The gathered documents with that id, source or url; else those whose id or url contains it.

    `json.dumps` means `python:json#dumps`. With `every`, those that contain it in any case.
    MissingData when what was gathered is not at hand.
    """
    plain = "replace(regexp_replace(url, '^[a-z_]+:', ''), '#', '.')"
    exact = f"(id = $query OR source = $query OR url = $query OR {plain} = $query)"
    part = f"(contains(lower(url), lower($query)) OR contains(lower({plain}), lower($query)))"
    if len(query) >= SHORTEST_ID_PREFIX:
        part = f"({part} OR starts_with(id, $query))"
    files = shards(corpus, "gather")
    if not files:
        raise MissingData("stage gather wrote no shards of documents")
    rows = _rows(
        f"SELECT id, source, url, {exact} AS exact FROM read_parquet($files) WHERE {exact} OR {part}",
        {"files": files, "query": query},
    )
    chosen = [row for row in rows if every or row["exact"]] or rows
    documents = [Document(row["id"], row["source"], row["url"]) for row in chosen]
    return Found(documents, len(rows) - len(documents))


def documents_by_id(corpus: Corpus, ids: Collection[str]) -> dict[str, Document]:
    """The gathered documents among `ids`."""
    rows = _of("id, source, url", shards(corpus, "gather"), ids)
    return {row["id"]: Document(row["id"], row["source"], row["url"]) for row in rows}


def fates(corpus: Corpus, record: Record, documents: Collection[Document]) -> dict[str, Fate]:
    """By id, what became of each of the gathered documents."""
    wanted = {document.id for document in documents}
    found: dict[str, Fate] = {}
    missing: list[str] = []
    for look in (_extracted, _filtered, _deduplicated, _decontaminated, _kept):
        try:
            found |= look(corpus, record, wanted - found.keys())
        except MissingData as error:
            missing.append(str(error))
    lost = "no stage says what became of it"
    nothing = Fate(UNKNOWN, reason="; ".join(missing) or lost)
    found |= dict.fromkeys(wanted - found.keys(), nothing)
    return _with_derived(corpus, documents, _with_exposure(corpus, record, found))


def _extracted(corpus: Corpus, record: Record, wanted: Collection[str]) -> dict[str, Fate]:
    rows = _of("id, reason", [_file(corpus, "extract", "failed.parquet")], wanted)
    least = record.value("extract", "min_characters")
    limit = f" (extract.min_characters: {least})" if least is not None else ""
    return {row["id"]: Fate(DROPPED, "extract", f"{row['reason']}{limit}") for row in rows}


def _filtered(corpus: Corpus, record: Record, wanted: Collection[str]) -> dict[str, Fate]:
    rows = _of("id, rule, value", shards(corpus, "filter", "rejected/"), wanted)
    return {
        row["id"]: Fate(DROPPED, "filter", _filter_reason(record, row["rule"], row["value"]))
        for row in rows
    }


def _filter_reason(record: Record, rule: str, value: str) -> str:
    limit = record.value("filter", *rule.split("."))
    return f"{rule}: {value}" + (f" (filter.{rule}: {limit})" if limit is not None else "")


def _deduplicated(corpus: Corpus, record: Record, wanted: Collection[str]) -> dict[str, Fate]:
    rows = _of("id, kept_id, kind", [_file(corpus, "dedup", "clusters.parquet")], wanted)
    return {
        row["id"]: Fate(DROPPED, "dedup", f"{row['kind']} duplicate of", row["kept_id"])
        if row["kept_id"]
        else Fate(DROPPED, "dedup", f"nothing but {row['kind']}")
        for row in rows
        if row["kept_id"] != row["id"]  # of a record that two archives hold, one copy stays
    }


def _decontaminated(corpus: Corpus, record: Record, wanted: Collection[str]) -> dict[str, Fate]:
    """Held out; or contaminated, and dropped for it."""
    held = _of("id", shards(corpus, "decontaminate", "heldout/"), wanted)
    found = {row["id"]: Fate(HELDOUT, "decontaminate", "for evaluation") for row in held}
    hits = _of(
        "document_id AS id, item_id, ngram",
        [_file(corpus, "decontaminate", "contamination.parquet")],
        wanted,
        "document_id",
    )
    kept = {row["id"] for row in _of("id", shards(corpus, "decontaminate", "kept/"), wanted)}
    for row in hits:
        if row["id"] not in kept:
            reason = f"shares “{row['ngram']}” with the evaluation's"
            found.setdefault(row["id"], Fate(DROPPED, "decontaminate", reason, row["item_id"]))
    return found


def _kept(corpus: Corpus, record: Record, wanted: Collection[str]) -> dict[str, Fate]:
    """In the training or the validation split, or left out by its source's weight."""
    held = _of("id, split", shards(corpus, "tokenize", "documents/"), wanted)
    outcomes = {"train": TRAIN, "val": VAL}
    found = {row["id"]: Fate(outcomes[row["split"]], "tokenize") for row in held}
    for row in _of("id, source", shards(corpus, "tokenize", "left_out/"), wanted):
        reason = f"weight of source {row['source']} (tokenize.weights)"
        found[row["id"]] = Fate(DROPPED, "tokenize", reason)
    return found


def _with_exposure(corpus: Corpus, record: Record, found: dict[str, Fate]) -> dict[str, Fate]:
    """The same, with the steps of pretraining that read those of the training split."""
    trained = {id_ for id_, fate in found.items() if fate.outcome == TRAIN}
    if not trained:
        return found
    try:
        seen = exposures(corpus, record, _train_ids(corpus), trained)
    except DataError as error:
        why = {"exposure_unknown": str(error)}
        return {id_: replace(fate, **why if id_ in trained else {}) for id_, fate in found.items()}
    return {id_: replace(fate, exposure=seen.get(id_)) for id_, fate in found.items()}


def _train_ids(corpus: Corpus) -> list[str]:
    """The documents of the training stream, in its order: all first copies, all second ones, …"""
    rows = _rows(
        "SELECT id, copies FROM read_parquet($files) WHERE split = 'train'",
        {"files": shards(corpus, "tokenize", "documents/")},
    )
    most = max((row["copies"] for row in rows), default=0)
    return [row["id"] for copy in range(most) for row in rows if row["copies"] > copy]


def _with_derived(
    corpus: Corpus, documents: Collection[Document], found: dict[str, Fate]
) -> dict[str, Fate]:
    """The same, with what was made of them; conversations and pairs name the url of theirs."""
    urls = {document.id: document.url for document in documents}
    for stage, file, counted in (
        ("instructions", "train.jsonl", "conversations"),
        ("instructions", "test.jsonl", "questions"),
        ("preferences", "train.jsonl", "pairs"),
        ("preferences", "test.jsonl", "test_pairs"),
    ):
        try:
            counts = _count_by_url(corpus, stage, file, urls.values())
        except MissingData as error:
            found = {
                id_: replace(fate, unread=[*fate.unread, str(error)]) for id_, fate in found.items()
            }
            continue
        found = {
            id_: replace(fate, **{counted: counts.get(urls[id_], 0)}) for id_, fate in found.items()
        }
    return found


def _count_by_url(corpus: Corpus, stage: str, file: str, urls: Collection[str]) -> dict[str, int]:
    rows = _rows(
        "SELECT source AS url, count(*) AS n FROM read_json($files, format = 'newline_delimited', "
        "columns = {source: 'VARCHAR'}) SEMI JOIN wanted ON source = wanted_id GROUP BY source",
        {"files": [_file(corpus, stage, file)]},
        urls,
    )
    return {row["url"]: row["n"] for row in rows}


def _of(
    columns: str, files: list[str], wanted: Collection[str], key: str = "id"
) -> list[dict[str, Any]]:
    """Those columns of the rows whose `key` is among `wanted`, in the files' order."""
    query = f"SELECT {columns} FROM read_parquet($files) SEMI JOIN wanted ON {key} = wanted_id"
    return _rows(query, {"files": files}, wanted) if files and wanted else []


def _rows(
    query: str, values: Mapping[str, Any], wanted: Collection[str] = ()
) -> list[dict[str, Any]]:
    """The result of a query over files, to which `wanted` is a table of ids."""
    with duckdb.connect() as connection:
        connection.execute("SET enable_progress_bar = false")
        connection.register("wanted", pa.table({"wanted_id": pa.array(list(wanted), pa.string())}))
        try:
            return connection.sql(query, params=dict(values)).to_arrow_table().to_pylist()
        except duckdb.Error as error:
            raise DataError(f"{values['files'][0]} and others: {error}") from None


def _file(corpus: Corpus, stage: str, name: str) -> str:
    files = corpus.files(stage)
    if name not in files:
        raise MissingData(f"stage {stage} wrote no {name}")
    return str(files[name])
