"""What is read off a run: it says the truth, and leaves the run as it is."""

import gzip
import json
import math
import re
from pathlib import Path

import pytest
import torch

from llm.model.transformer import LanguageModel, initialise
from llm.train import throughput
from llm.train.throughput import clock
from llm.train.watch import layer_norms, layer_of, peak_memory_mb
from tests.train.toy import SHAPE, VOCAB, Patterns, config, run


def test_a_parameter_belongs_to_its_layer_whatever_wraps_it() -> None:
    assert layer_of("backbone.embed.weight") == "embed"
    assert layer_of("module._orig_mod.backbone.blocks.3.attn.q.weight") == "block_03"
    assert layer_of("backbone.blocks.12.mlp.up.weight") == "block_12"
    assert (layer_of("backbone.norm.weight"), layer_of("head.weight")) == ("norm", "head")


def test_the_layers_norms_make_up_the_global_norm() -> None:
    model = LanguageModel(SHAPE.model_copy(update={"tie_embeddings": False}), VOCAB)
    initialise(model, 1)
    batch = Patterns(1, 1, 4).micro_batch(0, 0)
    model(batch.inputs["ids"]).square().sum().backward()
    norms = layer_norms(dict(model.named_parameters()))
    blocks = [f"block_{n:02d}" for n in range(SHAPE.n_layer)]
    assert list(norms) == ["embed", *blocks, "norm", "head"]
    assert norms["head"] == pytest.approx(model.head.weight.grad.norm().item())  # type: ignore[union-attr]
    total = torch.nn.utils.clip_grad_norm_(model.parameters(), 1e9).item()
    assert math.sqrt(sum(value**2 for value in norms.values())) == pytest.approx(total)


def test_norms_by_layer_are_in_the_curve_when_they_are_due(tmp_path: Path) -> None:
    settings = config(grad_norm_interval=3, log_interval=5, eval_interval=100)
    plain, _ = run(tmp_path / "a", Patterns(10, 2, 4), config())
    model, outcome = run(tmp_path / "b", Patterns(10, 2, 4), settings)
    rows = {row["step"]: row for row in outcome.history}
    assert list(rows) == [3, 5, 6, 9, 10]
    for step, row in rows.items():
        by_layer = [value for key, value in row.items() if key.startswith("train/grad_norm/")]
        assert len(by_layer) == (SHAPE.n_layer + 2 if step % 3 == 0 else 0)
        if by_layer:
            total = math.sqrt(sum(value**2 for value in by_layer))
            assert total == pytest.approx(row["train/grad_norm"], rel=1e-5)
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_a_trace_shows_the_named_steps_and_changes_no_result(tmp_path: Path) -> None:
    kept: list[Path] = []
    plain, _ = run(tmp_path / "a", Patterns(6, 2, 4), config())
    settings = config(profile={"first_step": 3, "n_steps": 2})
    model, _ = run(tmp_path / "b", Patterns(6, 2, 4), settings, keep=kept.append)
    assert [path.name for path in kept] == ["toy-rank-0-steps-3-4.json.gz"]
    events = json.loads(gzip.decompress(kept[0].read_bytes()))["traceEvents"]
    names = {event.get("name") for event in events}
    assert {"step 3", "step 4"} <= names
    assert "step 2" not in names
    assert "step 5" not in names
    assert any(str(name).startswith("aten::mm") for name in names)
    for one, other in zip(plain.parameters(), model.parameters(), strict=True):
        assert torch.equal(one, other)


def test_the_progress_line_says_where_the_run_is(tmp_path: Path, caplog) -> None:
    caplog.set_level("INFO")
    seen: list[dict[str, float]] = []
    run(tmp_path, Patterns(4, 1, 4), config(), lambda step, metrics: seen.append(dict(metrics)))
    assert {"train/tokens_per_s", "train/mfu", "train/memory_mb", "lr"} <= seen[0].keys()
    assert seen[0]["train/memory_mb"] == pytest.approx(peak_memory_mb(torch.device("cpu")), rel=0.2)
    line = caplog.text.splitlines()[0]
    for word in ("step 1/4", "loss 3.", "lr ", "tokens/s", "mfu", " GB"):
        assert word in line, line
    assert re.search(r"\d:\d\d left", line), line


def test_time_left_is_said_in_hours_from_an_hour_on() -> None:
    assert [clock(s) for s in (5.4, 65, 3599.9, 43_445)] == ["0:05", "1:05", "1:00:00", "12:04:05"]


def test_the_peak_of_a_dtype_without_fast_products_is_that_of_fp32(monkeypatch) -> None:
    """Else a step would seem to do several times what the machine can."""
    found = {torch.float16: 1e9, torch.float32: 5e10}
    monkeypatch.setattr(throughput, "matmul_flops", lambda device, dtype: found[dtype])
    assert throughput.peak_flops.__wrapped__(torch.device("cpu"), torch.float16) == 5e10
