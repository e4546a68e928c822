"""A stage as a process in a project of its own, and what may befall it: SIGKILL, a full disk."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from llm.files import fingerprint
from tests.conftest import ROOT

PARAMS = (ROOT / "params.yaml").read_text()

# Runs `python -m MODULE`, the last word, which is killed as soon as it has given a file a name
# that matches the first.
KILLED = """
import os, runpy, signal, sys
import pyarrow.parquet

from pathlib import Path

moment, *_, module = sys.argv[1:]

def dying(write):
    def write_and_die(*args, **kwargs):
        write(*args, **kwargs)
        if any(Path().glob(moment)):
            os.kill(os.getpid(), signal.SIGKILL)

    return write_and_die

os.replace = dying(os.replace)
pyarrow.parquet.write_table = dying(pyarrow.parquet.write_table)
runpy.run_module(module, run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class StageProcess:
    """Stage `name` in `folder`, which holds params, a graph without deps, and what the stage reads."""

    name: str
    folder: Path

    @property
    def out(self) -> Path:
        return self.folder / "data" / self.name

    def prepare(self, write_inputs: Callable[[Path], object], params: str = PARAMS) -> None:
        """Make the folder; `write_inputs` is given its `data`."""
        self.folder.mkdir()
        (self.folder / "dvc.yaml").write_text(f"stages: {{{self.name}: {{deps: []}}}}")
        (self.folder / "params.yaml").write_text(params)
        write_inputs(self.folder / "data")

    def start(self, *within: str) -> subprocess.Popen[str]:
        """Not waited for; `within` is a command that runs the one which follows it."""
        return subprocess.Popen(
            [*within, sys.executable, "-m", f"llm.stages.{self.name}"],
            cwd=self.folder,
            env=os.environ | {"PYTHONPATH": str(ROOT), "LLM_WORKERS": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def finish(self) -> dict[str, str]:
        """Run to the end; returns hashes of what it has made."""
        stage = self.start()
        errors = stage.communicate(timeout=300)[1]
        assert stage.returncode == 0, errors
        return {name: fingerprint(self.folder / name) for name in ("data", "metrics")}

    def kill_at(self, moment: str) -> None:
        """SIGKILL when there is a file whose path matches; it has made no out then."""
        stage = self.start(sys.executable, "-c", KILLED, moment)
        errors = stage.communicate()[1]
        assert stage.returncode == -signal.SIGKILL, errors
        assert not self.out.exists()

    def fill_the_disk(self, part: str, room: int) -> None:
        """With `part` on a disk of its own that has so many bytes left, it fails with one error
        and leaves nothing of what it began."""
        if not shutil.which("unshare") or subprocess.run(["unshare", "-rm", "true"]).returncode:
            pytest.skip("this system lets nobody mount a file system")
        (self.folder / part).mkdir(exist_ok=True)
        before = _tree(self.folder / "data")
        files = (file for file in (self.folder / part).rglob("*") if file.is_file())
        size = room + sum(-(-file.stat().st_size // 4096) * 4096 for file in files)
        script = (
            f"cp -r {part} packed && mount -t tmpfs -o size={size} none {part} && "
            f'cp -r packed/. {part} && rm -r packed && "$@"; echo $?; find data | LC_ALL=C sort'
        )
        stage = self.start("unshare", "-rm", "sh", "-c", script, "sh")
        output, said = stage.communicate(timeout=300)
        assert output.split() == ["1", *before], said
        (error,) = [line for line in said.splitlines() if "error" in line.lower()]
        assert f"{self.name}: the disk is full" in error
        assert "Traceback" not in said


def _tree(folder: Path) -> list[str]:
    """What `find data | sort` prints of it."""
    return sorted(
        ["data", *(str(Path("data") / path.relative_to(folder)) for path in folder.rglob("*"))]
    )
