"""A tiny world: held-out documents, questions, a tokenizer, random models, a judge's endpoint."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch

from llm.config.paths import Paths
from llm.config.tokenizer import TokenizerConfig
from llm.corpus.contamination import Hit, write_hits, write_sets
from llm.corpus.documents import text_schema, write_rows
from llm.files import write_jsonl
from llm.inference.engine import Engine
from llm.model.folder import load_language_model, reward_from_language, save_model
from llm.model.transformer import LanguageModel
from llm.tokenizer.folder import save_tokenizer
from llm.tokenizer.load import Tokenizer
from llm.tokenizer.train import train_tokenizer
from tests.shapes import shape

SHAPE = shape(n_head=2, n_kv_head=1, n_embd=16, n_inner=32)
VERBS = ("Read", "Write", "Close", "Open", "Copy", "Move", "Count", "Sort")
NOUNS = ("file", "socket", "table", "tree")
KINDS = ("import", "parameters")

Reply = Callable[[str, str, str], str | int]  # (question, A, B) -> text, or an HTTP status


def documents() -> list[dict[str, str]]:
    """32 functions: a heading, an empty line, and a docstring of a few lines."""
    rows = []
    for i, (verb, noun) in enumerate((v, n) for v in VERBS for n in NOUNS):
        name = f"pkg.{noun}.{verb.lower()}_{noun}"
        doc = f"{verb} the {noun} and return its size in bytes.\n\n" + f"Item {i}. " * (i + 1)
        meta = {"kind": "function", "qualname": name, "doc": doc}
        rows.append(
            {
                "id": f"{i:02d}",
                "source": "docs",
                "url": f"python:{name}",
                "text": f"{name}({noun}, limit={i})\n\n{doc}",
                "meta": json.dumps(meta),
            }
        )
    return rows


def conversations(kind: str) -> list[dict[str, Any]]:
    return [
        {
            "id": f"{kind}-{row['id']}",
            "kind": kind,
            "source": row["url"],
            "messages": [
                {"role": "user", "content": f"{kind} of {row['text'].partition('(')[0]}?"},
                {"role": "assistant", "content": row["text"].partition("(")[0]},
            ],
        }
        for row in documents()
    ]


def pairs() -> list[dict[str, Any]]:
    return [
        {
            "prompt": item["messages"][:1],
            "chosen": item["messages"][1]["content"],
            "rejected": "no idea",
            "source": "docs",
            "kind": item["kind"],
        }
        for item in conversations("import")[:10]
    ]


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    folder = tmp_path_factory.mktemp("tokenizer")
    config = TokenizerConfig(
        init_from="",
        vocab_size=320,
        sample_bytes=10**6,
        min_frequency=2,
        max_digits=1,
        white_space="runs",
    )
    save_tokenizer(folder, train_tokenizer(iter(r["text"] for r in documents()), config))
    return Tokenizer.load(folder)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory, tokenizer: Tokenizer) -> Path:
    """Folders base, sft, dpo and reward, each with other random weights."""
    root = tmp_path_factory.mktemp("models")
    for seed, name in enumerate(("base", "sft", "dpo")):
        save_model(root / name, _random(seed, tokenizer), tokenizer)
    reward = reward_from_language(load_language_model(root / "sft"))
    torch.nn.init.normal_(reward.score.weight)
    save_model(root / "reward", reward, tokenizer)
    return root


def _random(seed: int, tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(seed)
    model = LanguageModel(SHAPE, tokenizer.vocab_size)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.3)  # far from uniform, so that scores differ
    return model


@pytest.fixture(scope="session")
def engine(models: Path) -> Engine:
    return Engine.load(models / "base", device="cpu")


@pytest.fixture
def world(tmp_path: Path, models: Path) -> Paths:
    """A project's folders as the evaluation stages find them."""
    names = ("data", "metrics", "timings", "plots", "reports")
    paths = Paths(
        **{name: str(tmp_path / name) for name in names},
        models=str(models),
        work=str(tmp_path / ".llm"),
    )
    heldout = paths.stage("decontaminate") / "heldout"
    heldout.mkdir(parents=True)
    pq.write_table(pa.Table.from_pylist(documents()), heldout / "00000.parquet")
    write_contamination(paths, [])
    rows = [row for kind in KINDS for row in conversations(kind)]
    write_jsonl(paths.stage("instructions") / "test.jsonl", rows)
    write_jsonl(paths.stage("preferences") / "test.jsonl", pairs())
    return paths


