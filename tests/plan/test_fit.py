"""What cannot fit is refused, in a line with what would; what may fit never is."""

import pytest

from llm.config.params import TRAINING
from llm.config.presets import preset_names
from llm.plan.fit import device_of, expected_bytes, memory_of, refusals
from llm.plan.machine import Machine
from llm.plan.numbers import GIB
from tests.conftest import ROOT
from tests.plan.params import SEVEN_B, params

SERVER = Machine(24 * GIB, ())
H100 = Machine(256 * GIB, (80 * GIB,))
WIDE = {  # some 25 GB of activations
    "pretrain.micro_batch_size": 2048,
    "pretrain.batch_tokens": 2048 * 256,
}


def test_the_default_and_smoke_fit_a_small_machine() -> None:
    small = Machine(2 * GIB, ())
    for preset in ("default", "smoke"):
        assert not list(refusals(params(preset), TRAINING, small))


@pytest.mark.parametrize("preset", preset_names(ROOT / "presets"))
def test_every_preset_fits_the_gpu_that_it_is_for(preset: str) -> None:
    assert not list(refusals(params(preset), TRAINING, H100))
    memory = memory_of(params(preset), "pretrain", "cuda")
    assert expected_bytes(params(preset), memory, "cuda") < 80 * GIB


def test_too_many_activations_are_refused_with_a_micro_batch_that_fits() -> None:
    (line,) = refusals(params(overrides=WIDE), TRAINING, Machine(8 * GIB, ()))
    assert line.startswith("pretrain: 1 M parameters and pretrain.micro_batch_size=2048 need ")
    assert "of memory or more, and this machine has 8.0 GiB; " in line
    assert "\n" not in line
    smaller = int(line.split("; pretrain.micro_batch_size=")[1].split()[0])
    fitting = params(overrides=WIDE | {"pretrain.micro_batch_size": smaller})
    assert not list(refusals(fitting, TRAINING, Machine(8 * GIB, ())))


def test_states_that_are_too_large_leave_a_smaller_model() -> None:
    alone = SEVEN_B | {"launch.nproc_per_node": 1, "launch.parallel": "ddp"}
    lines = list(refusals(params("llama", alone), TRAINING, H100))
    assert len(lines) == 4
    assert "6.74 B parameters" in lines[0]
    assert "the GPU has 80.0 GiB; take a smaller model (`llm depth`), or more devices" in lines[0]


def test_seven_billion_fit_eight_gpus() -> None:
    shared = params("llama", SEVEN_B | {"launch.recompute": "full"})
    assert not list(refusals(shared, TRAINING, Machine(512 * GIB, (80 * GIB,) * 8)))


def test_rows_of_alignment_may_be_short() -> None:
    """Only what is packed to whole blocks counts with its activations."""
    wide = {"sft.micro_batch_size": 2048, "sft.batch_sequences": 2048}
    assert not list(refusals(params(overrides=wide), ["sft"], Machine(8 * GIB, ())))
    packed = params(overrides=wide | {"sft.packing": "best_fit"})
    assert len(list(refusals(packed, ["sft"], Machine(8 * GIB, ())))) == 1


def test_where_no_gpu_is_its_stages_are_refused_only_if_they_run_here() -> None:
    gpt2 = params("gpt2-124m")
    (line,) = refusals(gpt2, TRAINING, SERVER)
    assert line.startswith("pretrain.device, sft.device, reward.device, dpo.device=cuda, and")
    assert not list(refusals(gpt2, ["gather", "tokenize"], SERVER))
    assert not list(refusals(gpt2, TRAINING, SERVER, here=False))
    unknown = Machine(24 * GIB, None)
    assert not list(refusals(gpt2, TRAINING, unknown))
    assert device_of(params(), "pretrain", unknown) == "cuda"


def test_another_network_is_not_judged_by_section_model(tmp_path) -> None:
    huge = {"model.n_layer": 4_000_000, "sft.init_from": str(tmp_path)}
    assert not list(refusals(params(overrides=huge), ["sft"], SERVER))
