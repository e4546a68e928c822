"""What a run is said to cost, against arithmetic by hand."""

from pathlib import Path

import pytest

from llm.config.params import TRAINING
from llm.errors import ConfigError
from llm.plan.disk import disk_of
from llm.plan.machine import Machine
from llm.plan.numbers import GIB
from llm.plan.plan import START_S, make_plan
from llm.plan.speed import Speed, assumed_speed, known_gpu, machine_with
from llm.plan.work import work
from tests.plan.params import SEVEN_B, params

SERVER = Machine(24 * GIB, ())


def test_gpt2_124m_by_hand() -> None:
    """124,475,904 parameters of 4 bytes, their gradients, AdamW's two means, and 32 x 1024 tokens.

    A layer keeps for a token, in bf16 of width C: two inputs of norms and two outputs (4 C), q, k and
    v (3 C), attention's output (C), GELU's input and output (8 C): 16 C, and the bf16 weights.
    """
    gpt2, a100 = params("gpt2-124m"), known_gpu("a100-40")
    speeds = {stage: assumed_speed(a100, gpt2, stage) for stage in TRAINING}
    plan = make_plan(gpt2, machine_with(a100, gpt2), speeds, None, None)
    assert plan.parameters == 124_475_904
    pretrain = plan.stages["pretrain"]
    assert pretrain.work.steps == 2_500_329_472 // 524_288
    layer = 4 * 768**2 + 2 * 768 * 3072
    by_hand = 6 * (50_304 * 768 + 12 * layer) + 12 * 12 * 768 * 1024
    assert pretrain.work.flops_per_token == by_hand
    memory = pretrain.memory
    assert memory.optimizer == 2 * memory.weights == 2 * 4 * plan.parameters
    tokens, width = 32 * 1024, 768
    assert memory.activations == pytest.approx(
        2 * 12 * (tokens * 16 * width + 12 * width**2), rel=0.1
    )
    assert pretrain.time_s == pytest.approx(pretrain.work.flops / (312e12 * 0.4), rel=0.1)
    assert not plan.refusals
    assert plan.disk.free is None


def test_seven_billion_over_eight_gpus() -> None:
    shared = params("llama", SEVEN_B | {"launch.recompute": "full"})
    plan = make_plan(shared, machine_with(known_gpu("h100"), shared), {}, None, None)
    assert plan.parameters == 6_738_415_616
    pretrain = plan.stages["pretrain"]
    assert pretrain.memory.weights == 4 * plan.parameters // 8
    assert pretrain.memory_bytes < 80 * GIB
    assert pretrain.work.micros == 4_194_304 // (8 * 4096)
    assert pretrain.time_s is None
    assert plan.time_s is None


@pytest.mark.parametrize(
    "launch",
    [{"launch.parallel": "ddp"}, {"launch.parallel": "hybrid", "launch.group_ranks": 4}],
)
def test_a_checkpoint_is_as_large_however_its_parts_are_shared_out(launch: dict) -> None:
    """What groups have alike is written once."""
    sizes = {
        disk_of(params("llama", SEVEN_B | changes), ["pretrain"], None, None).checkpoints
        for changes in (launch, {})
    }
    assert max(sizes) == pytest.approx(min(sizes), rel=1e-6)


def test_the_default_by_hand(tmp_path: Path) -> None:
    speeds = dict.fromkeys(TRAINING, Speed(step_s=0.25, eval_s=0.1))
    plan = make_plan(params(), SERVER, speeds, 26_000_000, tmp_path)
    assert not plan.refusals
    pretrain = plan.stages["pretrain"]
    assert (pretrain.work.steps, pretrain.work.tokens) == (600, 1_228_800)
    assert pretrain.time_s == pytest.approx(START_S + 600 * 0.25 + 3 * 16 * 0.1)
    parts = [stage.time_s or 0 for stage in plan.stages.values()]
    assert plan.time_s == pytest.approx(sum(parts) + sum(v or 0 for v in plan.rest_s.values()))
    snapshots = [stage.memory.snapshot for stage in plan.stages.values()]
    assert plan.disk.checkpoints == 3 * max(snapshots)  # two are kept, one is being written
    assert plan.disk.models == 5 * 4 * plan.parameters
    assert plan.disk.tokens == 2 * (26_000_000 // 3)


def test_alignment_is_about_what_is_derived() -> None:
    """17,500 conversations of 63.7 tokens, 13.2 of them answers, and 902 pairs of 74.4 a sequence,
    15.5 of them answers (the default run, commit ceca588)."""
    sft, reward, dpo = (work(params(), stage) for stage in ("sft", "reward", "dpo"))
    assert sft.steps == 17_500 // 16
    assert sft.length == pytest.approx(63.7, rel=0.05)
    assert sft.length * sft.answer_frac == pytest.approx(13.2, rel=0.05)
    assert (reward.steps, dpo.steps) == (2 * 902 // 16, 902 // 16)
    assert dpo.length == reward.length == pytest.approx(74.4, rel=0.05)
    assert dpo.length * dpo.answer_frac == pytest.approx(15.5, rel=0.05)
    packed = work(params(overrides={"sft.packing": "best_fit"}), "sft")
    assert packed.length == 256
    assert packed.tokens == pytest.approx(sft.tokens, rel=0.02)


def test_an_unknown_gpu_is_refused() -> None:
    with pytest.raises(ConfigError, match="h1000: no such GPU is known; there are a100-40, a100-"):
        known_gpu("h1000")
