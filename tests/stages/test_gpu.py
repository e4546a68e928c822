"""Stages that train on a GPU leave what they leave on a CPU."""

import logging
import shutil
from typing import Any

import pytest
import torch

from llm.config.paths import Paths
from llm.model.folder import load_language_model
from tests.shapes import shape
from tests.stages.corpus_inputs import context
from tests.stages.test_pretrain import make_shards, pretraining, run
from tests.train.toy import SAMPLES

pytestmark = pytest.mark.gpu

WRITING = SAMPLES | {"interval": 2, "prompts": ["math.hypot("]}


@pytest.mark.parametrize("changes", [{}, {"document_mask": True, "packing": "best_fit"}])
@pytest.mark.parametrize("compiled", ["off", "on"])
def test_pretrain_leaves_a_folder_that_a_cpu_reads(
    gpu: torch.device, paths: Paths, caplog, compiled: str, changes: dict[str, Any]
) -> None:
    """With texts written on the way, which is inference between two steps."""
    caplog.set_level(logging.INFO)
    make_shards(paths, "")
    own = {"precision": "bf16", "samples": WRITING} | changes
    expected = run(paths, shape(), pretraining(**changes))
    shutil.rmtree(context("pretrain", paths).work)
    found = run(paths, shape(), pretraining(device=gpu.type, compile=compiled, **own))
    assert found["val/loss"] == pytest.approx(expected["val/loss"], abs=0.03)
    assert "math.hypot(" in caplog.text
    model = load_language_model(paths.model("base"))
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert model(torch.arange(16)[None]).isfinite().all()
