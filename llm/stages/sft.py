"""Stage sft: teach the base model to answer, on the assistant's turns of the conversations.

Reads    models/base         the pretrained model; or the folder that `init_from` names
         data/instructions   train.jsonl, test.jsonl
Writes   models/sft          a Hugging Face folder
         plots/sft.csv       the curve
         plots/sft.samples.jsonl   step, prompt, text: what it wrote while it learnt
Metrics  val/loss (nats per assistant token), conversations, too_long, steps
"""

from functools import partial
from typing import Any

from llm.align.sft import (
    EncodedConversation,
    collate_conversations,
    collate_packed,
    encode_conversations,
)
from llm.config.align import SftConfig
from llm.config.train import LaunchConfig
from llm.data.batch import Batches
from llm.data.conversations import read_conversations
from llm.data.packing import PackedTraining
from llm.data.padded import PaddedTraining, PaddedValidation
from llm.errors import DataError
from llm.files import fingerprint, write_csv
from llm.inference.samples import Samples
from llm.model.flops import backbone_flops_per_token
from llm.model.folder import save_model
from llm.model.start import load_start
from llm.process import Context, main
from llm.train.distributed import ranks
from llm.train.loop import Job, train
from llm.train.next_token import next_token_loss


def run(ctx: Context, *, launch: LaunchConfig, sft: SftConfig) -> dict[str, Any]:
    """Fine-tune the base model, or go on from where an interrupted attempt stopped."""
    network, tokenizer = load_start(sft.init_from, ctx.paths.model("base"))
    block_size = network.config.block_size
    folder = ctx.paths.stage("instructions")
    conversations = read_conversations(folder / "train.jsonl")
    items = encode_conversations(conversations, tokenizer, block_size)
    test = encode_conversations(read_conversations(folder / "test.jsonl"), tokenizer, block_size)
    if not items or not test:
        raise DataError(
            f"{folder}: no conversation fits model.block_size={block_size} tokens; "
            "lower instructions.max_prompt_characters"
        )
    batches = training_batches(items, block_size, sft)
    samples = Samples(
        sft.samples,
        network,
        tokenizer,
        ctx.work,
        n_steps=batches.n_steps,
        seed=sft.seed,
        asked=True,
        record=ctx.record,
    )
    job = Job(
        name=ctx.name,
        model=network,
        loss_fn=partial(next_token_loss, z_loss=sft.z_loss),
        train=batches,
        val=PaddedValidation(test, collate_conversations, sft.micro_batch_size),
        flops_per_token=backbone_flops_per_token(network.backbone),
        identity={
            "data": fingerprint(folder),
            "tokenizer": tokenizer.hash,
            "model": network.config.model_dump(),
        },
        sample=samples,
        keep=ctx.keep,
    )
    with ranks(sft.device, launch) as own:
        outcome = train(job, sft, own, ctx.work, ctx.log)
        weights = own.weights(network)
        if own.is_first:
            save_model(ctx.paths.model("sft"), network, tokenizer, weights)
            write_csv(ctx.paths.plot(ctx.name), outcome.history)
            samples.write(ctx.paths.samples(ctx.name))
    ctx.timings.update(outcome.timings)
    return {
        **outcome.final,
        "steps": batches.n_steps,
        "conversations": len(items),
        "too_long": len(conversations) - len(items),
    }


def training_batches(items: list[EncodedConversation], block_size: int, sft: SftConfig) -> Batches:
    """The conversations by step, as `sft.packing` says."""
    sizes = {
        "batch_size": sft.batch_sequences,
        "micro_batch_size": sft.micro_batch_size,
        "epochs": sft.epochs,
        "seed": sft.seed,
    }
    if sft.packing == "pad":
        lengths = [len(item.ids) for item in items]
        return PaddedTraining(items, lengths, collate_conversations, **sizes)
    return PackedTraining(
        items,
        [len(item.ids) - 1 for item in items],
        partial(collate_packed, block_size=block_size),
        room=block_size,
        window=sft.packing_window,
        **sizes,
    )


if __name__ == "__main__":
    main("sft", run, launch=LaunchConfig, sft=SftConfig)
