"""Stage pretrain: train the network on the token shards, from random or published weights.

Reads    data/tokenize    token shards train/, val/ and val.json (bytes, tokens)
         data/tokenizer   the tokenizer that made them
Writes   models/base      a Hugging Face folder
         plots/pretrain.csv   the curve: step, train/loss, val/loss, val/bpb, lr
         plots/pretrain.samples.jsonl   step, prompt, text: what it wrote while it learnt
Metrics  val/loss (nats per token), val/bpb (bits per byte), tokens, steps, parameters
"""

import logging
import math
from functools import partial
from pathlib import Path
from typing import Any

from llm.config.model import ModelConfig
from llm.config.train import LaunchConfig, PretrainConfig
from llm.data.blocks import Blocks, BlockSource, TrainingBlocks, ValidationBlocks
from llm.data.packed_blocks import PackedBlocks
from llm.data.shards import TokenShards
from llm.files import read_json, write_csv
from llm.inference.samples import Samples
from llm.model.flops import flops_per_token, parameter_count
from llm.model.folder import save_model
from llm.model.start import load_as
from llm.model.transformer import LanguageModel, initialise
from llm.process import Context, main
from llm.tokenizer.load import Tokenizer
from llm.train.distributed import ranks
from llm.train.loop import Job, train
from llm.train.next_token import next_token_loss

logger = logging.getLogger(__name__)


def run(
    ctx: Context, *, launch: LaunchConfig, model: ModelConfig, pretrain: PretrainConfig
) -> dict[str, Any]:
    """Train from scratch, or on from where an interrupted attempt stopped."""
    tokenizer = Tokenizer.load(ctx.paths.stage("tokenizer"))
    folder = ctx.paths.stage("tokenize")
    shards = TokenShards(folder / "train", tokenizer.hash)
    blocks = training_blocks(shards, tokenizer, model, pretrain)
    start = tokenizer.bos_id if pretrain.document_mask else None
    val_blocks = Blocks(TokenShards(folder / "val", tokenizer.hash), model.block_size, start)
    val_size = read_json(folder / "val.json")
    bits_per_byte = val_size["tokens"] / val_size["bytes"] / math.log(2)

    if pretrain.init_from:
        network = load_as(Path(pretrain.init_from), model, tokenizer)
    else:
        network = LanguageModel(model, tokenizer.vocab_size)
        initialise(network, pretrain.seed, zero_outputs=pretrain.zero_outputs)
    batches = TrainingBlocks(
        blocks,
        pretrain.micro_batch_size,
        pretrain.batch_tokens,
        pretrain.max_tokens,
        pretrain.seed,
    )
    samples = Samples(
        pretrain.samples,
        network,
        tokenizer,
        ctx.work,
        n_steps=batches.n_steps,
        seed=pretrain.seed,
        asked=False,
        record=ctx.record,
    )
    job = Job(
        name=ctx.name,
        model=network,
        loss_fn=partial(next_token_loss, z_loss=pretrain.z_loss),
        train=batches,
        val=ValidationBlocks(val_blocks, pretrain.micro_batch_size),
        flops_per_token=flops_per_token(network, model.block_size),
        identity={
            "data": shards.fingerprint,
            "tokenizer": tokenizer.hash,
            "model": model.model_dump(),
        },
        derive=lambda metrics: {"bpb": metrics["loss"] * bits_per_byte},
        sample=samples,
        keep=ctx.keep,
    )
    with ranks(pretrain.device, launch) as own:
        outcome = train(job, pretrain, own, ctx.work, ctx.log)
        weights = own.weights(network)
        if own.is_first:
            save_model(ctx.paths.model("base"), network, tokenizer, weights)
            write_csv(ctx.paths.plot(ctx.name), outcome.history)
            samples.write(ctx.paths.samples(ctx.name))
    ctx.timings.update(outcome.timings)
    return {
        **outcome.final,
        "steps": batches.n_steps,
        "tokens": batches.n_steps * pretrain.batch_tokens,
        "parameters": parameter_count(network),
    }


def training_blocks(
    shards: TokenShards, tokenizer: Tokenizer, model: ModelConfig, pretrain: PretrainConfig
) -> BlockSource:
    """The training split in blocks, as `pretrain.packing` says."""
    mask, bos = pretrain.document_mask, tokenizer.bos_id
    if pretrain.packing == "concatenate":
        return Blocks(shards, model.block_size, bos if mask else None)
    packed = PackedBlocks(
        shards,
        model.block_size,
        document_start=bos,
        window=pretrain.packing_window,
        document_mask=mask,
    )
    logger.info("packed into %d blocks, %.2f%% padding", len(packed), 100 * packed.padding_frac)
    return packed


if __name__ == "__main__":
    main("pretrain", run, launch=LaunchConfig, model=ModelConfig, pretrain=PretrainConfig)
