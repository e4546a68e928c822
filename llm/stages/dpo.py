"""Stage dpo: move the sft model towards chosen and away from rejected answers.

Reads    models/sft          the policy it starts from, and the frozen reference (or `init_from`)
         data/preferences    train.jsonl, test.jsonl
Writes   models/dpo          a Hugging Face folder
         plots/dpo.csv       the curve
         plots/dpo.samples.jsonl   step, prompt, text: what it wrote while it learnt
Metrics  val/reward_accuracy, val/reward_margin, val/loss, val/kl_nats_per_token (policy from
         reference, on the chosen answers), pairs, too_long
"""

from typing import Any

from llm.align.dpo import collate_referenced, make_dpo_loss, reference_logps
from llm.align.logps import token_kl
from llm.config.align import DpoConfig
from llm.config.train import LaunchConfig
from llm.data.padded import PaddedTraining, PaddedValidation
from llm.data.pairs import encode_pairs, read_pairs
from llm.files import fingerprint, write_csv
from llm.inference.samples import Samples
from llm.model.flops import backbone_flops_per_token
from llm.model.folder import save_model
from llm.model.start import load_start
from llm.process import Context, main
from llm.train.distributed import ranks
from llm.train.loop import Job, train
from llm.train.precision import computing, prepare


def run(ctx: Context, *, launch: LaunchConfig, dpo: DpoConfig) -> dict[str, Any]:
    """Train on pairs, or go on from where an interrupted attempt stopped."""
    network, tokenizer = load_start(dpo.init_from, ctx.paths.model("sft"))
    block_size, batch = network.config.block_size, dpo.micro_batch_size
    folder = ctx.paths.stage("preferences")
    given = read_pairs(folder / "train.jsonl")
    train_pairs = encode_pairs(given, tokenizer, block_size)
    test_pairs = encode_pairs(read_pairs(folder / "test.jsonl"), tokenizer, block_size)
    with ranks(dpo.device, launch) as own:
        prepare(network, dpo.precision, own.device)
        own.shard(network, in_bf16=dpo.in_bf16)
        reference = network.eval()  # before the first update it is the policy
        with computing(reference, dpo.precision):  # as the policy's will be computed
            pairs = reference_logps(reference, train_pairs, batch, own.device)
            test = reference_logps(reference, test_pairs, batch, own.device)
        batches = PaddedTraining(
            pairs,
            [item.pair.length for item in pairs],
            collate_referenced,
            batch_size=dpo.batch_pairs,
            micro_batch_size=batch,
            epochs=dpo.epochs,
            seed=dpo.seed,
        )
        samples = Samples(
            dpo.samples,
            network,
            tokenizer,
            ctx.work,
            n_steps=batches.n_steps,
            seed=dpo.seed,
            asked=True,
            record=ctx.record,
        )
        job = Job(
            name=ctx.name,
            model=network,
            loss_fn=make_dpo_loss(dpo.beta),
            train=batches,
            val=PaddedValidation(test, collate_referenced, batch),
            flops_per_token=backbone_flops_per_token(network.backbone),
            identity={
                "data": fingerprint(folder),
                "tokenizer": tokenizer.hash,
                "model": network.config.model_dump(),
            },
            sample=samples,
            keep=ctx.keep,
        )
        outcome = train(job, dpo, own, ctx.work, ctx.log)
        reference = load_start(dpo.init_from, ctx.paths.model("sft"))[0]
        own.shard(reference, in_bf16=dpo.in_bf16)
        kl = token_kl(network, reference, test_pairs, batch, own.device)
        weights = own.weights(network)
        if own.is_first:
            save_model(ctx.paths.model("dpo"), network, tokenizer, weights)
            write_csv(ctx.paths.plot(ctx.name), outcome.history)
            samples.write(ctx.paths.samples(ctx.name))
    ctx.timings.update(outcome.timings)
    sizes = {"steps": batches.n_steps, "train_pairs": len(pairs), "test_pairs": len(test)}
    sizes["too_long"] = len(given) - len(pairs)
    return {**outcome.final, "val/kl_nats_per_token": kl, **sizes}


if __name__ == "__main__":
    main("dpo", run, launch=LaunchConfig, dpo=DpoConfig)
