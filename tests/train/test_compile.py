import pytest
import torch

from llm.train.compile import compiles

CPU, GPU = torch.device("cpu"), torch.device("cuda")


@pytest.mark.parametrize(
    ("setting", "device", "run_flops", "expected"),
    [
        ("off", GPU, 1e20, False),
        ("on", CPU, 1.0, True),
        ("auto", GPU, 1.0, True),
        ("auto", CPU, 1e12, False),  # seconds
        ("auto", CPU, 1e16, True),  # half a day on two cores
    ],
)
def test_auto_compiles_for_a_gpu_and_for_a_long_run(
    setting: str, device: torch.device, run_flops: float, expected: bool
) -> None:
    assert compiles(setting, device, run_flops) is expected
