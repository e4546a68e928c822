"""One answer as it is written: its text in pieces, where it ends, and why."""

from collections.abc import Iterator, Sequence
from typing import Literal

from llm.config.sampling import SamplingConfig
from llm.inference.engine import Engine

INCOMPLETE = "\ufffd"  # a character whose last bytes are still to come


class Generation:
    """Pieces of an answer; once they are through, how it ended and how many tokens it took."""

    def __init__(
        self,
        engine: Engine,
        prompt: Sequence[int],
        sampling: SamplingConfig,
        seed: int,
        stops: Sequence[str],
    ) -> None:
        self.engine, self.prompt, self.sampling, self.seed = engine, prompt, sampling, seed
        self.stops = stops
        self.tokens = 0
        self.finish_reason: Literal["stop", "length"] = "length"

    def pieces(self) -> Iterator[str]:
        """The text up to the first of the stop strings, which is not part of it.

        What may yet become a stop string is held back until that is decided.
        """
        ids: list[int] = []
        text, shown = "", 0
        for token in self.engine.tokens(self.prompt, self.sampling, self.seed):
            ids.append(token)
            self.tokens = len(ids)
            text = self.engine.tokenizer.decode(ids)
            if text.endswith(INCOMPLETE):
                continue
            end = stop_position(text, self.stops)
            if end is not None:
                self.finish_reason = "stop"
                yield text[shown:end]
                return
            safe = len(text) - undecided(text, self.stops)
            if safe > shown:
                yield text[shown:safe]
                shown = safe
        if self.tokens < self.sampling.max_new_tokens:
            self.finish_reason = "stop"
        if text[shown:]:
            yield text[shown:]


def stop_position(text: str, stops: Sequence[str]) -> int | None:
    """Where the first stop string begins; None when there is none."""
    found = [place for stop in stops if (place := text.find(stop)) >= 0]
    return min(found, default=None)


def undecided(text: str, stops: Sequence[str]) -> int:
    """How many of the last characters may be the beginning of a stop string."""
    longest = max((len(stop) for stop in stops), default=1) - 1
    for length in range(min(longest, len(text)), 0, -1):
        if any(stop.startswith(text[-length:]) for stop in stops):
            return length
    return 0
