"""Our engine as a model of lm-evaluation-harness 0.4.

Texts begin with the document separator, as in pretraining. With a chat template, a prompt
is the very ids that the engine answers a conversation with, never a re-encoded string.
"""

import logging
from collections.abc import Sequence
from typing import Any, cast

from lm_eval.api.instance import Instance
from lm_eval.api.model import TemplateLM
from lm_eval.utils import get_rolling_token_windows, make_disjoint_window

from llm.config.sampling import SamplingConfig
from llm.inference.engine import Engine

TokenRequest = tuple[tuple[str, str], list[int], list[int]]  # texts, context ids, continuation ids

logger = logging.getLogger(__name__)


class EngineLM(TemplateLM):
    """Scores and greedy answers of an engine; batching changes nothing but speed.

    What does not fit the context length is cut from the left, as lm-eval's own models do,
    and counted in a warning.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        chat: bool,
        batch_size: int,
        max_new_tokens: int,
        seed: int,
    ) -> None:
        super().__init__()
        self.engine = engine
        self.chat = chat  # whether the model knows the chat format
        self.batch_size = batch_size
        self.max_new_tokens = max_new_tokens
        self.seed = seed
        self._rendered: dict[str, list[int]] = {}  # chat prompts: the text lm-eval sees -> ids

    @property
    def eot_token_id(self) -> int:
        return self.engine.tokenizer.bos_id

    @property
    def max_length(self) -> int:
        return self.engine.block_size

    @property
    def tokenizer_name(self) -> str:
        return self.engine.tokenizer.hash

    def apply_chat_template(
        self, chat_history: list[dict[str, str]], add_generation_prompt: bool = True
    ) -> str:
        """The prompt as text; its ids are kept, so that no text can pose as a special token.

        For a model without the chat format, plain text: each message and an empty line.
        """
        tokenizer = self.engine.tokenizer
        if not self.chat:
            return "".join(f"{message['content']}\n\n" for message in chat_history)
        if add_generation_prompt:
            ids = tokenizer.render_prompt(chat_history)
        else:
            ids = tokenizer.render(chat_history)[0][:-1]  # left open for a prefilled answer
        text = tokenizer.decode(ids, keep_specials=True)
        self._rendered[text] = ids
        return text

    def tok_encode(
        self, string: str, add_special_tokens: bool | None = None, **kwargs: Any
    ) -> list[int]:
        """The ids of a text after the document separator, or of a chat prompt."""
        if string in self._rendered:
            return list(self._rendered[string])
        ids = self.engine.tokenizer.encode(string)
        return ids if add_special_tokens is False else [self.eot_token_id, *ids]

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        if context in self._rendered:
            return self.tok_encode(context), self.engine.tokenizer.encode(continuation)
        return super()._encode_pair(context, continuation)

    def loglikelihood(
        self, requests: list[Instance], disable_tqdm: bool = True
    ) -> list[tuple[float, bool]]:
        """Log-probability of each (context, continuation) in nats, without a progress bar."""
        return super().loglikelihood(requests, disable_tqdm=disable_tqdm)

    def _loglikelihood_tokens(
        self, requests: list[TokenRequest], disable_tqdm: bool = False, **kwargs: Any
    ) -> list[tuple[float, bool]]:
        """Summed log-probability of each continuation in nats, and whether it is the greedy one."""
        # The last id of a sequence is only predicted, never read.
        limit = self.max_length + 1
        sequences = [_fit(context + answer, limit) for _, context, answer in requests]
        scored = self.engine.score(sequences, batch_size=self.batch_size)
        results = []
        for (_, _, answer), (logps, is_greedy) in zip(requests, scored, strict=True):
            tail = min(len(answer), len(logps))
            assert tail, "an empty continuation has no log-probability"
            total = logps[-tail:].double().sum().item()
            results.append((total, bool(is_greedy[-tail:].all())))
        return results

    def loglikelihood_rolling(
        self, requests: Sequence[Instance], disable_tqdm: bool = False
    ) -> list[float]:
        """Log-probability of each whole text in nats; every token is counted exactly once."""
        windows: list[TokenRequest] = []
        owners: list[int] = []
        for owner, request in enumerate(requests):
            for window in self._windows(self.tok_encode(request.args[0], False)):
                windows.append((("", ""), *window))
                owners.append(owner)
        totals = [0.0] * len(requests)
        for owner, (logp, _) in zip(owners, self._loglikelihood_tokens(windows), strict=True):
            totals[owner] += logp
        return totals

    def generate_until(self, requests: Sequence[Instance], disable_tqdm: bool = False) -> list[str]:
        """Greedy answers, each up to its first stop string."""
        prompts, settings = [], []
        for request in requests:
            context, options = cast(tuple[str, dict[str, Any]], request.args)
            prompts.append(self.tok_encode(context))
            settings.append(options)
        answers: list[str] = [""] * len(requests)
        for options in _distinct(settings):
            chosen = [i for i, setting in enumerate(settings) if setting == options]
            texts = self._generate([prompts[i] for i in chosen], options)
            for i, text in zip(chosen, texts, strict=True):
                answers[i] = text
        return answers

    def _generate(self, prompts: list[list[int]], options: dict[str, Any]) -> list[str]:
        assert not options.get("do_sample"), "tasks are answered greedily"
        until: list[str] = options["until"]
        room = int(options.get("max_gen_toks", self.max_new_tokens))
        tokenizer = self.engine.tokenizer
        generated = self.engine.generate(
            [_fit(prompt, self.max_length - room) for prompt in prompts],
            SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=room),
            seed=self.seed,
            stop_ids=[*tokenizer.stop_ids, *self._stop_tokens(until)],
            batch_size=self.batch_size,
        )
        return [_cut(tokenizer.decode(ids), until) for ids in generated]

    def _stop_tokens(self, until: list[str]) -> list[int]:
        """Ids whose text begins with a stop string: nothing after them can be in the answer."""
        tokenizer = self.engine.tokenizer
        return [
            id_
            for id_ in range(tokenizer.vocab_size)
            if tokenizer.decode([id_]).startswith(tuple(until))
        ]

    def _windows(self, ids: list[int]) -> list[tuple[list[int], list[int]]]:
        """(context, scored ids) pairs that fit the context length, for texts longer than it."""
        pairs = get_rolling_token_windows(ids, self.eot_token_id, self.max_length, 1)
        return [make_disjoint_window(pair) for pair in pairs]


def _fit(ids: list[int], limit: int) -> list[int]:
    if len(ids) > limit:
        logger.warning("cut %d of %d ids from the left of a prompt", len(ids) - limit, len(ids))
    return ids[-limit:]


def _cut(text: str, until: Sequence[str]) -> str:
    """The text before the first stop string."""
    for stop in until:
        text = text.partition(stop)[0]
    return text


def _distinct(settings: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [value for i, value in enumerate(settings) if value not in settings[:i]]
