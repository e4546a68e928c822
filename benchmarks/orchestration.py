"""What the pipeline costs beside its stages: a start, a run with nothing to do, a run as a flow.

    python -m benchmarks.orchestration [--preset smoke] [--default-run-s 354]

Two clones of the committed project, each with a DVC cache of its own. In one, `dvc repro` runs
the whole chain, then again with nothing to do. In the other, `make up` starts the servers, and
`build-llm` does the same twice. The flow's overhead is the difference of the two whole chains:
seconds that do not depend on the sizes, so that their share of a longer run (`--default-run-s`,
seconds of a default run) follows.
"""

import argparse
import logging
import os
import shlex
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from llm.config.base import read_yaml

PORTS = ("LLM_PREFECT_PORT", "LLM_MLFLOW_PORT", "LLM_SERVE_PORT")
UP_S, RUN_S = 180, 1800

logger = logging.getLogger("benchmark")


def main() -> None:
    logging.basicConfig(format="%(message)s", stream=sys.stdout)
    logger.setLevel(logging.INFO)  # not what the HTTP client says of each request
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--preset", default="smoke", help="the chain's size")
    parser.add_argument("--default-run-s", type=float, default=354.0, help="of a default run")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        plain, flow = (clone(Path(folder) / name, args.preset) for name in ("plain", "flow"))
        slowest, start_s = max(import_seconds(plain).items(), key=lambda item: item[1])
        chain_s, nothing_s = repro_seconds(plain), min(repro_seconds(plain) for _ in range(3))
        with servers(flow) as environment:
            flow_s, flow_nothing_s = flow_seconds(flow, environment)
    overhead_s = flow_s - chain_s
    share = overhead_s / args.default_run_s
    rows = [
        ("imports of a stage's process, the slowest: " + slowest, start_s),
        ("`dvc repro` with nothing to do", nothing_s),
        ("`build-llm` with nothing to do, from request to end", flow_nothing_s),
        (f"whole chain, {args.preset}: `dvc repro`", chain_s),
        (f"whole chain, {args.preset}: `build-llm`", flow_s),
        (f"the flow's overhead, {100 * share:.1f} % of a default run", overhead_s),
    ]
    for what, seconds in rows:
        logger.info("| %s | %.1f s |", what, seconds)


def clone(folder: Path, preset: str) -> Path:
    """The committed project at the preset's size, committed."""
    here = Path(__file__).parents[1]
    run(["git", "clone", "--quiet", str(here), str(folder)], folder.parent)
    run([sys.executable, "-m", "llm.cli", "preset", preset], folder)
    identity = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@example.org"]
    run(["git", *identity, "commit", "--quiet", "--all", "--message", preset], folder)
    return folder


def import_seconds(folder: Path) -> dict[str, float]:
    """Per stage, the time in which Python starts and imports its module: the best of three."""
    stages = read_yaml(folder / "dvc.yaml")["stages"]
    modules = {name: stage["cmd"].split()[-1] for name, stage in stages.items()}
    return {
        name: min(timed([sys.executable, "-c", f"import {module}"], folder) for _ in range(3))
        for name, module in modules.items()
    }


def repro_seconds(folder: Path) -> float:
    return timed(["dvc", "repro"], folder)


@contextmanager
def servers(folder: Path) -> Iterator[dict[str, str]]:
    """`make up` until the body ends; yields what its `.llm/env` sets."""
    with (folder / "up.log").open("w") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "flows.up"],
            cwd=folder,
            env=environment() | {name: str(free_port()) for name in PORTS},
            stderr=log,
        )
    try:
        deadline = time.monotonic() + UP_S
        while not (folder / ".llm" / "env").exists():
            if process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"make up did not start: {(folder / 'up.log').read_text()}")
            time.sleep(0.2)
        yield exported(folder / ".llm" / "env")
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def flow_seconds(folder: Path, settings: dict[str, str]) -> tuple[float, float]:
    """Seconds from request to end of the whole chain, and of a run with nothing to do."""
    os.environ |= settings
    from prefect.client.orchestration import get_client

    with get_client(sync_client=True) as client:
        deployment = client.read_deployment_by_name("build-llm/default").id
        seconds = []
        for _ in range(2):
            started = time.monotonic()
            asked = client.create_flow_run_from_deployment(deployment)
            while True:
                state = client.read_flow_run(asked.id).state
                if state is not None and state.is_final():
                    break
                time.sleep(0.25)
            seconds.append(time.monotonic() - started)
            if not state.is_completed():
                raise RuntimeError(f"build-llm ended as {state}; see {folder / '.llm' / 'logs'}")
    return seconds[0], seconds[1]


def exported(path: Path) -> dict[str, str]:
    """The variables that a file of `export NAME=VALUE` lines sets."""
    words = shlex.split(path.read_text(encoding="utf-8"), comments=True)
    return dict(word.split("=", 1) for word in words if "=" in word)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environment() -> dict[str, str]:
    """Ours, where `python` is the interpreter that runs us, and keeps its bytecode."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {key: value for key, value in os.environ.items() if key != "PYTHONDONTWRITEBYTECODE"}
    return kept | {"PATH": path, "LLM_TRACKING": "on"}


def timed(command: list[str], folder: Path) -> float:
    started = time.monotonic()
    run(command, folder)
    return time.monotonic() - started


def run(command: list[str], folder: Path) -> None:
    done = subprocess.run(
        command, cwd=folder, env=environment(), capture_output=True, text=True, timeout=RUN_S
    )
    if done.returncode:
        raise RuntimeError(f"{shlex.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")


if __name__ == "__main__":
    main()
