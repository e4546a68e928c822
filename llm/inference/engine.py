"""A model folder in use: answers, completions and log-probabilities, in batches.

Shapes: B sequences, T new positions, S positions so far, V vocabulary.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

import numpy as np
import torch
from torch import Tensor

from llm.config.sampling import SamplingConfig
from llm.data.padded import pad
from llm.errors import DataError
from llm.inference.cache import Cache, build_cache
from llm.inference.sampling import draw
from llm.model.device import pick_device
from llm.model.folder import load_language_model
from llm.model.transformer import LanguageModel
from llm.tokenizer.chat import Message
from llm.tokenizer.load import Tokenizer


class Engine:
    """Batched generation with a cache: each answer is what it would be alone."""

    def __init__(self, model: LanguageModel, tokenizer: Tokenizer, device: torch.device) -> None:
        self.model, self.tokenizer, self.device = model.to(device).eval(), tokenizer, device
        self.block_size = model.config.block_size

    @classmethod
    def load(cls, folder: Path, device: str = "auto") -> Self:
        """The language model in a Hugging Face folder; `device` is auto, cpu or cuda."""
        return cls(load_language_model(folder), Tokenizer.load(folder), pick_device(device))

    def answer(
        self,
        conversations: Sequence[Sequence[Message]],
        sampling: SamplingConfig,
        seed: int,
        batch_size: int = 32,
    ) -> list[str]:
        """The assistant's next message in each conversation."""
        prompts = [self.tokenizer.render_prompt(messages) for messages in conversations]
        return self._texts(prompts, sampling, seed, batch_size)

    def complete(
        self, prompts: Sequence[str], sampling: SamplingConfig, seed: int, batch_size: int = 32
    ) -> list[str]:
        """The continuation of each text, up to the end of its document."""
        ids = [[self.tokenizer.bos_id, *self.tokenizer.encode(text)] for text in prompts]
        return self._texts(ids, sampling, seed, batch_size)

    def _texts(
        self, prompts: list[list[int]], sampling: SamplingConfig, seed: int, batch_size: int
    ) -> list[str]:
        stop_ids = self.tokenizer.stop_ids
        generated = self.generate(prompts, sampling, seed, stop_ids, batch_size)
        return [self.tokenizer.decode(ids) for ids in generated]

    def generate(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        seed: int,
        stop_ids: Sequence[int],
        batch_size: int = 32,
    ) -> list[list[int]]:
        """New ids after each prompt, without the stop id that ended them.

        A prompt keeps its last block_size - max_new_tokens ids. Prompt i draws from a
        generator seeded by (seed, i), so that neither order nor batch size matters.
        Raises DataError for an empty prompt or when max_new_tokens leaves no room.
        """
        order = sorted(range(len(prompts)), key=lambda i: len(prompts[i]))
        results: list[list[int]] = [[] for _ in prompts]
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            generators = [_generator(seed, i) for i in rows]
            chosen = [prompts[i] for i in rows]
            for place, token in self._tokens(chosen, sampling, generators, stop_ids):
                results[rows[place]].append(token)
        return results

    def stream(self, prompt: Sequence[int], sampling: SamplingConfig, seed: int) -> Iterator[str]:
        """The text after one prompt, in pieces, each as soon as its characters are complete."""
        ids: list[int] = []
        shown = ""
        for token in self.tokens(prompt, sampling, seed):
            ids.append(token)
            text = self.tokenizer.decode(ids)
            if not text.endswith("\ufffd"):  # a character whose last bytes are still to come
                yield text[len(shown) :]
                shown = text
        yield self.tokenizer.decode(ids)[len(shown) :]

    def tokens(self, prompt: Sequence[int], sampling: SamplingConfig, seed: int) -> Iterator[int]:
        """The new ids after one prompt, each as soon as it is drawn, up to a stop id."""
        generators, stop_ids = [_generator(seed, 0)], self.tokenizer.stop_ids
        for _, token in self._tokens([prompt], sampling, generators, stop_ids):
            yield token

    @torch.no_grad()  # not inference_mode: sharded weights would stay gathered in it, for training too
    def _tokens(
        self,
        prompts: Sequence[Sequence[int]],
        sampling: SamplingConfig,
        generators: Sequence[np.random.Generator],
        stop_ids: Sequence[int],
    ) -> Iterator[tuple[int, int]]:
        """(prompt index, new id) in the order they are drawn, for one batch.

        Prompts are padded on the left, so that all sequences grow at the same index.
        """
        ids, real = self._left_padded(self._cut(prompts, sampling))  # (B, T), (B, T)
        capacity = ids.shape[1] + sampling.max_new_tokens
        dtype = self.model.head.weight.dtype
        cache = build_cache(self.model.config, len(prompts), capacity, self.device, dtype)
        positions = (real.cumsum(1) - 1).clamp(min=0)
        live = list(range(len(prompts)))
        for _ in range(sampling.max_new_tokens):
            logits = self._forward(ids, positions, real, cache)  # (B, V)
            tokens = draw(logits, sampling, [generators[row] for row in live])
            going = []
            for place, (row, token) in enumerate(zip(live, tokens.tolist(), strict=True)):
                if token not in stop_ids:
                    going.append(place)
                    yield row, token
            if not going:
                return
            if len(going) < len(live):  # sequences that have ended leave the batch
                kept = torch.tensor(going, device=self.device)
                cache.keep(kept)
                tokens, real, positions = tokens[kept], real[kept], positions[kept]
                live = [live[place] for place in going]
            ids, positions = tokens[:, None], positions[:, -1:] + 1
            real = torch.cat([real, real.new_ones(len(live), 1)], dim=1)

    def _cut(
        self, prompts: Sequence[Sequence[int]], sampling: SamplingConfig
    ) -> list[Sequence[int]]:
        """Prompts that leave room in the block for what is to be written."""
        room = self.block_size - sampling.max_new_tokens
        if room < 1:
            raise DataError(
                f"max_new_tokens={sampling.max_new_tokens} leaves no room for a prompt in "
                f"block_size={self.block_size}; lower it"
            )
        if not all(prompts):
            raise DataError("a prompt must have at least one token")
        return [prompt[-room:] for prompt in prompts]

    def _left_padded(self, prompts: list[Sequence[int]]) -> tuple[Tensor, Tensor]:
        """`ids` (B, T) and where they are real (B, T)."""
        backwards = [ids[::-1] for ids in prompts]
        ids = pad(backwards, self.tokenizer.pad_id).flip(1)
        real = pad([[1] * len(ids) for ids in prompts], 0, torch.bool).flip(1)
        return ids.to(self.device), real.to(self.device)

    def _forward(self, ids: Tensor, positions: Tensor, real: Tensor, cache: Cache) -> Tensor:
        """Logits (B, V) after the last of the new ids."""
        n_new, n_all = ids.shape[1], real.shape[1]
        query = torch.arange(n_all - n_new, n_all, device=self.device)[:, None]  # (T, 1)
        key = torch.arange(n_all, device=self.device)[None]  # (1, S)
        # A padded query may see itself: a row that sees nothing would be NaN.
        mask = (key <= query) & (real[:, None, :] | (key == query))  # (B, T, S)
        keep = torch.zeros_like(ids, dtype=torch.bool)
        keep[:, -1] = True
        logits = self.model(ids, keep=keep, positions=positions, mask=mask[:, None], cache=cache)
        cache.length += n_new
        return logits

    @torch.inference_mode()
    def score(
        self, sequences: Sequence[Sequence[int]], batch_size: int = 32
    ) -> list[tuple[Tensor, Tensor]]:
        """Per sequence: log-probabilities (nats, fp32) of ids[1:], and whether each was the likeliest.

        Sequences must fit the block plus one; both tensors have one element less than the ids.
        """
        if too_long := [len(ids) for ids in sequences if len(ids) > self.block_size + 1]:
            raise DataError(
                f"{len(too_long)} sequences are longer than block_size={self.block_size} + 1 "
                f"(the longest has {max(too_long)} ids); score them in windows"
            )
        order = sorted(range(len(sequences)), key=lambda i: len(sequences[i]))
        results: list[tuple[Tensor, Tensor]] = [(torch.empty(0), torch.empty(0))] * len(sequences)
        for start in range(0, len(order), batch_size):
            rows = order[start : start + batch_size]
            ids = pad([sequences[i] for i in rows], self.tokenizer.pad_id).to(self.device)
            logits = self.model(ids[:, :-1]).float()  # (B, T, V)
            targets = ids[:, 1:]  # (B, T)
            taken = logits.gather(-1, targets[..., None]).squeeze(-1)
            taken = (taken - logits.logsumexp(-1)).cpu()
            greedy = (logits.argmax(-1) == targets).cpu()
            for place, i in enumerate(rows):
                n_targets = len(sequences[i]) - 1
                results[i] = (taken[place, :n_targets], greedy[place, :n_targets])
        return results


def _generator(seed: int, index: int) -> np.random.Generator:
    """A stream of its own for each prompt."""
    return np.random.Generator(np.random.PCG64([seed, index]))
