"""A candidate measured beside the champion: each method is one part of a promotion's evidence.

Both models get the very same items: those that were held out of the candidate's training.
Where the champion held fewer out, the items that may have been in its training text are
left out, and the evidence says how many.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from evals.decontaminate import top_level_object
from evals.harness import load_tasks, score_model
from evals.judge import compare, pick_evenly, summarise
from evals.judges import build_judge
from evals.paired import compare_scores
from evals.unsafe import (
    REGURGITATION,
    WORD,
    Answer,
    Finding,
    find_regurgitated,
    find_unsafe,
    load_rules,
    provoking_prompts,
)
from llm.cluster.pool import map_shards
from llm.config.params import Params
from llm.config.sampling import SamplingConfig
from llm.corpus.contamination import (
    Work,
    every_item,
    find_hits,
    index_items,
    read_sets,
    without_boilerplate,
)
from llm.corpus.documents import hash_fraction, read_documents, shard_paths, write_table
from llm.data.conversations import Conversation, read_conversations, write_conversations
from llm.errors import DataError
from llm.files import write_dir
from llm.inference.engine import Engine
from llm.process import Context, worker_count

EXAMPLES = 5  # kept of each kind, for a person to look at
SHOWN = (REGURGITATION, WORD)  # other findings are personal or secret: they are masked

logger = logging.getLogger(__name__)


@dataclass
class Comparison:
    """What is compared, and by which settings."""

    candidate: Path  # Hugging Face folders
    champion: Path | None
    data: Path  # the candidate's, as stages name it: decontaminate, instructions, reward
    champion_heldout_frac: float | None  # where that is less than the candidate's
    work: Path  # for work in progress
    params: Params

    def items(self) -> dict[str, Any]:
        """How many items there are, and how many are left out."""
        heldout, questions = _read_heldout(self.data), _read_questions(self.data)
        documents = _read_heldout(Path(self._context.paths.data))
        return {
            "documents": len(documents),
            "documents_left_out": len(heldout) - len(documents),
            "questions": len(self._questions),
            "questions_left_out": len(questions) - len(self._questions),
        }

    def scores(self) -> dict[str, Any]:
        """Every benchmark task of both models, item by item; nothing without a champion."""
        if self._engines["champion"] is None:
            return {}
        config = self.params.benchmark
        tasks = load_tasks(self._context, config)
        results = {}
        for name, engine in self._engines.items():
            assert engine is not None
            logger.info("%s: %d benchmark tasks", name, len(tasks))
            results[name] = score_model(engine, tasks, config, chat=True)
        return compare_scores(results["candidate"], results["champion"])

    def judge(self) -> dict[str, Any]:
        """The judge's verdicts on both models' answers, in both orders; nothing without a champion."""
        config, champion = self.params.judge, self._engines["champion"]
        if champion is None:
            return {}
        chosen = pick_evenly(self._questions, config.prompts, config.seed)
        judge = build_judge(config, self.data / "reward", self.work / "judge")
        ours, theirs = (
            self._answers(name, chosen, config.sampling, config.batch_size)
            for name in ("candidate", "champion")
        )
        # stage judge's comparison, with the champion in sft's place and the candidate in dpo's
        rows = compare(judge, chosen, theirs, ours)
        lost = [row for row in rows if row["dpo_credit"] is not None and row["dpo_credit"] < 0.5]
        return {
            "judge": config.judge,
            **summarise(rows, config.seed),
            "lost": [_lost(row) for row in lost[:EXAMPLES]],
        }

    def safety(self) -> dict[str, Any]:
        """Unsafe answers of the candidate to held-out and to provoking questions."""
        config, engine = self.params.promote.safety, self._engines["candidate"]
        assert engine is not None
        chosen = pick_evenly(self._questions, config.prompts, self.params.judge.seed)
        asked = [(item.id, item.prompt) for item in chosen]
        asked += [(id_, [{"role": "user", "content": text}]) for id_, text in provoking_prompts()]
        sampling = _greedy(min(config.max_new_tokens, engine.block_size // 2))
        logger.info("candidate answers %d held-out and provoking questions", len(asked))
        texts = engine.answer([turns for _, turns in asked], sampling, seed=0)
        answers = [
            Answer(id_, "\n".join(turn["content"] for turn in turns), text)
            for (id_, turns), text in zip(asked, texts, strict=True)
        ]
        found = find_unsafe(answers, load_rules())
        if config.regurgitation_words:
            shards = shard_paths(self.data / "decontaminate" / "kept")
            words = config.regurgitation_words
            found += find_regurgitated(answers, shards, words, worker_count())
        return _unsafe_counts(answers, found)

    def contamination(self) -> dict[str, Any]:
        """Training documents that share words in a row with an item, by the policy's own measure.

        Counted anew, whatever the candidate's decontamination looked for or let pass.
        """
        config = self.params.promote.contamination
        items = read_sets(self.data / "decontaminate")
        items["questions"] = [(each.id, each.text) for each in _read_questions(self.data)]
        indexed = {name: index_items(pairs, config.ngram_words) for name, pairs in items.items()}
        shards = shard_paths(self.data / "decontaminate" / "kept")
        logger.info("%d shards of training text searched for evaluation items", len(shards))
        work = [Work(path, indexed, config.ngram_words, frozenset()) for path in shards]
        hits = [hit for found in map_shards(find_hits, work, worker_count()) for hit in found]
        left = every_item(without_boilerplate(hits, config.max_ngram_documents), indexed)
        return {
            "documents": sum(pq.read_metadata(path).num_rows for path in shards),
            "sharing": len({hit.document for hit in left}),
            "sharing_boilerplate_too": len({hit.document for hit in hits}),
            "examples": [hit.ngram for hit in left[:EXAMPLES]],
        }

    def latency(self) -> dict[str, Any]:
        """Seconds per answer, one question at a time, the models in turns; the fastest round counts."""
        config, sampling = self.params.promote.latency, self.params.judge.sampling
        prompts = [
            item.prompt
            for item in pick_evenly(self._questions, config.prompts, self.params.judge.seed)
        ]
        engines = [(name, engine) for name, engine in self._engines.items() if engine is not None]
        logger.info("%d answers timed, %d times", len(prompts), config.rounds)
        for _, engine in engines:
            engine.answer(prompts[:1], sampling, seed=0)  # the first one loads what it needs
        best = {name: [float("inf")] * len(prompts) for name, _ in engines}
        for turn in range(config.rounds):
            for place, prompt in enumerate(prompts):
                for name, engine in engines if (turn + place) % 2 else engines[::-1]:
                    started = time.perf_counter()
                    engine.answer([prompt], sampling, seed=0, batch_size=1)
                    best[name][place] = min(best[name][place], time.perf_counter() - started)
        seconds = {name: sum(times) / len(times) for name, times in best.items()}
        return {**seconds, "prompts": len(prompts), "device": str(engines[0][1].device)}

    def size(self) -> dict[str, Any]:
        """Bytes of each folder."""
        folders = {"candidate": self.candidate, "champion": self.champion}
        return {name: _bytes(folder) for name, folder in folders.items() if folder is not None}

    @cached_property
    def _engines(self) -> dict[str, Engine | None]:
        device = self.params.benchmark.device
        champion = None if self.champion is None else Engine.load(self.champion, device)
        return {"candidate": Engine.load(self.candidate, device), "champion": champion}

    @cached_property
    def _questions(self) -> list[Conversation]:
        """The questions that both models can be asked."""
        return _read_questions(Path(self._context.paths.data))

    @cached_property
    def _context(self) -> Context:
        """Of the stages whose functions are used: where the items lie that both can be given."""
        seen = {row["url"] for row in _read_heldout(self.data) if self._may_have_seen(row)}
        data = self._write_items(seen) if seen else self.data
        paths = self.params.paths.model_copy(update={"data": str(data)})
        return Context("promotion", paths, self.work)

    def _answers(
        self, name: str, chosen: Sequence[Conversation], sampling: SamplingConfig, batch_size: int
    ) -> list[str]:
        engine = self._engines[name]
        assert engine is not None
        logger.info("%s answers %d held-out questions", name, len(chosen))
        prompts = [item.prompt for item in chosen]
        return engine.answer(prompts, sampling, self.params.judge.seed, batch_size)

    def _may_have_seen(self, row: dict[str, str]) -> bool:
        """Whether the champion's share held out does not reach this document: it is drawn by hash."""
        if self.champion_heldout_frac is None:
            return False
        return hash_fraction(f"heldout {top_level_object(row)}") >= self.champion_heldout_frac

    def _write_items(self, seen: set[str]) -> Path:
        """A folder of the items without those at the urls in `seen`, laid out as stages do."""
        questions = [each for each in _read_questions(self.data) if each.source not in seen]
        if not questions:
            raise DataError("the champion may have been trained on every one of the questions")
        with write_dir(self.work / "items") as partial:
            for path in shard_paths(self.data / "decontaminate" / "heldout"):
                table = pq.read_table(path)
                kept = [url not in seen for url in table["url"].to_pylist()]
                write_table(partial / "decontaminate" / "heldout" / path.name, table.filter(kept))
            (partial / "instructions").mkdir()
            write_conversations(partial / "instructions" / "test.jsonl", questions)
        return self.work / "items"


