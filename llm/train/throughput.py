"""How fast training goes: tokens per second, share of the machine's peak, time left."""

import time
from functools import cache

import torch

PRODUCTS = 20
LIMIT_S = 0.5  # fp16 on a CPU that has none takes seconds for one product


def matmul_flops(device: torch.device, dtype: torch.dtype, size: int = 0) -> float:
    """FLOP/s of this machine's own matrix product: the best of PRODUCTS, or of those within LIMIT_S.

    So many that another process which is busy for a moment does not halve it. A GPU needs a large
    one: a small one takes it less time than its start.
    """
    size = size or (4096 if device.type == "cuda" else 1024)
    a = torch.ones(size, size, device=device, dtype=dtype)
    times: list[float] = []
    while len(times) < PRODUCTS and sum(times) < LIMIT_S:
        _wait(device)
        started = time.perf_counter()
        torch.mm(a, a)
        _wait(device)
        times.append(time.perf_counter() - started)
    return 2 * size**3 / min(times)


@cache
def peak_flops(device: torch.device, dtype: torch.dtype) -> float:
    """The same, measured once in this process: the peak that MFU is a share of.

    At least that of fp32, which stands in where the machine has no fast product of the dtype (fp16
    on most CPUs).
    """
    return max(matmul_flops(device, each) for each in {dtype, torch.float32})


class Throughput:
    """Tokens per second since the last reading and over the whole attempt."""

    def __init__(self, flops_per_token: int, peak_flops: float) -> None:
        self.flops_per_token, self.peak_flops = flops_per_token, peak_flops
        self.busy_s, self.tokens, self.steps = 0.0, 0, 0
        self._window_s, self._window_tokens = 0.0, 0

    def add(self, tokens: int, seconds: float) -> None:
        """Count a step of all ranks."""
        self.busy_s, self.tokens = self.busy_s + seconds, self.tokens + tokens
        self.steps += 1
        self._window_s, self._window_tokens = self._window_s + seconds, self._window_tokens + tokens

    def read(self) -> dict[str, float]:
        """tokens_per_s and mfu since the last reading."""
        rate = self._window_tokens / max(self._window_s, 1e-9)
        self._window_s, self._window_tokens = 0.0, 0
        return {"tokens_per_s": rate, "mfu": rate * self.flops_per_token / self.peak_flops}

    def overall(self) -> dict[str, float]:
        """tokens_per_s and mfu over this attempt."""
        rate = self.tokens / max(self.busy_s, 1e-9)
        mfu = rate * self.flops_per_token / self.peak_flops
        return {"tokens_per_s": round(rate, 1), "mfu": round(mfu, 4)}


def clock(seconds: float) -> str:
    """Seconds as 4:05, or 12:04:05 from an hour on."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
