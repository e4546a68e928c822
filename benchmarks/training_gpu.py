"""Training throughput and MFU on one GPU: ours beside transformers' models, in one run.

    pip install -c requirements.lock -e '.[bench]'
    python -m benchmarks.training_gpu                  # one GPU; a torch that was built for it
    python -m benchmarks.training_gpu --float8         # and a row in float8 (Hopper, torchao)
    python -m benchmarks.training_gpu --device cpu --tiny   # whether it runs; says nothing about speed

GPT-2 124M and a Llama of 12 layers, 12 heads and width 768, block 1024, vocabulary 50304; bf16,
compiled, fused AdamW, gradients clipped to 1. Each pair has the very same weights and batches, so
their losses must agree: ours is then this project's network under transformers' names. The peer
runs under autocast with SDPA attention. MFU is against the best bf16 matrix product of the machine
(8192 x 8192), measured in the same run.
"""

import argparse
import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from benchmarks.shapes import GPT2_SHAPE
from llm.config.model import ModelConfig
from llm.model.flops import flops_per_token, parameter_count
from llm.model.folder import architecture_of
from llm.model.transformer import LanguageModel, initialise
from llm.train.precision import computing, use_float8
from llm.train.throughput import matmul_flops

LARGE = {"block_size": 1024, "n_layer": 12, "n_head": 12, "n_kv_head": 12, "n_embd": 768}
TINY = {"block_size": 32, "n_layer": 2, "n_head": 4, "n_kv_head": 4, "n_embd": 64}
LLAMA = {"norm": "rmsnorm", "positions": "rope", "feed_forward": "swiglu", "bias": False}
WARM_UP_STEPS = 5

logger = logging.getLogger("benchmark")


@dataclass(frozen=True)
class Settings:
    """Sizes of a run."""

    device: torch.device
    n_sequences: int
    n_steps: int
    vocab_size: int
    matmul_size: int
    compiled: bool


def shapes(tiny: bool) -> dict[str, ModelConfig]:
    """GPT-2 and Llama at the wanted size."""
    sizes = TINY if tiny else LARGE
    width = sizes["n_embd"]
    gpt2 = GPT2_SHAPE.model_copy(update=sizes | {"n_inner": 4 * width})
    llama = gpt2.model_copy(update=LLAMA | {"n_inner": width * 8 // 3})
    return {"gpt2": gpt2, "llama": llama}


def batches(settings: Settings, block_size: int) -> Iterator[tuple[Tensor, Tensor]]:
    """The same random walks through the vocabulary for everyone."""
    generator = torch.Generator().manual_seed(1)
    shape = (settings.n_sequences, block_size + 1)
    for _ in range(settings.n_steps):
        strides = torch.randint(1, 4, shape, generator=generator).cumsum(1)
        ids = (strides + torch.randint(settings.vocab_size, (shape[0], 1), generator=generator)) % (
            settings.vocab_size
        )
        ids = ids.to(settings.device)
        yield ids[:, :-1].contiguous(), ids[:, 1:].contiguous()


def tokens_per_s(
    model: nn.Module,
    loss_of: Callable[[Tensor, Tensor], Tensor],
    settings: Settings,
    block_size: int,
) -> tuple[float, list[float]]:
    """Of the median step after the warm-up, and every step's loss."""
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-4, betas=(0.9, 0.95), fused=True)
    seconds, losses = [], []
    for inputs, targets in batches(settings, block_size):
        started = time.perf_counter()
        loss = loss_of(inputs, targets)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        losses.append(loss.item())  # waits for the device
        seconds.append(time.perf_counter() - started)
    return settings.n_sequences * block_size / median(seconds[WARM_UP_STEPS:]), losses


def run_ours(shape: ModelConfig, precision: str, settings: Settings) -> tuple[float, list[float]]:
    """Our network and its chunked loss."""
    model = _initialised(shape, settings).to(settings.device)
    if precision == "float8":
        use_float8(model, settings.device)
    stepped: Any = torch.compile(model) if settings.compiled else model
    n_tokens = settings.n_sequences * shape.block_size

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        return stepped(inputs, targets=targets)["loss"] / n_tokens

    with computing(model, precision):
        return tokens_per_s(model, loss, settings, shape.block_size)


def run_transformers(shape: ModelConfig, settings: Settings) -> tuple[float, list[float]]:
    """transformers' network of the same name and weights."""
    ours = _initialised(shape, settings)
    architecture, _ = architecture_of(shape)
    weights = ours.state_dict()
    weights.pop("head.weight")  # tied
    kind = transformers.AutoConfig.for_model(architecture.model_type)
    values = architecture.to_config(shape) | {"vocab_size": settings.vocab_size}
    config = type(kind)(**values, use_cache=False)
    model: Any = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="sdpa")
    model.load_state_dict(architecture.to_weights(weights), strict=False)
    model.to(settings.device).train()
    stepped: Any = torch.compile(model) if settings.compiled else model

    def loss(inputs: Tensor, targets: Tensor) -> Tensor:
        with torch.autocast(settings.device.type, torch.bfloat16):
            logits = stepped(input_ids=inputs).logits
        return nn.functional.cross_entropy(logits.flatten(0, 1).float(), targets.flatten())

    return tokens_per_s(model, loss, settings, shape.block_size)


def _initialised(shape: ModelConfig, settings: Settings) -> LanguageModel:
    model = LanguageModel(shape, settings.vocab_size)
    initialise(model, 1)
    return model


def compare(settings: Settings, *, tiny: bool, float8: bool) -> None:
    """A table of every network, ours and the peer's."""
    peak = matmul_flops(settings.device, torch.bfloat16, settings.matmul_size)
    logger.info("torch %s, bf16 matmul peak %.3g TFLOPS", torch.__version__, peak / 1e12)
    logger.info("| network | trainer | tokens/s | MFU | ratio | first, last loss |")
    logger.info("|---|---|---:|---:|---:|---:|")
    for name, shape in shapes(tiny).items():
        network = _initialised(shape, settings)
        flops, size = flops_per_token(network, shape.block_size), parameter_count(network)
        del network
        label = f"{name}, {size / 1e6:.0f} M"
        peer, losses = run_transformers(shape, settings)
        rows = [(f"transformers {transformers.__version__}", peer, losses)]
        for precision in ["bf16", "float8"] if float8 else ["bf16"]:
            rows.append((f"ours, {precision}", *run_ours(shape, precision, settings)))
        for trainer, rate, losses in rows:
            logger.info(
                "| %s | %s | %.0f | %.1f%% | %.2f | %.4f, %.4f |",
                *(label, trainer, rate, 100 * rate * flops / peak, rate / peer),
                *(losses[0], losses[-1]),
            )


def main() -> None:
    """Measure, as the module's docstring says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])  # type: ignore[union-attr]
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--tiny", action="store_true", help="sizes that a CPU can run")
    parser.add_argument("--float8", action="store_true")
    parser.add_argument("--eager", action="store_true", help="without torch.compile")
    parser.add_argument("--sequences", type=int, default=16, help="of a step")
    parser.add_argument("--steps", type=int, default=30)
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("torch sees no CUDA device; --device cpu --tiny tells whether it runs")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    settings = Settings(
        device=torch.device(args.device),
        n_sequences=args.sequences,
        n_steps=args.steps,
        vocab_size=512 if args.tiny else 50_304,
        matmul_size=256 if args.tiny else 8192,
        compiled=not args.eager,
    )
    torch.set_float32_matmul_precision("high")
    compare(settings, tiny=args.tiny, float8=args.float8)


if __name__ == "__main__":
    main()
