"""The evidence of a promotion: a candidate measured, beside the champion if there is one.

    python -m evals.promotion --candidate FOLDER --champion FOLDER --data FOLDER --out FILE

Reads    --candidate, --champion           Hugging Face folders
         --data/decontaminate/heldout      the candidate's held-out documents
         --data/decontaminate/items.parquet   other benchmarks' items
         --data/decontaminate/kept         what it was trained on
         --data/instructions/test.jsonl    questions about the held-out documents
         --data/reward                     its reward model, when judge.judge is `reward`
         params.yaml                       sections promote, benchmark and judge: the policy is
                                           this project's, whatever the candidate's was
Writes   --out    JSON: items, scores, judge, safety, contamination, latency, size

Only what the gates in promote.gates need is measured. Each part is on disk when the next
begins, so that a killed process continues; a part that cannot be measured says why.
"""

import argparse
import logging
import math
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from llm.config.params import load_params
from llm.errors import LLMError
from llm.files import read_json, write_json
from llm.tied import tie_to_parent

PARTS = {  # in this order; each with the gates that need it
    "size": ("size",),
    "items": ("tasks", "bpb", "judge", "safety", "latency"),
    "contamination": ("contamination",),
    "scores": ("tasks", "bpb"),
    "judge": ("judge",),
    "safety": ("safety",),
    "latency": ("latency",),
}

logger = logging.getLogger(__name__)


def main() -> None:
    """Measure what the gates need; exits 1 with one line when nothing can be measured."""
    logging.basicConfig(level=logging.INFO, format="%(message)s", stream=sys.stderr)
    tie_to_parent()
    try:
        collect(arguments(sys.argv[1:]))
    except LLMError as error:
        logger.error("error: %s", error)
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)


def collect(given: argparse.Namespace) -> None:
    """Measure each part that is not in the file yet."""
    # here, so that processes that only search text import no torch
    from evals.comparison import Comparison

    params = load_params(Path("params.yaml"))
    comparison = Comparison(
        candidate=given.candidate,
        champion=given.champion,
        data=given.data,
        champion_heldout_frac=given.champion_heldout_frac,
        work=given.out.parent,
        params=params,
    )
    evidence = read_json(given.out) if given.out.exists() else {}
    write_json(given.out, evidence)
    for name, gates in PARTS.items():
        if not set(gates) & set(params.promote.gates) or _is_measured(evidence.get(name)):
            continue
        try:
            evidence[name] = finite(getattr(comparison, name)())
        except LLMError as error:
            logger.warning("%s: %s", name, error)
            evidence[name] = {"error": str(error)}
        write_json(given.out, evidence)


def finite(value: Any) -> Any:
    """The value with None for every number that is none: JSON has no NaN."""
    if isinstance(value, Mapping):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_measured(part: Any) -> bool:
    return isinstance(part, Mapping) and "error" not in part


def arguments(words: list[str]) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description="Measure a candidate beside the champion.")
    parser.add_argument("--candidate", type=Path, required=True, help="Hugging Face folder")
    parser.add_argument("--champion", type=Path, help="Hugging Face folder; none: no champion")
    parser.add_argument("--data", type=Path, required=True, help="the candidate's held-out data")
    parser.add_argument(
        "--champion-heldout-frac",
        type=float,
        help="the champion's decontaminate.heldout_frac, if less than the candidate's",
    )
    parser.add_argument("--out", type=Path, required=True, help="JSON file to write")
    return parser.parse_args(words)


if __name__ == "__main__":
    main()
