"""What each training stage computes: steps, tokens, FLOPs, and the rows of a step."""

from dataclasses import dataclass

from llm.config.align import DpoConfig, RewardConfig, SftConfig
from llm.config.params import Params
from llm.config.sizes import backbone_flops_per_token, flops_per_token
from llm.config.train import PretrainConfig

# Derived conversations as measured: a question of half of max_prompt_characters and an answer of
# some 40, three characters a token; the longest of all has 0.65 tokens per character of the limit.
# Half of the prompts give a pair (sft answers 64 % of samples rightly); those are a sixth longer.
ANSWER_CHARACTERS, CHARACTERS_PER_TOKEN, LONGEST = 40, 3, 0.65
PAIRED_FRAC, PAIR_LENGTH = 0.5, 1.17


@dataclass(frozen=True)
class Work:
    """What a stage computes in all; alignment about, as if derived from the default's corpus."""

    steps: int
    tokens: int
    flops_per_token: int
    micros: int  # micro-batches of a rank's step
    rows: int  # sequences of a micro-batch
    length: int  # tokens of a row, as a rule
    longest: int  # and at most
    answer_frac: float  # of these tokens, those that are learnt from

    @property
    def flops(self) -> float:
        return float(self.tokens) * self.flops_per_token


def work(params: Params, stage: str) -> Work:
    """Of a training stage."""
    config: PretrainConfig | SftConfig | RewardConfig | DpoConfig = getattr(params, stage)
    model, vocab_size, ranks = params.model, params.tokenizer.vocab_size, params.launch.data_ranks
    if isinstance(config, PretrainConfig):
        steps, block = config.max_tokens // config.batch_tokens, model.block_size
        return Work(
            steps=steps,
            tokens=steps * config.batch_tokens,
            flops_per_token=flops_per_token(model, vocab_size),
            micros=config.batch_tokens // (ranks * config.micro_batch_size * block),
            rows=config.micro_batch_size,
            length=block,
            longest=block,
            answer_frac=1.0,
        )
    limit = params.instructions.max_prompt_characters
    characters = limit / 2 + ANSWER_CHARACTERS
    answer_frac = ANSWER_CHARACTERS / characters
    length = min(model.block_size, round(characters / CHARACTERS_PER_TOKEN))
    longest = min(model.block_size, round(LONGEST * limit))
    each, passes = 1, 3  # sequences of an item; forward and twice as much backward
    if isinstance(config, SftConfig):
        items = len(params.instructions.kinds) * params.instructions.train_per_kind
        batch = config.batch_sequences
        if config.packing == "best_fit":
            items, length = -(-items * length // model.block_size), model.block_size
            longest = length
        extra = params.instructions.extra
    else:
        prompts = params.preferences.prompts * (1 - params.preferences.test_frac)
        items = round(PAIRED_FRAC * prompts)
        length = min(model.block_size, round(PAIR_LENGTH * length))
        batch, each = config.batch_pairs, 2
        passes = 3 if isinstance(config, RewardConfig) else 4  # the reference's forward
        extra = params.instructions.extra + params.preferences.extra
    steps = max(1, items * config.epochs // batch)
    return Work(
        steps=steps,
        tokens=steps * batch * each * length,
        flops_per_token=backbone_flops_per_token(model) * passes // 3,
        micros=batch // (ranks * config.micro_batch_size),
        rows=config.micro_batch_size * each,
        length=length,
        longest=model.block_size if extra else longest,
        answer_frac=answer_frac,
    )
