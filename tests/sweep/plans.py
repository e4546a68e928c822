"""A plan of a small sweep, changed as a test needs it."""

from typing import Any

from llm.config.base import validate
from llm.sweep.plan import Plan


def plan(**given: Any) -> Plan:
    values = {
        "metric": "pretrain/val/loss",
        "goal": "min",
        "method": "grid",
        "space": {"pretrain.seed": [1, 2]},
        "samples": None,
        "seed": 1,
        "seed_sections": [],
        "preset": None,
        "upto": "pretrain",
        "at_once": 2,
        "skip_impossible": False,
        "register_best": False,
        "stage_timeout_s": None,
    }
    return validate(Plan, values | given, "")
