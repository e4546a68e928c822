"""A corpus stage whose disk is full says so, leaves nothing half-written and runs again."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from llm.config.paths import Paths
from llm.files import fingerprint, is_disk_full
from llm.process import Context
from tests.registry.corpus import MODULES, configs_of, make_corpus, params

STAGES = ("extract", "decontaminate", "tokenize")


def run_stage(paths: Paths, stage: str) -> None:
    context = Context(stage, paths, Path(paths.work) / stage)
    MODULES[stage].run(context, **{stage: configs_of(params())[stage]})


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


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small file system")
@pytest.mark.parametrize("stage", STAGES)
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
