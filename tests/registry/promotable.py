"""A small project with registered versions that gates can judge: real models, data in DVC, lineage.

Version 1 has learnt the held-out questions by heart and answers them all; version 2 is
random; version 3 is version 1 again, by reference. All three come from `dvc repro` and
stage register.
"""

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from functools import cache
from pathlib import Path

import mlflow
import torch
import torch.nn.functional as F

from llm.config.params import load_params
from llm.config.presets import apply_values
from llm.config.tokenizer import TokenizerConfig
from llm.corpus.contamination import write_sets
from llm.corpus.documents import EXTRACTED, text_schema, write_rows
from llm.data.conversations import Conversation, write_conversations
from llm.files import write_json, write_text
from llm.model.folder import load_language_model, reward_from_language, save_model
from llm.model.transformer import LanguageModel
from llm.process import Context
from llm.stages.register import run as register
from llm.tokenizer.folder import save_tokenizer
from llm.tokenizer.load import Tokenizer
from llm.tokenizer.train import train_tokenizer
from tests.conftest import ROOT
from tests.shapes import shape

SHAPE = shape(block_size=96, n_head=2, n_kv_head=1, n_inner=64)
PARAMS = {
    "benchmark": {
        "tasks": ["docs_import", "docs_bpb"],
        "limit": 16,
        "max_new_tokens": 24,
        "device": "cpu",
    },
    "judge": {"prompts": 8, "sampling": {"max_new_tokens": 24}, "device": "cpu"},
    "preferences": {"sampling": {"max_new_tokens": 24}},
    "report": {"sampling": {"max_new_tokens": 24}},
    "instructions": {"kinds": ["import"]},
    "promote": {
        "safety": {"prompts": 4, "max_new_tokens": 24, "regurgitation_words": 12},
        # one answers at once, one never ends, and the machine may stall
        "latency": {"prompts": 2, "rounds": 2, "max_ratio": 1e9, "max_answer_s": 1e9},
    },
}
OUTS = {
    "decontaminate": "data/decontaminate",
    "instructions": "data/instructions",
    "sft": "models/sft",
    "dpo": "models/dpo",
    "reward": "models/reward",
}
MAKE = """
import shutil, sys
shutil.rmtree(sys.argv[1], ignore_errors=True)
shutil.copytree("made/" + sys.argv[1], sys.argv[1])
"""
VERBS = ("read", "write", "close", "open")
NOUNS = ("file", "socket", "table", "tree")


@cache
def built_project(base: Path) -> Path:
    """The project below `base`, made once per test session."""
    folder = base / "promotable" / "project"
    folder.mkdir(parents=True)
    with contextlib.chdir(folder):
        build()
    return folder


def copy_of(project: Path, to: Path) -> Path:
    """Another checkout with a registry of its own: what MLflow keeps by absolute path is moved."""
    shutil.copytree(project, to, symlinks=True)
    places = {
        "experiments": ["artifact_location"],
        "runs": ["artifact_uri"],
        "model_versions": ["source", "storage_location"],
        "logged_models": ["artifact_location"],
    }
    with contextlib.closing(sqlite3.connect(to / ".llm" / "mlflow.db")) as database:
        for table, columns in places.items():
            for column in columns:
                statement = f"UPDATE {table} SET {column} = REPLACE({column}, ?, ?)"
                database.execute(statement, (str(project), str(to)))
        database.commit()
    return to


def build() -> None:
    """Make the project in the working directory."""
    write_text(Path("params.yaml"), apply_values((ROOT / "params.yaml").read_text(), PARAMS, ""))
    write_text(Path("make.py"), MAKE)
    stages = {
        name: {"cmd": f"python make.py {out}", "deps": [f"made/{out}"], "outs": [out]}
        for name, out in OUTS.items()
    }
    write_json(Path("dvc.yaml"), {"stages": stages})  # JSON is YAML
    write_text(Path(".gitignore"), ".llm\n__pycache__\nmade\ndata\nmodels\nreports\nmetrics\n")
    _make_data(Path("made"))
    tokenizer = _make_tokenizer()
    learnt = _learnt(tokenizer)
    for name in ("sft", "dpo"):
        save_model(Path("made/models") / name, learnt, tokenizer)
    torch.manual_seed(7)
    reward = reward_from_language(load_language_model(Path("made/models/sft")))
    torch.nn.init.normal_(reward.score.weight)
    save_model(Path("made/models/reward"), reward, tokenizer)
    git("init", "--quiet")
    git("config", "user.name", "Ada")
    git("config", "user.email", "ada@localhost")
    subprocess.run([sys.executable, "-m", "dvc", "init", "--quiet"], check=True)
    git("add", "--all")
    git("commit", "--quiet", "--message", "first")
    make_version("upload")
    save_model(Path("made/models/sft"), _random(tokenizer), tokenizer)
    make_version("upload")
    save_model(Path("made/models/sft"), learnt, tokenizer)
    make_version("reference")


