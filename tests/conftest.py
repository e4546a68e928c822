"""What every test may use: paths under tmp_path, a small tokenizer, a tiny model."""

import os

from tests.waiting import PATIENCE_S

os.environ |= {
    # processes that tests start in other folders run this checkout's code
    "PYTHONPATH": os.path.dirname(os.path.dirname(os.path.abspath(__file__))),
    "LLM_TRACKING": "off",  # stage processes that tests start record nothing
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "DO_NOT_TRACK": "1",
    "DVC_NO_ANALYTICS": "true",
    "HF_HUB_OFFLINE": "1",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "LLM_CLUSTER_TIMEOUT_S": str(PATIENCE_S),
    "OMP_NUM_THREADS": "1",  # of torch: what tests compute is small, and the cores have other tests
}

from pathlib import Path

import hypothesis
import pytest

from llm.config.model import ModelConfig
from llm.config.paths import Paths
from llm.config.tokenizer import TokenizerConfig
from llm.tokenizer.folder import save_tokenizer
from llm.tokenizer.load import Tokenizer
from llm.tokenizer.train import train_tokenizer
from tests.shapes import shape

hypothesis.settings.register_profile(  # a busy machine refutes no law
    "unhurried", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("unhurried")

ROOT = Path(__file__).parent.parent
TEXT = [
    "pathlib.Path.read_text(self, encoding=None)\n\nOpen the file in text mode, read it, and close it.",
    "json.dumps(obj, indent=None)\n\nSerialize ``obj`` to a JSON formatted ``str``.",
    "math.hypot(x, y)\n\nReturn the Euclidean distance, sqrt(x*x + y*y). Größe, 漢字, 🙂.",
] * 20


# Where tests marked gpu compute. LLM_TEST_DEVICE=cpu runs them without a GPU: all but it is tried.
TEST_DEVICE = os.environ.get("LLM_TEST_DEVICE", "cuda")


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("gpu") is not None and TEST_DEVICE == "cuda":
        import torch  # here, for most processes of tests need none before a test does

        if not torch.cuda.is_available():
            pytest.skip("torch sees no CUDA device")


@pytest.fixture(scope="session")
def gpu():
    """The device of a test marked gpu."""
    import torch

    return torch.device(TEST_DEVICE, 0) if TEST_DEVICE == "cuda" else torch.device(TEST_DEVICE)


@pytest.fixture
def paths(tmp_path: Path) -> Paths:
    """Roots that lie in tmp_path."""
    names = ("data", "models", "metrics", "timings", "plots", "reports", "work")
    return Paths(**{name: str(tmp_path / name) for name in names})


@pytest.fixture(scope="session")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> Tokenizer:
    """400 ids, trained on a few docstrings."""
    config = TokenizerConfig(
        init_from="",
        vocab_size=400,
        sample_bytes=100_000,
        min_frequency=2,
        max_digits=1,
        white_space="runs",
    )
    folder = tmp_path_factory.mktemp("tokenizer")
    save_tokenizer(folder, train_tokenizer(iter(TEXT), config), 64)
    return Tokenizer.load(folder)


@pytest.fixture(scope="session")
def tiny() -> ModelConfig:
    """Two layers, four query heads on two key/value heads, width 32, 64 positions."""
    return shape()
