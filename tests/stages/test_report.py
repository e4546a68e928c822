"""The report over the files of a made-up run."""

import math
import random
import re
from contextlib import chdir
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from llm.config.paths import Paths
from llm.config.registry import ReportConfig
from llm.config.sampling import SamplingConfig
from llm.config.tokenizer import TokenizerConfig
from llm.errors import DataError
from llm.files import read_json, write_csv, write_json, write_jsonl
from llm.model.folder import save_model
from llm.model.transformer import LanguageModel
from llm.process import Context
from llm.report.facts import MODELS, STAGES
from llm.stages.report import run
from llm.tokenizer.folder import save_tokenizer
from llm.tokenizer.load import Tokenizer
from llm.tokenizer.train import train_tokenizer
from tests.shapes import shape

CONFIG = ReportConfig(
    title="A model <from> nothing",
    samples_per_kind=2,
    sampling=SamplingConfig(temperature=0.8, top_k=50, top_p=0.95, max_new_tokens=24),
    seed=1,
)
METRICS: dict[str, Any] = {
    "gather": {
        "documents": 91_204,
        "bytes": 61_000_000,
        "by_source": {"python_docs": {"documents": 91_204, "bytes": 61_000_000, "failed": 3}},
    },
    "extract": {"documents_in": 91_204, "documents_kept": 88_950, "failed": {"empty": 2_254}},
    "filter": {
        "documents_in": 88_950,
        "documents_kept": 66_310,
        "dropped": {"language": 4_120, "min_words": 15_300, "symbol_ratio": 3_220, "digits": 0},
    },
    "dedup": {"documents_kept": 49_870, "exact": 12_310, "near": 4_130, "clusters": 6_014},
    "decontaminate": {
        "documents_kept": 47_820,
        "heldout": 1_610,
        "contaminated": 440,
        "dropped": 440,
    },
    "tokenizer": {
        "bytes_per_token": 3.9,
        "by_source": {"docs": {"bytes": 9, "bytes_per_token": 3.91, "fertility": 1.82}},
        "by_language": {"de": {"bytes": 4, "bytes_per_token": 2.31, "fertility": 3.07}},
    },
    "tokenize": {
        "order2_bpb": 3.121,
        "by_source": {
            "docs": {"documents": 40_000, "tokens": 7_100_000, "share": 0.91},
            "web": {"documents": 900, "tokens": 702_198, "share": 0.09},
        },
    },
    "pretrain": {
        "val/loss": 3.4,
        "val/bpb": 1.587,
        "parameters": 3_459_328,
        "tokens": 1_638_400,
        "steps": 400,
    },
    "instructions": {"train": 20_000},
    "sft": {"val/loss": 0.41},
    "preferences": {"prompts": 1_500},
    "reward": {"val/accuracy": 0.87},
    "dpo": {"val/loss": 0.61},
    "judge": {
        "pairs": 150,
        "judged_pairs": 150,
        "identical_pairs": 61,
        "unparsed": 0,
        "win_rate": 0.5733,
        "win_rate_low": 0.52,
        "win_rate_high": 0.6267,
        "wins": 54,
        "ties": 63,
        "losses": 33,
        "order_flip_rate": 0.0,
        "exact_agreement_pairs": 21,
        "exact_agreement": 0.857,
        "exact_agreement_stderr": 0.078,
        "accuracy_pairs": 150,
        "accuracy_unparsed": 0,
        "accuracy": 0.88,
        "accuracy_stderr": 0.0266,
    },
}
TASKS = {
    "docs_summary_choice": ("acc_norm", (0.42, 0.44, 0.43)),
    "docs_name_choice": ("acc", (0.61, 0.6, 0.62)),
    "docs_import": ("exact_match", (0.0, 0.92, 0.95)),
    "docs_parameters": ("exact_match", (0.013, 0.81, 0.84)),
    "docs_default": ("exact_match", (0.02, 0.64, 0.66)),
    "docs_type": ("exact_match", (0.0, 0.5, 0.51)),
    "docs_summary": ("exact_match", (0.0, 0.71, 0.73)),
    "docs_bpb": ("bpb", (1.62, 1.74, 1.75)),
}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny random base model."""
    root = tmp_path_factory.mktemp("model")
    network = shape(n_layer=1, n_head=2, n_kv_head=1, n_embd=16, n_inner=32)
    config = TokenizerConfig(
        init_from="",
        vocab_size=300,
        sample_bytes=10**6,
        min_frequency=2,
        max_digits=1,
        white_space="runs",
    )
    save_tokenizer(root / "tokenizer", train_tokenizer(iter(["some text"]), config))
    tokenizer = Tokenizer.load(root / "tokenizer")
    torch.manual_seed(0)
    save_model(root / "models" / "base", LanguageModel(network, tokenizer.vocab_size), tokenizer)
    return root / "models"


@pytest.fixture
def finished(tmp_path: Path, base: Path, monkeypatch: pytest.MonkeyPatch) -> Paths:
    """The folders of a run that has come to the report."""
    monkeypatch.chdir(tmp_path)
    names = ("data", "metrics", "timings", "plots", "reports")
    paths = Paths(**{name: name for name in names}, models=str(base), work=".llm")
    write_run(paths)
    return paths


def write_run(paths: Paths) -> None:
    for i, stage in enumerate(STAGES):
        write_json(paths.metric(stage), METRICS.get(stage) or benchmark_metrics())
        timing = {"wall_s": 7.5 * (i + 1), "cpu_s": 1.0, "peak_rss_mb": 400.0 + 60 * i}
        write_json(paths.timing(stage), timing)
    for stage, steps, start, end in (
        ("pretrain", 400, 8.3, 3.4),
        ("sft", 1250, 3.1, 0.4),
        ("reward", 90, 0.69, 0.3),
        ("dpo", 90, 0.69, 0.55),
    ):
        write_csv(paths.plot(stage), curve(steps, start, end, norms=stage == "pretrain"))
    for stage in ("pretrain", "sft", "dpo"):
        prompts = ("numpy.", "A <b> &") if stage == "pretrain" else ("Which?",)
        rows = [
            {"step": step, "prompt": prompt, "text": f"text of {stage} at {step} <script>"}
            for step in range(100, 1300, 100)
            for prompt in prompts
        ]
        write_jsonl(paths.samples(stage), rows if stage != "dpo" else [])
    for index, model in enumerate(MODELS):
        tasks = {name: task(name, index) for name in TASKS}
        write_json(paths.stage("benchmark") / f"{model}.json", {"model": model, "tasks": tasks})
    write_jsonl(
        paths.stage("judge") / "verdicts.jsonl", [{"judge": "reward", "id": "a", "dpo_credit": 1.0}]
    )
    heldout = [
        {"id": str(i), "text": f"pkg.name_{i}(first, second=None)\n\nDo <b>thing</b> {i} & return."}
        for i in range(9)
    ]
    folder = paths.stage("decontaminate") / "heldout"
    folder.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(heldout), folder / "00000.parquet")


def curve(steps: int, start: float, end: float, *, norms: bool) -> list[dict[str, float]]:
    noise, rows = random.Random(0), []
    for step in range(10, steps + 1, 10):
        loss = end + (start - end) * math.exp(-4 * step / steps)
        row = {"step": step, "train/loss": loss + noise.gauss(0, 0.04), "lr": 1e-3}
        if step % 100 == 0 or step == steps:
            row["val/loss"] = loss + 0.03
        if norms and step % 20 == 0:
            layers = ("embed", "block_00", "block_01", "norm")
            row |= {f"train/grad_norm/{layer}": loss / (n + 1) for n, layer in enumerate(layers)}
        rows.append(row)
    return rows


def task(name: str, index: int) -> dict[str, Any]:
    metric, values = TASKS[name]
    samples = [
        {
            "id": f"{name}{i}",
            "prompt": f"How do I import `name_{i}` of pkg? <script>alert(1)</script>",
            "reference": f"from pkg import name_{i}",
            "answer": f"from pkg import name_{i if index else i + 1}",
            "correct": bool(index),
        }
        for i in range(5)
    ]
    stderr = 0.012 if metric == "bpb" else max(0.004, math.sqrt(values[index] * 0.3 / 150))
    scored = {"metric": metric, "score": values[index], "stderr": round(stderr, 4)}
    clean = {**scored, "n": 150}
    if name == "docs_type":
        clean = {"score": 0.25, "stderr": 0.1, "n": 40}
    if name == "docs_default":
        clean = {"n": 0}
    return {"version": 1, **scored, "n": 150, "clean": clean, "samples": samples}


def benchmark_metrics() -> dict[str, Any]:
    means = zip(MODELS, (0.0066, 0.716, 0.738), (0.003, 0.0163, 0.016), strict=True)
    summary: dict[str, Any] = {
        model: {"exact_match": mean, "exact_match_stderr": stderr} for model, mean, stderr in means
    }
    summary["sft"]["over_base"] = {"exact_match": 0.7094, "stderr": 0.0165}
    summary["dpo"]["over_base"] = {"exact_match": 0.7314, "stderr": 0.0161}
    return summary


def context(paths: Paths) -> Context:
    return Context("report", paths, Path("work"))


class Page(HTMLParser):
    """What a browser would fetch or run, and the names of pictures."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def attributes(self, name: str) -> list[str]:
        return [value for _, attrs in self.tags if (value := attrs.get(name))]


