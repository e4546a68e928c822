"""A corpus stage that is killed, or whose disk is full, leaves nothing half-written and runs again
to the same bytes."""

import os
import pickle
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from llm.config.paths import Paths
from llm.files import fingerprint, is_disk_full
from llm.process import Context
from tests.conftest import ROOT
from tests.registry.corpus import MODULES, configs_of, make_corpus, params

SHARDED = ("extract", "decontaminate", "tokenize")

# Runs a stage that is killed while it writes its second table, or where it would first give a
# file or folder its name.
KILLED = """
import importlib, os, pickle, signal, sys
import pyarrow.parquet

from pathlib import Path
from llm.process import Context

stage, module, paths, configs, moment = pickle.load(sys.stdin.buffer)
context = Context(stage, paths, Path(paths.work) / stage)
write_table = pyarrow.parquet.write_table

def die(*args, **kwargs):
    os.kill(os.getpid(), signal.SIGKILL)

def write_once(*args, **kwargs):
    pyarrow.parquet.write_table = die
    return write_table(*args, **kwargs)

if moment == "table":
    pyarrow.parquet.write_table = write_once
else:
    os.replace = die
importlib.import_module(module).run(context, **configs)
"""


def run_stage(paths: Paths, stage: str) -> None:
    context = Context(stage, paths, Path(paths.work) / stage)
    MODULES[stage].run(context, **configs_of(params())[stage])


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Paths:
    """A small corpus that has gone through every stage, undisturbed."""
    return make_corpus(tmp_path_factory.mktemp("corpus"))[0]


def without(made: Paths, stage: str, folder: Path) -> Paths:
    """A copy of the corpus in which the stage has not run."""
    data = folder / "data"
    shutil.copytree(made.data, data, dirs_exist_ok=True)
    shutil.rmtree(data / stage)
    return made.model_copy(update={"data": str(data), "work": str(folder / "work")})


@pytest.mark.parametrize(
    ("stage", "moment"),
    [*((stage, "table") for stage in SHARDED), ("tokenize", "rename"), ("tokenizer", "rename")],
)
def test_a_stage_that_is_killed_leaves_no_out_and_runs_again_to_the_same_bytes(
    made: Paths, stage: str, moment: str, tmp_path: Path
):
    paths = without(made, stage, tmp_path)
    what = (stage, MODULES[stage].__name__, paths, configs_of(params())[stage], moment)
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-c", KILLED]
    killed = subprocess.run(command, input=pickle.dumps(what), env=env, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert not paths.stage(stage).exists()
    run_stage(paths, stage)
    assert fingerprint(paths.stage(stage)) == fingerprint(made.stage(stage))
    assert not list(Path(paths.data).glob(".*"))


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.parametrize("stage", [*SHARDED, "tokenizer"])
def test_a_full_disk_is_known_as_one_and_leaves_nothing(made: Paths, stage: str, tmp_path: Path):
    disk = tmp_path / "data"
    disk.mkdir()

    def mount(*options: str) -> None:
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(disk)], check=True)

    mount("-o", "size=64m")
    try:
        paths = without(made, stage, tmp_path)
        used = shutil.disk_usage(disk).used
        mount("-o", f"remount,size={used + 8192}")
        with pytest.raises(Exception, match="No space left") as raised:
            run_stage(paths, stage)
        assert is_disk_full(raised.value)
        assert not paths.stage(stage).exists()
        assert not list(disk.glob(".*"))
        mount("-o", "remount,size=64m")
        run_stage(paths, stage)
        assert fingerprint(paths.stage(stage)) == fingerprint(made.stage(stage))
    finally:
        subprocess.run(["umount", "--lazy", str(disk)], check=True)  # an error holds files
