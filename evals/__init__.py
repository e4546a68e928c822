"""How good the models are: the benchmark and judge stages.

No evaluation reaches a hub or writes to a cache in the home folder; the libraries read
these switches when they are first imported.
"""

import os

import llm  # noqa: F401  its switches come before anything imports torch

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["HF_DATASETS_OFFLINE"] = "1"
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"
os.environ.setdefault("TQDM_DISABLE", "1")  # progress goes through logging