def write_contamination(paths: Paths, hits: list[tuple[str, str]]) -> None:
    """Hits of (training document, held-out document or item); of those "trained" is trained on."""
    folder = paths.stage("decontaminate")
    write_hits(folder, (Hit("heldout", one, other, 0, "a b c") for one, other in hits))
    write_sets(folder, {"riddles": [(f"riddles:{n}", "text") for n in range(6)]})
    write_rows(folder / "kept" / "00000.parquet", [{"id": "trained"}], text_schema("id"))


RIDDLES = """
task: riddles
dataset_path: json
dataset_kwargs: {data_files: {test: FILE}}
test_split: test
output_type: multiple_choice
doc_to_text: "Riddle: {{question}} Answer:"
doc_to_choice: options
doc_to_target: right
metric_list: [{metric: acc}, {metric: acc_norm}]
"""
ANSWERS = """
include: riddles.yaml
task: answers
output_type: generate_until
doc_to_choice: null
doc_to_target: "{{options[right]}}"
num_fewshot: 2
fewshot_split: test
generation_kwargs: {until: ["\\n"]}
metric_list: [{metric: exact_match}]
"""


@pytest.fixture
def riddles(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """The items of somebody's own tasks `riddles` and `answers`, the only ones in evals/tasks."""
    tasks, items = tmp_path / "tasks", tmp_path / "riddles.jsonl"
    tasks.mkdir()
    (tasks / "riddles.yaml").write_text(RIDDLES.replace("FILE", str(items)))
    (tasks / "answers.yaml").write_text(ANSWERS)
    for module in ("catalogue", "task_files"):  # the first takes TASKS from the second
        monkeypatch.setattr(f"evals.{module}.TASKS", tasks)
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path / "cache")
    rows = [{"question": f"{n}?", "options": ["a", "bee"], "right": n % 2} for n in range(8)]
    write_jsonl(items, rows)
    return items


class Endpoint:
    """An OpenAI-compatible endpoint on loopback: where it is, and what it was asked."""

    def __init__(self, port: int) -> None:
        self.base_url = f"http://127.0.0.1:{port}/v1"
        self.requests: list[dict] = []


@contextmanager
def serve_endpoint(reply: Reply) -> Iterator[Endpoint]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler)
    state = Endpoint(server.server_address[1])
    server.RequestHandlerClass = _handler(reply, state)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _handler(reply: Reply, state: Endpoint) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            key = self.headers["Authorization"]
            state.requests.append(body | {"path": self.path, "key": key})
            said = reply(*_shown(body["messages"][-1]["content"]))
            status, text = (said, "") if isinstance(said, int) else (200, said)
            message = {"role": "assistant", "content": text}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            answer = {"id": "1", "object": "chat.completion", "created": 0, "model": "judge"}
            payload = json.dumps(answer | {"choices": [choice]}).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(payload)))
            self.end_headers()
            self.wfile.write(payload)

        def log_message(self, format: str, *args: object) -> None:
            """Quiet."""

    return Handler


def _shown(prompt: str) -> tuple[str, str, str]:
    question, _, rest = prompt.removeprefix("[Question]\n").partition("\n\n[Answer A]\n")
    first, _, second = rest.partition("\n\n[Answer B]\n")
    return question, first, second.removesuffix("\n")


@pytest.fixture
def endpoint() -> Callable[[Reply], AbstractContextManager[Endpoint]]:
    """`with endpoint(reply) as server`: a judge that says what `reply` returns."""
    return serve_endpoint
