"""Trains in processes that are killed at random moments, each forked from one that has torch:

python -m tests.stages.killed_training FOLDER

FOLDER holds what `make_inputs` makes, and gets a file of `Attempt`s. The process that forks
trains nothing itself: autograd refuses to work in a child of one that has.
"""

import importlib
import os
import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from llm.config.align import DpoConfig, SftConfig
from llm.config.base import validate
from llm.config.paths import Paths
from llm.config.train import LaunchConfig, PretrainConfig
from llm.data.conversations import Conversation, write_conversations
from llm.data.pairs import Pair, write_pairs
from llm.files import fingerprint, write_json
from llm.process import Context
from llm.stages import dpo, pretrain, sft
from llm.train.throughput import peak_flops
from tests.shapes import shape
from tests.train.toy import SAMPLES, config

ATTEMPTS = "attempts.json"
SEEDS = range(10)
MODELS = {"pretrain": "base", "sft": "sft", "dpo": "dpo"}
N_STEPS = 8
STEP_S = 0.02  # about; a kill comes up to one step after the step that it was drawn for
LAUNCH = LaunchConfig(parallel="ddp", nodes=1, nproc_per_node=1, group_ranks=1, recompute="none")
SHAPE = shape(block_size=48, n_head=2, n_kv_head=1, n_embd=16, n_inner=32)
TRAIN = config(eval_interval=3, micro_batch_size=2, checkpoint={"steps": 2}).model_dump()
TRAIN["samples"] = SAMPLES | {"interval": 3, "prompts": ["What is"]}
SECTIONS: dict[str, dict[str, Any]] = {
    "pretrain": {
        "model": SHAPE,
        "pretrain": validate(
            PretrainConfig,
            TRAIN
            | {"z_loss": 0.0, "document_mask": True, "packing": "concatenate", "packing_window": 30}
            | {"batch_tokens": 192, "max_tokens": 192 * N_STEPS, "zero_outputs": True},
            "",
        ),
    },
    "sft": {
        "sft": validate(
            SftConfig,
            TRAIN
            | {"z_loss": 0.0, "epochs": N_STEPS // 2, "batch_sequences": 4}
            | {"packing": "pad", "packing_window": 100},
            "",
        )
    },
    "dpo": {
        "dpo": validate(
            DpoConfig, TRAIN | {"beta": 0.1, "epochs": N_STEPS // 2, "batch_pairs": 4}, ""
        )
    },
}


@dataclass(frozen=True)
class Attempt:
    """A run that was killed, and the one after it."""

    stage: str
    drawn_step: int
    ended_by: int  # the signal
    last_step: int  # that the killed run reported
    first_step: int  # that the next one did
    differing: list[str]  # outs that are not those of an undisturbed run, to the byte


def make_inputs(paths: Paths) -> None:
    """Conversations and pairs; the shards and their tokenizer are the caller's."""
    user = {"role": "user", "content": "math?"}
    turns = [user, {"role": "assistant", "content": "hypot"}]
    for split in ("train", "test"):
        rows = [Conversation(str(n), "chat", "test", turns) for n in range(8)]
        write_conversations(paths.stage("instructions") / f"{split}.jsonl", rows)
        pairs = [Pair([user], "hypot", "sin" * (n % 3 + 1), "test", "chat") for n in range(8)]
        write_pairs(paths.stage("preferences") / f"{split}.jsonl", pairs)


class Trial:
    """One stage, run again and again."""

    def __init__(self, stage: str, paths: Paths) -> None:
        self.stage, self.paths = stage, paths
        self.work = Path(paths.work) / stage
        self.work.parent.mkdir(exist_ok=True)
        self.reported = Path(paths.work) / "steps"  # a line per step that a run reported
        self.outs = [
            *(paths.model(MODELS[stage]), paths.plot(stage), paths.samples(stage)),
            paths.metric(stage),
        ]

    def undisturbed(self) -> dict[str, str]:
        """The outs of a run that nobody kills, after which its modules are here as well."""
        modules = Path(self.paths.work) / "modules"

        def note(step: int) -> None:
            modules.write_text(
                "\n".join(name for name in sys.modules if name.startswith(("llm.", "torch.")))
            )

        assert forked(lambda: self.run(note)) == 0
        for name in modules.read_text().split("\n"):
            with suppress(ImportError):  # some of torch's are made up
                importlib.import_module(name)
        return self.found()

    def killed(self, seed: int, expected: dict[str, str]) -> Attempt:
        """A run that is killed at a random moment, and the next one."""
        draw = random.Random(seed)
        drawn = draw.randint(1, N_STEPS)
        delay_s = draw.uniform(0, STEP_S)
        self.forget()

        def kill(step: int) -> None:
            if step == drawn:
                die = (os.getpid(), signal.SIGKILL)
                threading.Timer(delay_s, os.kill, die).start()

        ended = forked(lambda: (self.run(kill), time.sleep(60)))
        last = self.steps()[-1]
        self.forget_outs()
        assert forked(lambda: self.run(lambda step: None)) == 0
        found = self.found()
        differing = [out for out in expected if found[out] != expected[out]]
        return Attempt(self.stage, drawn, -ended, last, self.steps()[0], differing)

    def run(self, at_step: Callable[[int], None]) -> None:
        """The stage in this process, from what was left of the work."""
        self.reported.unlink(missing_ok=True)

        def log(step: int, metrics: Mapping[str, float]) -> None:
            with self.reported.open("a") as file:
                file.write(f"{step}\n")
            at_step(step)

        context = Context(self.stage, self.paths, self.work, log=log)
        stage = {"pretrain": pretrain.run, "sft": sft.run, "dpo": dpo.run}[self.stage]
        write_json(
            self.paths.metric(self.stage), stage(context, launch=LAUNCH, **SECTIONS[self.stage])
        )

    def steps(self) -> list[int]:
        return [int(line) for line in self.reported.read_text().split()]

    def found(self) -> dict[str, str]:
        return {str(out): fingerprint(out) for out in self.outs}

    def forget(self) -> None:
        shutil.rmtree(self.work, ignore_errors=True)
        self.forget_outs()

    def forget_outs(self) -> None:
        """As DVC does before it runs a stage."""
        for out in self.outs:
            if out.is_dir():
                shutil.rmtree(out)
            out.unlink(missing_ok=True)


def forked(body: Callable[[], object]) -> int:
    """Exit code of a child that does it: minus the signal that ended it."""
    if child := os.fork():
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        body()
    except BaseException:
        sys.excepthook(*sys.exc_info())
        os._exit(1)
    os._exit(0)


if __name__ == "__main__":
    names = Paths.model_fields
    paths = Paths(**{name: str(Path(sys.argv[1]) / name) for name in names})
    peak_flops(torch.device("cpu"), torch.float32)
    attempts = []
    for stage in MODELS:
        trial = Trial(stage, paths)
        expected = trial.undisturbed()
        attempts += [trial.killed(seed, expected) for seed in SEEDS]
        trial.forget()
        assert forked(lambda trial=trial: trial.run(lambda step: None)) == 0  # the next one's input
    write_json(Path(sys.argv[1]) / ATTEMPTS, [asdict(attempt) for attempt in attempts])