def make_version(weights: str) -> None:
    """`dvc repro`, and the stage register."""
    environment = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin"}
    subprocess.run([sys.executable, "-m", "dvc", "repro", "--quiet"], check=True, env=environment)
    params = load_params(Path("params.yaml"))
    scores = {"exact_match": 0.5, "docs_bpb": {"bpb": 2.5}}
    write_json(params.paths.metric("benchmark"), {"sft": scores, "dpo": scores})
    write_json(params.paths.metric("decontaminate"), {"contaminated": 0, "dropped": 0})
    write_json(Path("data/benchmark/sft.json"), {"tasks": {}})
    write_text(Path("reports/model_card.md"), "# A small model\n")
    config = params.register_.model_copy(update={"weights": weights})
    register(Context("register", params.paths, Path(".llm/work")), register=config)
    mlflow.set_tracking_uri(None)
    mlflow.set_registry_uri(None)


def git(*args: str) -> None:
    subprocess.run(["git", *args], check=True)


def _make_data(made: Path) -> None:
    rows = [_document(verb, noun) for verb in VERBS for noun in NOUNS]
    kept = [_document(verb, "ledger") for verb in VERBS]
    schema = text_schema(*EXTRACTED)
    folder = made / "data" / "decontaminate"
    write_rows(folder / "heldout" / "00000.parquet", rows, schema)
    write_rows(folder / "kept" / "00000.parquet", kept, schema)
    write_sets(folder, {})
    questions = [_question(row) for row in rows]
    write_conversations(made / "data" / "instructions" / "test.jsonl", questions)


def _document(verb: str, noun: str) -> dict[str, str]:
    name = f"{verb}_{noun}"
    text = f"shop.{noun}.{name}({noun})\n\nTo {verb} the {noun}, and say how it went."
    meta = {"kind": "function", "qualname": name, "top": f"shop.{noun}:{name}"}
    return {
        "id": name,
        "source": "docs",
        "url": f"python:shop.{noun}#{name}",
        "text": text,
        "language": "en",
        "meta": json.dumps(meta),
    }


def _question(row: dict[str, str]) -> Conversation:
    noun, name = row["url"].removeprefix("python:shop.").split("#")
    turns = [
        {"role": "user", "content": f"How do I import {name}?"},
        {"role": "assistant", "content": f"from shop.{noun} import {name}"},
    ]
    return Conversation(f"import-{name}", "import", row["url"], turns)


def _questions() -> list[Conversation]:
    return [_question(_document(verb, noun)) for verb in VERBS for noun in NOUNS]


def _make_tokenizer() -> Tokenizer:
    texts = [message["content"] for each in _questions() for message in each.messages]
    config = TokenizerConfig(
        init_from="",
        vocab_size=320,
        sample_bytes=10**6,
        min_frequency=2,
        max_digits=1,
        white_space="runs",
    )
    save_tokenizer(Path("made/tokenizer"), train_tokenizer(iter(texts), config))
    return Tokenizer.load(Path("made/tokenizer"))


def _random(tokenizer: Tokenizer) -> LanguageModel:
    torch.manual_seed(1)
    return LanguageModel(SHAPE, tokenizer.vocab_size)


def _learnt(tokenizer: Tokenizer) -> LanguageModel:
    """A model that has learnt every question's answer by heart."""
    model = _random(tokenizer)
    rows = [tokenizer.render(each.messages)[0] for each in _questions()]
    width = max(map(len, rows))
    ids = torch.tensor([row + [tokenizer.pad_id] * (width - len(row)) for row in rows])
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-3)
    for _ in range(150):
        logits = model(ids[:, :-1])
        targets = ids[:, 1:].flatten()
        loss = F.cross_entropy(logits.flatten(0, 1), targets, ignore_index=tokenizer.pad_id)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model
