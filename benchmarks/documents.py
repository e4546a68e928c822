"""Documents to measure corpus stages on: docstrings of installed packages, gathered and extracted."""

from pathlib import Path

from llm.config.base import load_section
from llm.config.corpus import ExtractConfig, GatherConfig, Limits, PythonDocsSource
from llm.config.paths import Paths
from llm.process import Context
from llm.stages import extract, gather

# fmt: off
PACKAGES = [  # installed with the project and its extras dev
    "numpy", "scipy", "pandas", "sklearn", "sympy", "networkx", "matplotlib", "sqlalchemy",
    "nltk", "torch", "transformers", "prefect", "mlflow", "dvc", "datasets", "pyarrow", "fsspec",
    "openai", "altair", "fastapi", "pydantic", "trafilatura",
]
# fmt: on
SHARD_BYTES = 8_000_000  # as in params.yaml


def docstrings(folder: Path, count: int) -> Paths:
    """Paths under `folder`, whose `extract` holds up to `count` raw docstrings; made once."""
    names = ("data", "models", "metrics", "timings", "plots", "reports", "work")
    paths = Paths(**{name: str(folder / name) for name in names})
    if not paths.stage("extract").exists():
        limits = Limits(max_documents=0, max_record_bytes=20_000_000, max_inflation=100)
        source = PythonDocsSource(
            kind="python_docs", name="docs", stdlib=True, packages=PACKAGES, limits=limits
        )
        every = GatherConfig(sources=[source], max_documents=count, shard_bytes=SHARD_BYTES)
        gather.run(_context("gather", paths), gather=every)
        config = load_section(ExtractConfig, "extract", Path("params.yaml"))
        extract.run(_context("extract", paths), extract=config)
    return paths


def _context(name: str, paths: Paths) -> Context:
    return Context(name, paths, Path(paths.work) / name, workers=2)
