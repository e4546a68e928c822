"""Where things lie: params.yaml's `paths`, the only place that spells a folder."""

from pathlib import Path

from llm.config.base import Section


class Paths(Section):
    """Root folders, relative to the project's root. Stage NAME owns `data/NAME` and `metrics/NAME.json`."""

    data: str
    """What the corpus and alignment stages write, one folder per stage."""
    models: str
    """Hugging Face folders: base, sft, reward, dpo."""
    metrics: str
    """One JSON per stage, the same bytes for the same run."""
    timings: str
    """One JSON per stage: seconds, memory, throughput; never the same twice."""
    plots: str
    """One CSV per curve, and what the models wrote while they learnt."""
    reports: str
    """report.html and the cards."""
    work: str
    """In progress; ignored by git and DVC."""

    def stage(self, name: str) -> Path:
        """The folder that stage `name` writes."""
        return Path(self.data) / name

    def model(self, name: str) -> Path:
        """The Hugging Face folder of model `name`."""
        return Path(self.models) / name

    def metric(self, name: str) -> Path:
        """The metrics file of stage `name`."""
        return Path(self.metrics) / f"{name}.json"

    def timing(self, name: str) -> Path:
        """The timings file of stage `name`."""
        return Path(self.timings) / f"{name}.json"

    def plot(self, name: str) -> Path:
        """The CSV of a curve or table that `dvc plots` draws."""
        return Path(self.plots) / f"{name}.csv"

    def samples(self, name: str) -> Path:
        """What the model wrote during training stage `name`: JSONL of step, prompt, text."""
        return Path(self.plots) / f"{name}.samples.jsonl"