def report(paths: Paths) -> str:
    return (Path(paths.reports) / "report.html").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory, base: Path) -> str:
    """The page of the made-up run."""
    root = tmp_path_factory.mktemp("run")
    names = ("data", "metrics", "timings", "plots", "reports")
    paths = Paths(**{name: str(root / name) for name in names}, models=str(base), work=".llm")
    write_run(paths)
    with chdir(root):  # where no stage is locked
        run(context(paths), report=CONFIG)
    return report(paths)


def test_the_page_asks_for_nothing_else(text: str) -> None:
    page = Page(text)
    assert not {tag for tag, _ in page.tags} & {"script", "link", "img", "iframe", "object"}
    assert not page.attributes("src")
    assert not page.attributes("href")
    assert not re.search(r"url\((?!#)|@import", text)


def test_every_picture_names_itself_with_its_figures(text: str) -> None:
    pictures = [attrs for tag, attrs in Page(text).tags if tag == "svg"]
    labels = [attrs["aria-label"] or "" for attrs in pictures]
    assert len(pictures) == 9  # the funnel, four curves, norms, three kinds of score
    assert all(attrs["role"] == "img" for attrs in pictures)
    assert "47,820 (52 %)" in labels[0]
    assert any("docs_import dpo 0.950" in label for label in labels)
    assert len(set(labels)) == len(labels)


