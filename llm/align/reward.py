"""The Bradley-Terry reward model (Ouyang et al. 2022, eq. 1). Shapes: B pairs, T longest sequence."""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from llm.data.batch import Batch
from llm.data.padded import pad
from llm.data.pairs import EncodedPair
from llm.model.device import pick_device
from llm.model.folder import load_reward_model
from llm.model.transformer import RewardModel
from llm.tokenizer.chat import Message
from llm.tokenizer.load import Tokenizer


def reward_loss(model: nn.Module, batch: Batch) -> dict[str, Tensor]:
    """Sums over pairs of -log sigmoid(r_chosen - r_rejected), of its accuracy and margin."""
    scores = model(batch.inputs["ids"], batch.inputs["last"])  # (2B,)
    chosen, rejected = scores.chunk(2)
    margin = chosen - rejected
    return {
        "loss": -F.logsigmoid(margin).sum(),
        "accuracy": (margin > 0).float().sum(),
        "margin": margin.detach().sum(),
    }


def collate_scored(pairs: Sequence[EncodedPair]) -> Batch:
    """`ids` (2B, T), chosen sequences first, and `last` (2B,), the index of each end."""
    rows = [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs]
    last = torch.tensor([len(row) - 1 for row in rows])
    inputs = {"ids": pad(rows, 0), "last": last}
    return Batch(inputs, units=len(pairs), tokens=sum(map(len, rows)))


class RewardScorer:
    """A trained reward model in use."""

    def __init__(self, model: RewardModel, tokenizer: Tokenizer, device: torch.device) -> None:
        self.model, self.tokenizer, self.device = model.to(device).eval(), tokenizer, device

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """The reward model in a folder that the reward stage wrote."""
        return cls(load_reward_model(folder), Tokenizer.load(folder), pick_device(device))

    @torch.no_grad()
    def score(self, conversations: Sequence[Sequence[Message]], batch_size: int) -> list[float]:
        """One scalar per conversation that ends with the assistant's answer; higher is better.

        Conversations longer than the block keep their last tokens.
        """
        limit = self.model.config.block_size
        rows = [self.tokenizer.render(messages)[0][-limit:] for messages in conversations]
        order = sorted(range(len(rows)), key=lambda i: len(rows[i]))
        scores = [0.0] * len(rows)
        for start in range(0, len(order), batch_size):
            chosen = order[start : start + batch_size]
            ids = pad([rows[i] for i in chosen], 0).to(self.device)
            last = torch.tensor([len(rows[i]) - 1 for i in chosen], device=self.device)
            for index, value in zip(chosen, self.model(ids, last).tolist(), strict=True):
                scores[index] = value
        return scores
