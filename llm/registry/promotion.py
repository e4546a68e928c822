"""A promotion from question to answer: measure, judge, keep the verdict, ask, move the alias.

The command `llm promote` and the flow `promote` are both this; they differ in how they run
the measuring process, show the table and ask a person.
"""

import getpass
import subprocess
import textwrap
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from llm.config.params import Params
from llm.errors import LLMError
from llm.files import write_json, write_text
from llm.registry.evidence import Run, evidence_folder, forget_evidence, gather_evidence
from llm.registry.gates import Verdict, judge_evidence
from llm.registry.moves import Move, Said, exclusive, make_champion, note, settle
from llm.registry.versions import CHAMPION, Registry, Version

FOLDER = "promotion"  # among the files of the version
GATE_TAG = "gate/"
PASS, FAIL = "pass", "fail"
BAR = "\\|"  # a bar in a cell of a Markdown table
FORM_CHARACTERS = 34  # that fit beside the other columns of Prefect's form


class Refused(LLMError):
    """The gates, or a person, said no."""


@dataclass(frozen=True)
class Decision:
    """What the gates found about a candidate."""

    candidate: Version
    champion: Version | None
    time: str  # UTC
    verdicts: list[Verdict]
    evidence: Mapping[str, Any]

    @property
    def failed(self) -> list[str]:
        """Names of the gates that failed."""
        return [verdict.gate for verdict in self.verdicts if not verdict.passed]

    @property
    def summary(self) -> str:
        """In a few words."""
        if self.failed:
            return f"failed: {', '.join(self.failed)}"
        return f"{len(self.verdicts)} gate{'s' * (len(self.verdicts) != 1)} passed"

    @property
    def title(self) -> str:
        """Who is measured beside whom."""
        beside = f"beside the champion {self.champion.uri}" if self.champion else "no champion yet"
        return f"{self.candidate.uri} ({self.candidate.tags.get('model', 'unknown')}), {beside}"


@dataclass(frozen=True)
class Answer:
    """What a person said to the table."""

    approved: bool
    by: str
    comment: str


def promote(
    registry: Registry,
    reference: str,
    params: Params,
    said: Said,
    *,
    run: Run,
    show: Callable[[Decision], None],
    ask: Callable[[Decision], Answer] | None,
) -> Move | None:
    """Make the version the champion if every gate passes and `ask`, if there is one, agrees.

    None when it is the champion already. Raises Refused, which is on record with the version
    and in the history, and moves.Overtaken when another promotion came first.
    """
    locks = Path(params.paths.work) / "locks"
    candidate = registry.find(reference, params.register_.name)
    settle(registry, candidate.name, locks)
    champion = registry.by_alias(candidate.name, CHAMPION)
    if champion is not None and champion.number == candidate.number:
        return None
    decision = decide(registry, candidate, champion, params, run)
    show(decision)
    said = Said(said.by, said.reason, decision.summary)
    if decision.failed:
        note(registry, "refused", candidate, said, locks)
        raise Refused(f"{candidate.uri} is not promoted; gates {decision.summary}")
    if ask is not None:
        answer = ask(decision)
        said = Said(answer.by, answer.comment or said.reason, decision.summary)
        if not answer.approved:
            note(registry, "declined", candidate, said, locks)
            raise Refused(f"{candidate.uri} is not promoted; declined by {said.by}: {said.reason}")
    return make_champion(registry, candidate, champion, said, locks)


def decide(
    registry: Registry, candidate: Version, champion: Version | None, params: Params, run: Run
) -> Decision:
    """Measure and judge; evidence and verdicts are kept with the candidate."""
    work = evidence_folder(candidate, champion, params)
    with exclusive(Path(params.paths.work) / "locks" / f"evidence-{work.name}.lock"):
        evidence = gather_evidence(registry, candidate, champion, params, run)
        verdicts = judge_evidence(evidence, params.promote)
        time = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        decision = Decision(candidate, champion, time, verdicts, evidence)
        keep(registry, decision)
        forget_evidence(candidate, champion, params)
    return decision


def keep(registry: Registry, decision: Decision) -> None:
    """`promotion/TIME.json` and `.md` among the version's files, and a tag per gate."""
    version = decision.candidate
    name = decision.time.replace(":", "")
    with TemporaryDirectory() as scratch:
        write_json(
            Path(scratch) / f"{name}.json",
            {
                "version": version.uri,
                "champion": decision.champion.uri if decision.champion else None,
                "time": decision.time,
                "verdicts": [asdict(verdict) for verdict in decision.verdicts],
                "evidence": decision.evidence,
            },
        )
        write_text(Path(scratch) / f"{name}.md", markdown(decision))
        for file in sorted(Path(scratch).iterdir()):
            registry.keep(version, file, FOLDER)
    tags = {f"{GATE_TAG}{v.gate}": PASS if v.passed else FAIL for v in decision.verdicts}
    for former in version.tags:
        if former.startswith(GATE_TAG) and former not in tags:
            registry.delete_tag(version, former)
    registry.set_tags(version, tags)


def rows(decision: Decision) -> list[dict[str, str]]:
    """The table, a row per gate."""
    return [
        {
            "gate": verdict.gate,
            "verdict": PASS if verdict.passed else FAIL,
            "evidence": verdict.evidence,
            "threshold": verdict.threshold,
        }
        for verdict in decision.verdicts
    ]


def markdown(decision: Decision) -> str:
    """The table under its title."""
    lines = [f"## {decision.title}", "", "| gate | verdict | evidence | threshold |"]
    lines.append("|---|---|---|---|")
    for row in rows(decision):
        lines.append(f"| {' | '.join(cell.replace('|', BAR) for cell in row.values())} |")
    if about := decision.evidence.get("heldout"):
        lines += ["", f"Held-out data: {about}."]
    return "\n".join([*lines, "", f"{decision.summary}; {decision.time}", ""])


def narrow_markdown(decision: Decision) -> str:
    """The table for a form that breaks no lines itself: what is asked for stands below what is found."""
    lines = [
        f"## {decision.title}",
        "",
        "| gate | verdict | found, and asked for |",
        "|---|---|---|",
    ]
    for row in rows(decision):
        cell = [*_broken(row["evidence"]), *(f"*{line}*" for line in _broken(row["threshold"]))]
        lines.append(f"| {row['gate']} | {row['verdict']} | {'<br>'.join(cell)} |")
    return "\n".join(lines)


def _broken(text: str) -> list[str]:
    return textwrap.wrap(text.replace("|", BAR), FORM_CHARACTERS)


def whoami() -> str:
    """The person at this machine: as git knows them, and else the login name."""
    command = ["git", "config", "user.name"]
    try:
        named = subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()
    except FileNotFoundError:
        named = ""
    return named or getpass.getuser()
