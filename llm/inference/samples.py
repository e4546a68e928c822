"""What a model writes to the same prompts while it learns.

Nothing of the training changes: drawing is seeded by itself and takes no random number from
torch. The texts lie in the work until the stage ends, so that a resumed run has them all.
"""

import logging
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from llm.config.sampling import SamplesConfig
from llm.files import read_json, write_json, write_jsonl
from llm.inference.engine import Engine
from llm.model.transformer import LanguageModel
from llm.tokenizer.load import Tokenizer

TABLE = "samples.table.json"
COLUMNS = ("step", "prompt", "text")

logger = logging.getLogger(__name__)

Row = Mapping[str, Any]


class Samples:
    """Draws after the steps that are due. Every rank takes part, the first one writes."""

    def __init__(
        self,
        config: SamplesConfig,
        model: LanguageModel,
        tokenizer: Tokenizer,
        work: Path,
        *,
        n_steps: int,
        seed: int,
        asked: bool,
        record: Callable[[Path], None],
    ) -> None:
        """`asked`: prompts are questions to answer, not texts to continue."""
        self.config, self.model, self.tokenizer = config, model, tokenizer
        self.n_steps, self.seed, self.asked = n_steps, seed, asked
        self._folder, self._record = work / "samples", record

    def __call__(self, step: int, is_first: bool) -> None:
        """Draw after step `step`, counted from 1, when that is due."""
        interval = self.config.interval
        if not interval or not self.config.prompts or (step % interval and step != self.n_steps):
            return
        texts = self._draw()
        if not is_first:
            return
        rows = [
            {"step": step, "prompt": prompt, "text": text}
            for prompt, text in zip(self.config.prompts, texts, strict=True)
        ]
        write_json(self._folder / f"{step:09d}.json", rows)
        for row in rows:
            logger.info("  %s → %s", row["prompt"], " ".join(row["text"].split()))
        self._record(self._table())

    def rows(self) -> list[Row]:
        """All there are, by step."""
        return [row for file in sorted(self._folder.glob("*.json")) for row in read_json(file)]

    def write(self, path: Path) -> None:
        """All there are as JSONL."""
        write_jsonl(path, self.rows())

    def _draw(self) -> list[str]:
        prompts, sampling = self.config.prompts, self.config.sampling
        was_training = self.model.training
        engine = Engine(self.model, self.tokenizer, next(self.model.parameters()).device)
        try:
            if self.asked:
                asked = [[{"role": "user", "content": prompt}] for prompt in prompts]
                return engine.answer(asked, sampling, self.seed)
            return engine.complete(prompts, sampling, self.seed)
        finally:
            self.model.train(was_training)

    def _table(self) -> Path:
        """As MLflow shows tables."""
        rows = [[row[column] for column in COLUMNS] for row in self.rows()]
        path = self._folder.with_name(TABLE)
        write_json(path, {"columns": COLUMNS, "data": rows})
        return path