def test_tokens_are_told_by_source_and_language(text: str) -> None:
    rows = re.findall(r"<tr><td>(?:source|language)</td>.*</tr>", text)
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in rows]
    assert cells == [
        ["source", "docs", "3.91", "1.82", "7,100,000", "91.0 %"],
        ["source", "web", "", "", "702,198", "9.0 %"],
        ["language", "de", "2.31", "3.07", "", ""],
    ]


def test_clean_items_are_scored_beside_all(text: str) -> None:
    rows = re.findall(r"<tr><td>(docs_(?:type|default|import).*?)</tr>", text)
    told = [re.sub(r"</?td[^>]*>", " ", row).split() for row in rows]
    assert [row[:4] for row in told if "clean" in row] == [
        ["docs_default,", "clean", "exact_match", "0"],
        ["docs_type,", "clean", "exact_match", "40"],
    ]
    assert "940 of 1,200 items are clean" in text


def test_the_pages_ids_are_unique(text: str) -> None:
    ids = Page(text).attributes("id")
    assert len(set(ids)) == len(ids)


def test_what_a_document_or_a_model_says_is_shown_not_run(text: str) -> None:
    assert "<script>" not in text
    assert "&lt;script&gt;alert(1)" in text
    assert "A model &lt;from&gt; nothing" in text


def test_the_page_shows_how_the_models_learnt(text: str) -> None:
    assert "Gradient norms of pretrain by layer over the steps: 4 layers, " in text
    for step in (100, 400, 700, 900, 1200):  # five of twelve
        assert text.count(f"text of pretrain at {step} &lt;script&gt;") == 2
        assert text.count(f"text of sft at {step} &lt;script&gt;") == 1
    assert "text of pretrain at 200 " not in text
    assert "<pre>A &lt;b&gt; &amp;</pre>" in text


def test_the_headline_figures_are_the_stages(text: str) -> None:
    shown = re.sub(r"<[^>]+>", " ", text)
    for figure in ("3.46 M", "1.64 M", "1.587", "3.121", "73.8 ± 1.6 %", "57 %", "52 to 63 %"):
        assert figure in shown
    total = sum(7.5 * (i + 1) for i in range(len(STAGES)))
    assert f"{total // 60:.0f} min" in shown


def test_the_same_run_gives_the_same_bytes(finished: Paths) -> None:
    def written() -> dict[str, bytes]:
        files = [*Path(finished.reports).iterdir(), finished.plot("funnel")]
        return {file.name: file.read_bytes() for file in files}

    metrics = run(context(finished), report=CONFIG)
    before = written()
    assert run(context(finished), report=CONFIG) == metrics
    assert written() == before
    assert set(before) == {"report.html", "model_card.md", "data_card.md", "funnel.csv"}


def test_the_funnel_is_a_table_for_dvc_plots(finished: Paths) -> None:
    metrics = run(context(finished), report=CONFIG)
    lines = finished.plot("funnel").read_text().splitlines()
    assert lines[0] == "stage,documents"
    assert lines[1:] == [f"{stage},{n}" for stage, n in metrics["documents"].items()]


@pytest.mark.parametrize("stage", ["gather", "tokenize", "judge"])
def test_a_missing_metrics_file_is_named(finished: Paths, stage: str) -> None:
    finished.metric(stage).unlink()
    with pytest.raises(DataError, match=rf"metrics/{stage}\.json does not exist"):
        run(context(finished), report=CONFIG)