def _read_heldout(data: Path) -> list[dict[str, str]]:
    columns = ("id", "url", "text", "meta")
    return list(read_documents(data / "decontaminate" / "heldout", columns))


def _read_questions(data: Path) -> list[Conversation]:
    return read_conversations(data / "instructions" / "test.jsonl")


def _unsafe_counts(answers: Sequence[Answer], found: Sequence[Finding]) -> dict[str, Any]:
    rules = sorted({finding.rule for finding in found})
    return {
        "answers": len(answers),
        "unsafe": len({finding.answer for finding in found}),
        "by_rule": {rule: len({f.answer for f in found if f.rule == rule}) for rule in rules},
        "examples": [
            {"answer": f.answer, "rule": f.rule, "found": _masked(f)} for f in found[:EXAMPLES]
        ],
    }


def _masked(finding: Finding) -> str:
    """Evidence is kept and shown: it repeats nobody's address and no secret."""
    return finding.found if finding.rule in SHOWN else f"{finding.found[:3]}…"


def _lost(row: Mapping[str, Any]) -> dict[str, Any]:
    kept = {key: row[key] for key in ("id", "prompt", "reference")}
    return {**kept, "candidate": row["dpo"], "champion": row["sft"]}


def _bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def _greedy(max_new_tokens: int) -> SamplingConfig:
    return SamplingConfig(temperature=0.0, top_k=0, top_p=1.0, max_new_tokens=max_new_tokens)
