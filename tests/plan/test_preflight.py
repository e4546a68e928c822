"""What would fail later is refused before any work, all of it at once; what may fit never is."""

import json
import shutil
import time
from collections import namedtuple
from pathlib import Path
from typing import Any

import pytest

from llm.config.params import Params
from llm.config.stages import STAGES
from llm.errors import ConfigError
from llm.plan import disk, preflight
from llm.plan.machine import Machine
from llm.plan.numbers import GIB
from llm.plan.plan import make_plan
from llm.plan.preflight import check_run, check_stage
from tests.plan.params import params

SERVER = Machine(24 * GIB, ())
TEXT_BYTES = 10**9
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def leave(monkeypatch: pytest.MonkeyPatch, free: int) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: Usage(10**13, 0, free))


def check(folder: Path, given: Params, stages: Any = STAGES) -> None:
    check_run(given, stages, TEXT_BYTES, folder, folder / ".llm" / "work")


def write(path: Path, size: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        file.truncate(size)


def test_a_run_that_the_disk_cannot_hold_is_refused_as_the_plan_says(folder, monkeypatch) -> None:
    leave(monkeypatch, GIB)
    (line,) = make_plan(params(), SERVER, {}, TEXT_BYTES, folder).refusals
    assert line.startswith("the disk has 1.0 GiB free, and 3.5 GiB are needed; free some, or")
    with pytest.raises(ConfigError) as caught:
        check(folder, params())
    assert str(caught.value) == line
    leave(monkeypatch, 4 * GIB)
    check(folder, params())


def test_what_lies_there_is_not_needed_again(folder: Path, monkeypatch) -> None:
    leave(monkeypatch, GIB)
    for stage in disk.CORPUS:
        write(folder / "data" / stage / "0.parquet", TEXT_BYTES // 2)
    with pytest.raises(ConfigError, match=r"1\.1 GiB are needed besides what lies there; free"):
        check(folder, params())
    write(folder / ".llm" / "work" / "tokenize-0123" / "0.bin", TEXT_BYTES)
    check(folder, params())


def test_what_does_not_run_is_not_needed(folder: Path, monkeypatch) -> None:
    leave(monkeypatch, GIB)
    check(folder, params(), ["sft", "judge"])
    leave(monkeypatch, 10**6)
    check(folder, params(), ["judge"])
    with pytest.raises(ConfigError, match="the disk has 1 MiB free"):
        check(folder, params(), ["sft"])
    there = params(overrides={"sft.init_from": str(folder)})  # which is as large as it is
    write(folder / "config.json", 2)
    check(folder, there, ["sft"])


def test_a_stage_looks_at_what_it_and_the_next_write(folder: Path, monkeypatch) -> None:
    """The corpus once it is gathered; a stage that trains its own model and checkpoints."""
    leave(monkeypatch, 10**6)
    work = folder / ".llm" / "work"
    check_stage(params(), "extract", work)
    (folder / "metrics").mkdir()
    (folder / "metrics" / "gather.json").write_text(json.dumps({"bytes": TEXT_BYTES}))
    with pytest.raises(ConfigError, match=r"1 MiB free, and 3\.4 GiB are needed; free some$"):
        check_stage(params(), "extract", work)
    check_stage(params(), "instructions", work)  # training may be elsewhere
    with pytest.raises(ConfigError, match="and 38 MiB are needed"):
        check_stage(params(), "dpo", work)
    write(work / "dpo-0123" / "step-50" / "0.distcp", 3 * 12 * 10**6)
    write(folder / "models" / "dpo" / "model.safetensors", 4 * 10**6)
    check_stage(params(), "dpo", work)


def test_files_that_params_name_are_missed_before_any_stage(folder: Path) -> None:
    named = {
        "filter.bad_words": "lists/bad.txt",
        "filter.url_blocklist": None,
        "instructions.extra": ["there.jsonl", "more.jsonl"],
        "tokenizer.init_from": str(folder / "hub"),
        "sft.init_from": "hub",
        "dpo.init_from": "models/base",  # made by this chain
    }
    write(folder / "there.jsonl", 0)
    write(folder / "hub" / "weights", 0)
    given = params(overrides=named)
    with pytest.raises(ConfigError) as caught:
        check(folder, given)
    lines = str(caught.value).splitlines()
    assert lines == [
        "filter.bad_words=lists/bad.txt is not there; name a file, or null for none",
        "instructions.extra=more.jsonl is not there; name a file, or leave it out",
        f"tokenizer.init_from={folder}/hub has no tokenizer.json; it names a folder on this disk "
        "with a published model",
        "sft.init_from=hub has no config.json; it names a folder on this disk with a published "
        "model",
    ]
    assert make_plan(given, SERVER, {}, None, folder).refusals == lines
    work = folder / ".llm"
    for stage, missed in (("gather", lines[:3]), ("pretrain", [lines[1], lines[3]])):
        with pytest.raises(ConfigError) as caught:
            check_stage(given, stage, work)
        assert str(caught.value).splitlines() == missed
    check_stage(given, "reward", work)


def test_what_is_small_asks_no_machine_and_takes_no_time(folder, monkeypatch) -> None:
    def asked() -> Machine:
        raise AssertionError("the machine was asked")

    monkeypatch.setattr(preflight, "this_machine", asked)
    small, took_s = params(), []
    for _ in range(3):  # the garbage of tests before may be collected in one
        before = time.thread_time()
        check(folder, small)
        took_s.append(time.thread_time() - before)
    assert min(took_s) < 0.05


def test_every_refusal_is_said_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(preflight, "this_machine", lambda: SERVER)
    leave(monkeypatch, GIB)
    with pytest.raises(ConfigError) as caught:
        check(folder, params(overrides={"model.n_layer": 4_000_000}), ["gather", "sft", "dpo"])
    assert [line[:4] for line in str(caught.value).splitlines()] == ["sft:", "dpo:", "the "]
