"""Stage reward: a reward model from the sft model and the preference pairs.

Reads    models/sft          the model it starts from (or `init_from`), with a new scalar head
         data/preferences    train.jsonl, test.jsonl
Writes   models/reward       a Hugging Face folder (LlamaForSequenceClassification, one label)
         plots/reward.csv    the curve
Metrics  val/accuracy (share of held-out pairs it orders right), val/loss, val/margin, pairs, too_long
"""

from typing import Any

from llm.align.reward import collate_scored, reward_loss
from llm.config.align import RewardConfig
from llm.config.train import LaunchConfig
from llm.data.padded import PaddedTraining, PaddedValidation
from llm.data.pairs import encode_pairs, read_pairs
from llm.files import fingerprint, write_csv
from llm.model.flops import backbone_flops_per_token
from llm.model.folder import reward_from_language, save_model
from llm.model.start import load_start
from llm.process import Context, main
from llm.train.distributed import ranks
from llm.train.loop import Job, train


def run(ctx: Context, *, launch: LaunchConfig, reward: RewardConfig) -> dict[str, Any]:
    """Train on pairs, or go on from where an interrupted attempt stopped."""
    language, tokenizer = load_start(reward.init_from, ctx.paths.model("sft"))
    network = reward_from_language(language)
    block_size = language.config.block_size
    folder = ctx.paths.stage("preferences")
    given = read_pairs(folder / "train.jsonl")
    pairs = encode_pairs(given, tokenizer, block_size)
    test = encode_pairs(read_pairs(folder / "test.jsonl"), tokenizer, block_size)
    batches = PaddedTraining(
        pairs,
        [pair.length for pair in pairs],
        collate_scored,
        batch_size=reward.batch_pairs,
        micro_batch_size=reward.micro_batch_size,
        epochs=reward.epochs,
        seed=reward.seed,
    )
    job = Job(
        name=ctx.name,
        model=network,
        loss_fn=reward_loss,
        train=batches,
        val=PaddedValidation(test, collate_scored, reward.micro_batch_size),
        flops_per_token=backbone_flops_per_token(network.backbone),
        identity={
            "data": fingerprint(folder),
            "tokenizer": tokenizer.hash,
            "model": network.config.model_dump(),
        },
        keep=ctx.keep,
    )
    with ranks(reward.device, launch) as own:
        outcome = train(job, reward, own, ctx.work, ctx.log)
        weights = own.weights(network)
        if own.is_first:
            save_model(ctx.paths.model("reward"), network, tokenizer, weights)
            write_csv(ctx.paths.plot(ctx.name), outcome.history)
    ctx.timings.update(outcome.timings)
    sizes = {"steps": batches.n_steps, "train_pairs": len(pairs), "test_pairs": len(test)}
    sizes["too_long"] = len(given) - len(pairs)
    return {**outcome.final, **sizes}


if __name__ == "__main__":
    main("reward", run, launch=LaunchConfig, reward=RewardConfig)
