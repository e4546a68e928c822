import math
from pathlib import Path

import pytest
import torch

from llm.align.reward import RewardScorer, collate_scored, reward_loss
from llm.config.model import ModelConfig
from llm.data.pairs import EncodedPair
from llm.model.folder import reward_from_language, save_model
from llm.model.transformer import LanguageModel, initialise
from llm.tokenizer.load import Tokenizer

PAIRS = [
    EncodedPair([0, 3, 4, 5, 6], [0, 3, 4, 7], 3),
    EncodedPair([0, 9, 8, 7], [0, 9, 5, 5, 5, 5], 2),
]


def test_a_zero_head_has_loss_log_two(tiny: ModelConfig) -> None:
    model = reward_from_language(LanguageModel(tiny, 400))
    batch = collate_scored(PAIRS)
    assert batch.inputs["last"].tolist() == [4, 3, 3, 5]
    assert reward_loss(model, batch)["loss"].item() / batch.units == pytest.approx(math.log(2))


def test_scores_do_not_depend_on_the_batch(
    tiny: ModelConfig, tokenizer: Tokenizer, tmp_path: Path
) -> None:
    language = LanguageModel(tiny, tokenizer.vocab_size)
    initialise(language, 1)
    reward = reward_from_language(language)
    torch.nn.init.normal_(reward.score.weight)
    save_model(tmp_path / "reward", reward, tokenizer)
    scorer = RewardScorer.load(tmp_path / "reward", "cpu")
    turns = [
        [{"role": "user", "content": "What?"}, {"role": "assistant", "content": text}]
        for text in ("That.", "A longer answer, of several words.", "")
    ]
    assert scorer.score(turns, 3) == pytest.approx(scorer.score(turns, 1), abs=1e-5)
