"""How much memory a training step needs in one process, counted part by part.

What forward keeps for backward is the sum of what each operation of a block keeps; tests hold it
to what torch keeps. What compiling saves is not taken off.

Letters: C n_embd, A attention_width, K width of all keys, I n_inner, H n_head, T block_size,
V vocab_size.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass

from llm.config.align import DpoConfig, RewardConfig
from llm.config.model import ModelConfig
from llm.config.sizes import block_parameter_count, parameter_count
from llm.config.train import LaunchConfig, TrainConfig

FP32_BYTES = 4
ROW_BYTES = {"cpu": 16_000_000, "cuda": 1_000_000_000}  # as llm.model.cross_entropy
LEAST_ROWS = 256
TILE = 128  # as llm.model.causal
LOGITS_ALIVE = (
    4  # copies of some rows of logits: themselves, probabilities, gradient, one on its way
)
LOGPS_ALIVE = 3  # in dpo, in fp32: log-softmax, its gradient, that of the logits
LSTM_NUMBERS = 15  # that a cell keeps for a token, each C wide


@dataclass(frozen=True)
class Memory:
    """Bytes of one process by what they are for."""

    weights: int  # and bf16 copies of them, whose masters they are
    gradients: int
    optimizer: int
    activations: int  # what forward keeps for backward, and what backward passes on
    loss: int  # logits, and the gradients of the output projection
    exchange: int  # DDP's buckets of gradients; FSDP's whole weights of the blocks at work
    snapshot: int  # the copy in the machine's memory that a checkpoint is written from
    accumulates: bool  # gradients of earlier micro-batches are there in forward

    def parts(self) -> Mapping[str, int]:
        """Bytes by name, in the order of a table."""
        return {name: size for name, size in asdict(self).items() if name != "accumulates"}

    @property
    def states(self) -> int:
        """What is needed whatever the micro-batch is: at the end of backward, all gradients."""
        return self.weights + self.gradients + self.optimizer + self.exchange

    @property
    def fullest(self) -> int:
        """At the fullest moment of a step, without the snapshot: when backward begins, or at its end."""
        begins = self.activations + self.loss + (self.gradients if self.accumulates else 0)
        rest = self.weights + self.optimizer + self.exchange
        return rest + max(begins, self.gradients)


def step_memory(
    model: ModelConfig,
    vocab_size: int,
    config: TrainConfig,
    launch: LaunchConfig,
    *,
    length: int,
    micros: int,
    device: str,
) -> Memory:
    """Of a step of `micros` micro-batches on a device of type cpu or cuda, rows of `length` tokens."""
    number = FP32_BYTES if config.precision == "fp32" else 2
    groups = launch.group_ranks if launch.parallel == "tensor" else 1
    shards = _shards(launch)
    weights = FP32_BYTES * parameter_count(model, vocab_size)
    blocks = FP32_BYTES * block_parameter_count(model)
    means = 2 * weights - (blocks if config.optim.optimizer == "muon" else 0)
    whole_blocks = blocks // 2 if config.in_bf16 else blocks
    copies = whole_blocks if config.in_bf16 and shards * groups == 1 else 0  # of masters
    rows = config.micro_batch_size * (2 if isinstance(config, RewardConfig | DpoConfig) else 1)
    tokens = rows * length
    documents = getattr(config, "document_mask", getattr(config, "packing", "") == "best_fit")
    masked = model.kind != "lstm" and (documents or not _is_known(model, device))
    kept = _block_bytes(model, length, number, device, masked) * tokens / groups
    inner = _inner(model) * number * tokens / groups
    if launch.recompute == "none":
        cast = number < FP32_BYTES and not config.in_bf16
        kept = model.n_layer * (kept + _copied(model, number, cast=cast) / groups) + inner
    elif launch.recompute == "selective":
        kept += inner + model.n_layer * _products(model) * number * tokens
    else:  # inputs; and of the block at work all, with as many gradients
        kept += kept + model.n_layer * model.n_embd * number * tokens
    if masked:  # True and False, and what all blocks add to their scores
        kept += (1 + number) * (rows if documents else 1) * length**2
    return Memory(
        weights=weights // (shards * groups) + copies,
        gradients=weights // (shards * groups) + (copies if micros > 1 else 0),
        optimizer=means // (shards * groups),
        activations=int(kept),
        loss=_loss_bytes(model, vocab_size, config, tokens, number, device),
        exchange=_exchange(weights - blocks, whole_blocks, model.n_layer, launch, shards) // groups,
        snapshot=(weights + means) // (shards * groups),
        accumulates=micros > 1,
    )


def _is_known(model: ModelConfig, device: str) -> bool:
    """Whether attention knows its pattern itself: llm.model.mask makes no mask of it."""
    windowed = model.attention == "sliding_window" and not model.attention_softcap
    return model.attention == "full" or (windowed and device == "cpu")


def _block_bytes(model: ModelConfig, length: int, number: int, device: str, masked: bool) -> float:
    """What a block keeps for a token."""
    width = model.n_embd
    if model.kind == "lstm":
        return LSTM_NUMBERS * width * FP32_BYTES
    on_cpu = device == "cpu"
    in_parts = on_cpu and number == FP32_BYTES  # RMSNorm, which then keeps x / rms(x) besides
    queries, keys = model.attention_width, model.n_kv_head * model.head_width
    numbers = (6 if in_parts and model.norm == "rmsnorm" else 4) * width  # two norms, in and out
    numbers += queries + 2 * keys  # as they come from one product
    numbers += (queries + keys) if model.positions == "rope" else 0
    numbers += (queries + keys) * (2 if in_parts else 1) if model.qk_norm else 0
    numbers += queries  # what attention makes of them
    numbers += _inner(model)
    scores = model.n_head * length
    size = number * numbers
    if (
        model.attention_softcap
    ):  # what is capped, softmax in fp32; drawn and dropped, or cast; the mask
        each = FP32_BYTES + number
        each += 2 * number if model.dropout else number % FP32_BYTES
        size += each * scores + (length if masked else 0)
    elif model.dropout and on_cpu:  # masks of tiles
        size += number * model.n_head * _tile_keys(model, length)
    if model.dropout:
        size += 2 * width * (number if on_cpu else 1)
    return size


def _tile_keys(model: ModelConfig, length: int) -> float:
    """Keys of a tile, on average over its queries: up to the last of them, from the window of the first."""
    window = model.window if model.attention == "sliding_window" else length
    pairs = 0
    for first in range(0, length, TILE):
        stop = min(first + TILE, length)
        pairs += (stop - first) * (stop - max(0, first - window + 1))
    return pairs / length


def _inner(model: ModelConfig) -> int:
    """Numbers that the feed-forward keeps for a token."""
    if model.kind == "lstm":
        return 0
    return model.n_inner * {"swiglu": 4, "gelu": 2, "relu2": 2, "relu": 1}[model.feed_forward]


def _products(model: ModelConfig) -> int:
    """Numbers for a token that matrix products and attention of a block make, and the block's input."""
    queries, keys = model.attention_width, model.n_kv_head * model.head_width
    hidden = model.n_inner * (2 if model.feed_forward == "swiglu" else 1)
    return 3 * model.n_embd + 2 * queries + 2 * keys + hidden


