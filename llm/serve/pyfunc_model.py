"""The registered model's code: MLflow runs this file to load a version (models-from-code).

    model = mlflow.pyfunc.load_model("models:/llm@candidate")
    model.predict(["How do I import Path?"], params={"max_new_tokens": 32})

`predict` takes prompts or conversations, one per row: strings, or lists of
{"role", "content"} messages in a column `messages`; it returns one answer each.
"""

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from llm.config.sampling import SamplingConfig
from llm.errors import DataError
from llm.inference.engine import Engine
from llm.registry.reference import read_reference, restore

COLUMNS = ("prompt", "messages", 0)  # 0 is what a plain list becomes
SEED = 0


class AnsweringModel(PythonModel):
    """Answers as the assistant; greedy unless `temperature` is raised."""

    def load_context(self, context: PythonModelContext) -> None:
        """Load the weights, on a GPU where there is one: a folder, or a reference to one."""
        stored = Path(context.artifacts["model"])
        with TemporaryDirectory() as scratch:
            folder = stored if stored.is_dir() else restore(read_reference(stored), Path(scratch))
            self.engine = Engine.load(folder, device="auto")

    def predict(  # pyright: ignore[reportIncompatibleMethodOverride]  # the base has no return type
        self,
        context: PythonModelContext,
        model_input: pd.DataFrame,
        params: dict[str, Any] | None = None,
    ) -> list[str]:
        """One answer per row; the parameters are those of the model's signature."""
        given = params or {}
        sampling = SamplingConfig(
            temperature=float(given["temperature"]),
            top_k=0,
            top_p=1.0,
            max_new_tokens=int(given["max_new_tokens"]),
        )
        return self.engine.answer(conversations_of(model_input), sampling, seed=SEED)


def conversations_of(rows: pd.DataFrame) -> list[Any]:
    """The rows' conversations; DataError for anything that is neither prompt nor messages."""
    column = rows.columns[0]
    if column not in COLUMNS:
        raise DataError(f"column {column!r}: expected a column `prompt` or `messages`")
    return [_conversation(cell) for cell in rows[column]]


def _conversation(cell: Any) -> list[dict[str, str]]:
    if isinstance(cell, str):
        return [{"role": "user", "content": cell}]
    if isinstance(cell, list) and cell and all(_is_message(item) for item in cell):
        return cell
    raise DataError(
        f"{cell!r} is neither a prompt (text) nor a list of messages; "
        'give messages as {"messages": [{"role": "user", "content": "…"}]}'
    )


def _is_message(item: Any) -> bool:
    return isinstance(item, dict) and {"role", "content"} <= item.keys()


set_model(AnsweringModel())