def test_a_missing_figure_is_named_with_its_file(finished: Paths) -> None:
    metrics = read_json(finished.metric("tokenize"))
    metrics.pop("order2_bpb")
    write_json(finished.metric("tokenize"), metrics)
    with pytest.raises(DataError, match=r"metrics/tokenize\.json: no number 'order2_bpb'"):
        run(context(finished), report=CONFIG)


def test_an_empty_curve_is_named(finished: Paths) -> None:
    finished.plot("sft").write_text("step,train/loss\n")
    with pytest.raises(DataError, match=r"plots/sft\.csv has no rows"):
        run(context(finished), report=CONFIG)


def test_lineage_is_dvcs_where_a_stage_is_locked_and_a_fingerprint_elsewhere(
    finished: Paths,
) -> None:
    Path("dvc.lock").write_text(
        "schema: '2.0'\nstages:\n  pretrain:\n    cmd: x\n    params:\n      params.yaml:\n"
        "        pretrain: {optim: {lr: 0.003}, seed: 7}\n        paths: {data: data}\n"
        "    outs:\n    - {path: models/base, md5: 0123abcd.dir, size: 1, nfiles: 5}\n"
    )
    run(context(finished), report=CONFIG)
    page = report(finished)
    assert "0123abcd.dir" in page
    assert '<td>pretrain.optim.lr</td><td class="hash">0.003</td>' in page
    assert "paths.data" not in page
    assert page.count("sha256:") == 3  # data/decontaminate, data/benchmark, data/judge
    assert "Graph of what was made" not in page


def test_the_graph_is_drawn_from_what_dvc_has_locked(finished: Paths) -> None:
    Path("dvc.lock").write_text(
        "schema: '2.0'\nstages:\n"
        "  tokenize:\n    outs:\n    - {path: data/tokenize, md5: 89abcdef01.dir}\n"
        "  pretrain:\n    deps:\n    - {path: data/tokenize, md5: 89abcdef01.dir}\n"
        "    outs:\n    - {path: models/base, md5: 0123abcdef.dir}\n"
    )
    run(context(finished), report=CONFIG)
    page = report(finished)
    (graph,) = re.findall(r'<figure class="card graph[^>]*>(.*?)</figure>', page, re.S)
    assert {"pretrain", "0123abcd", "89abcdef", "1,638,400 tokens, 1.587 bpb"} <= set(
        re.findall(r"<text[^>]*>([^<]*)</text>", graph)
    )
    assert "91,204 documents, 61.0 MB" in graph


def test_the_cards_hold_tables_that_markdown_can_read(finished: Paths) -> None:
    run(context(finished), report=CONFIG)
    for name in ("model_card.md", "data_card.md"):
        lines = (Path(finished.reports) / name).read_text().splitlines()
        tables = [
            lines[i : i + 2] for i, line in enumerate(lines) if re.fullmatch(r"[|:\- ]+", line)
        ]
        assert tables
        for rule, row in tables:
            assert rule.count("|") == row.count("|"), row
        assert not any("{{" in line or "{%" in line for line in lines)


@pytest.mark.parametrize(
    ("kind", "said", "loads"),
    [
        ("transformer", "transformer of 3,459,328 parameters in the Llama architecture", True),
        ("lstm", "recurrent network (LSTM) of 3,459,328 parameters, trained", False),
    ],
)
def test_the_architecture_is_named_beside_the_bits_per_byte(
    finished: Paths, tmp_path: Path, kind: str, said: str, loads: bool
) -> None:
    tokenizer = Tokenizer.load(finished.model("base"))
    network = shape(kind=kind, n_layer=1, n_head=2, n_kv_head=1, n_embd=16, n_inner=32)
    paths = finished.model_copy(update={"models": str(tmp_path / "models")})
    save_model(paths.model("base"), LanguageModel(network, tokenizer.vocab_size), tokenizer)
    run(context(paths), report=CONFIG)
    name = "Llama" if loads else "LSTM"
    assert f"The base model ({name}, 3.46 M parameters) reads held-out text at 1.587" in report(
        paths
    )
    card = (Path(paths.reports) / "model_card.md").read_text()
    assert f"A decoder-only {said}" in card
    assert ("library_name: transformers" in card) == loads
    assert card.startswith("---\nlanguage: en\n")


def test_continuations_begin_with_the_first_lines_of_held_out_documents(text: str) -> None:
    shown = text.partition("Continuations by the base model")[2]
    given = re.findall(r"<dt>given</dt><dd><pre>(.*?)</pre>", shown)
    assert len(given) == CONFIG.samples_per_kind
    assert all(re.fullmatch(r"pkg\.name_\d\(first, second=None\)", line) for line in given)
