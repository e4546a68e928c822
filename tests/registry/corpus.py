"""A small corpus through the real stages, and the record of the version that came of it."""

from pathlib import Path

from evals import decontaminate
from llm.config.align import InstructionsConfig
from llm.config.base import read_yaml
from llm.config.corpus import DecontaminateConfig, DedupConfig, ExtractConfig
from llm.config.filter import FilterConfig
from llm.config.paths import Paths
from llm.config.tasks import TaskNames
from llm.config.tokenizer import TokenizeConfig, TokenizerConfig
from llm.corpus.documents import GATHERED, Row, dump_meta, write_shards
from llm.data.pairs import Pair, write_pairs
from llm.process import Context
from llm.registry.cache import file_md5
from llm.registry.exposure import DRAWN_BY, PACKED_BY
from llm.registry.record import Record
from llm.stages import dedup, extract, filter, instructions, tokenize, tokenizer
from tests.conftest import ROOT
from tests.stages.corpus_inputs import function_row

DOCUMENTS = 120
URL = "python:pack.part{}#thing_{}"


def gathered_rows() -> list[Row]:
    """Functions of their own, and one of each kind that is left out, by the end of their url."""
    rows = [function_row(number) for number in range(DOCUMENTS)]
    rows += [
        _like(rows[1], "empty", "x"),
        _like(rows[2], "short", "Just four words here."),
        _like(rows[3], "copy", None),
        _like(
            rows[4], "other_language", "Das ist ein deutscher Satz über die Größe der Häuser. " * 4
        ),
    ]
    return [{**_plain(row), "mime": "text/plain", "content": row["text"]} for row in rows]


def make_corpus(root: Path) -> tuple[Paths, dict[str, dict]]:
    """The stages' folders below `root`, and their metrics."""
    names = ("data", "models", "metrics", "timings", "plots", "reports", "work")
    paths = Paths(**{name: str(root / name) for name in names})
    write_shards(paths.stage("gather"), gathered_rows(), GATHERED, 20_000)
    metrics = {}
    for stage, configs in configs_of(params()).items():
        module = MODULES[stage]
        ctx = Context(stage, paths, Path(paths.work) / stage)
        metrics[stage] = module.run(ctx, **configs)
    return paths, metrics


def params() -> dict:
    """params.yaml's values, for this size."""
    values = read_yaml(ROOT / "params.yaml")
    values["decontaminate"] |= {"heldout_frac": 0.2, "max_ngram_documents": 1}
    values["tokenizer"] |= {"vocab_size": 400, "sample_bytes": 1_000_000}
    values["tokenize"] |= {"val_frac": 0.15, "shard_tokens": 2_000}
    values["instructions"] |= {"train_per_kind": 30, "test_per_kind": 5}
    values["model"] |= {"block_size": 32}
    values["pretrain"] |= {"batch_tokens": 256, "micro_batch_size": 4, "max_tokens": 2_560}
    return values


def configs_of(values: dict) -> dict[str, dict]:
    """What each stage is run with."""
    types = {
        "extract": ExtractConfig,
        "filter": FilterConfig,
        "dedup": DedupConfig,
        "decontaminate": DecontaminateConfig,
        "tokenizer": TokenizerConfig,
        "tokenize": TokenizeConfig,
        "instructions": InstructionsConfig,
    }
    configs = {stage: {stage: each.model_validate(values[stage])} for stage, each in types.items()}
    configs["decontaminate"]["benchmark"] = TaskNames.model_validate(values["benchmark"])
    configs["instructions"] |= {"decontaminate": configs["decontaminate"]["decontaminate"]}
    return configs


def pair_about(paths: Paths, url: str) -> None:
    """A preference pair made of a conversation about the document."""
    prompt = [{"role": "user", "content": "Which?"}]
    train = [Pair(prompt, "this", "that", url, "import")]
    test = [Pair(prompt, "this", "that", "python:elsewhere", "import")]
    paths.stage("preferences").mkdir(parents=True, exist_ok=True)
    write_pairs(paths.stage("preferences") / "train.jsonl", train)
    write_pairs(paths.stage("preferences") / "test.jsonl", test)


def record(values: dict, outs: dict[str, str] | None = None) -> Record:
    """Of a version made with today's code."""
    return Record(
        name="models:/llm/1",
        outs=outs or {},
        stages={},
        params=values,
        metrics={},
        packages={},
        code={path: file_md5(ROOT / path) for path in (*DRAWN_BY, *PACKED_BY)},
        commit="none",
        dirty=False,
    )


MODULES = {
    "extract": extract,
    "filter": filter,
    "dedup": dedup,
    "decontaminate": decontaminate,
    "tokenizer": tokenizer,
    "tokenize": tokenize,
    "instructions": instructions,
}


def _like(row: Row, name: str, text: str | None) -> Row:
    """Another document; the same text where none is given."""
    url = f"python:pack.extra#{name}"
    doc = {"text": text} if text is not None else {}
    meta = row["meta"] if text is None else dump_meta({"file": name})
    return {**row, **doc, "id": f"{name:0<40}", "url": url, "meta": meta}


def _plain(row: Row) -> Row:
    return {key: row[key] for key in ("id", "source", "url", "meta")}