def _copied(model: ModelConfig, number: int, *, cast: bool) -> float:
    """Bytes of a block's weights that are kept beside them: `cast` to `number` bytes each, or as they
    are, laid side by side.
    """
    if cast:
        return number * block_parameter_count(model) / model.n_layer
    joined = model.attention_width + 2 * model.n_kv_head * model.head_width
    joined += 2 * model.n_inner if model.feed_forward == "swiglu" else 0
    return 0 if model.kind == "lstm" else number * model.n_embd * joined


def _loss_bytes(
    model: ModelConfig, vocab_size: int, config: TrainConfig, tokens: int, number: int, device: str
) -> int:
    width = model.n_embd
    hidden = 4 * width * number * tokens  # the last norm's two, their gradients
    if isinstance(config, RewardConfig):
        return hidden
    each = LOGITS_ALIVE * number
    if isinstance(config, DpoConfig):  # which also casts in bf16
        each = LOGPS_ALIVE * FP32_BYTES + number % FP32_BYTES
    rows = min(tokens, max(LEAST_ROWS, ROW_BYTES[device] // (FP32_BYTES * vocab_size)))
    return hidden + 2 * FP32_BYTES * vocab_size * width + each * rows * vocab_size


def _shards(launch: LaunchConfig) -> int:
    """Among how many processes each weight is shared out, besides a tensor group's share."""
    if launch.parallel == "tensor":
        return launch.processes // launch.group_ranks
    return {"ddp": 1, "fsdp": launch.processes, "hybrid": launch.group_ranks}[launch.parallel]


def _exchange(outside: int, blocks: int, n_layer: int, launch: LaunchConfig, shards: int) -> int:
    """Of bytes of weights outside and inside the blocks.

    DDP has all gradients once more, in buckets. FSDP2 has the weights outside the blocks whole
    with their gradients, and of the blocks the one at work, with its gradients, and the next.
    """
    if launch.parallel == "ddp":
        return outside + blocks if launch.processes > 1 else 0
    return 0 if shards == 1 else 2 * outside + 3 * blocks // n_layer
