"""Which steps do not reach the weights: those that are not finite, and outliers."""

import logging
import math
import statistics
from typing import Any

from llm.config.train import OptimConfig
from llm.errors import TrainingError

logger = logging.getLogger(__name__)


class StepGuard:
    """Judges each step by its loss and gradient norm before the update.

    With `skip_sigma`, a step is skipped whose loss or norm lies that many deviations above the
    mean of the last `skip_window` steps. These count whether skipped or not, so that a lasting
    change is soon the normal. Every rank judges the same numbers and decides the same.
    """

    def __init__(self, config: OptimConfig) -> None:
        self.config = config
        self.recent: list[tuple[float, float]] = []  # (loss, norm), oldest first
        self.skipped = 0

    @property
    def is_on(self) -> bool:
        """Whether steps may be skipped at all."""
        return self.config.skip_sigma > 0 or self.config.nonfinite == "skip"

    def accepts(self, loss: float, norm: float, *, scaled: bool) -> bool:
        """Whether to update; TrainingError when the step is not finite and `nonfinite` is stop.

        `scaled`: under fp16's loss scaling, which skips a step of infinite norm itself.
        """
        if not math.isfinite(loss) or (not math.isfinite(norm) and not scaled):
            self._refuse_or_count(loss, norm)
            return False
        outlier = self._is_outlier(loss, norm)
        if self.config.skip_sigma > 0 and math.isfinite(norm):
            self.recent = [*self.recent, (loss, norm)][-self.config.skip_window :]
        if outlier:
            self.skipped += 1
            logger.warning("skipped a step: loss %.4f, gradient norm %.3g: an outlier", loss, norm)
        return not outlier

    def _refuse_or_count(self, loss: float, norm: float) -> None:
        what = f"loss={loss}" if not math.isfinite(loss) else f"gradient norm={norm}"
        if self.config.nonfinite == "stop":
            raise TrainingError(
                f"{what} is not finite; lower optim.lr or use precision fp32 "
                "(optim.nonfinite=skip leaves such steps out)"
            )
        self.skipped += 1
        logger.warning("skipped a step: %s is not finite", what)

    def _is_outlier(self, loss: float, norm: float) -> bool:
        if not self.config.skip_sigma or len(self.recent) < self.config.skip_window:
            return False
        return any(
            value > statistics.fmean(past) + self.config.skip_sigma * statistics.pstdev(past)
            for value, past in zip((loss, norm), zip(*self.recent, strict=True), strict=True)
        )

    def state_dict(self) -> dict[str, Any]:
        return {"recent": self.recent, "skipped": self.skipped}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.recent = [(loss, norm) for loss, norm in state["recent"]]
        self.skipped = state["skipped"]
