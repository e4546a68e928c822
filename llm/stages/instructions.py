"""Stage instructions: conversations about the documentation, train and unseen test.

Reads    data/decontaminate/kept      documented objects to ask about in training
         data/decontaminate/heldout   documented objects to ask about in the test
         data/decontaminate/items.parquet   items of other benchmarks and evaluation sets
         instructions.extra           JSONL conversations, Alpaca or ShareGPT rows, for training
Writes   data/instructions            train.jsonl, test.jsonl
         data/instructions/contamination.parquet   document_id (file:number), set, item_id, ngram
Metrics  instructions.json            train, test: conversations per kind; extra: those read,
                                      contaminated and dropped

No top-level object is asked about in both, and no prompt of the test is one of training.
Extra conversations that share an n-gram with what is held out, or with an item, are
dropped or only listed, as section decontaminate has it for documents.
"""

import logging
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from llm.config.align import InstructionsConfig
from llm.config.corpus import DecontaminateConfig
from llm.corpus.contamination import write_hits
from llm.corpus.documents import read_documents
from llm.data.conversations import Conversation, read_conversations, write_conversations
from llm.data.documentation import Asker, read_documented, select
from llm.data.extra import without_contaminated
from llm.errors import DataError
from llm.files import write_dir
from llm.process import Context, main, warn_of_unwatched

logger = logging.getLogger(__name__)


def run(
    ctx: Context, *, instructions: InstructionsConfig, decontaminate: DecontaminateConfig
) -> dict[str, Any]:
    """Ask about every object and sample; returns the stage's metrics."""
    warn_of_unwatched(ctx, instructions.extra)
    files = {name: read_conversations(Path(name)) for name in instructions.extra}
    extra = without_contaminated(files, ctx.paths.stage("decontaminate"), decontaminate)
    asker = Asker(instructions.seed, instructions.max_prompt_characters)
    corpus = ctx.paths.stage("decontaminate")
    asked = _ask(corpus / "heldout", asker, instructions)
    test = select(asked, instructions.test_per_kind, asker)
    taken = [conversation.prompt[0]["content"] for conversation in test]
    asked = _ask(corpus / "kept", asker, instructions)
    train = select(asked, instructions.train_per_kind, asker, taken)
    if not train or not test:
        raise DataError(
            f"instructions: the corpus gives {len(train)} questions for training and {len(test)} "
            "for the test; both are asked about Python documentation: gather a python_docs source"
        )
    train += [row for row in extra.rows if row.prompt[-1]["content"] not in set(taken)]
    train.sort(key=lambda conversation: asker.rank("shuffle", conversation.id))
    with write_dir(ctx.out) as partial:
        write_conversations(partial / "train.jsonl", train)
        write_conversations(partial / "test.jsonl", test)
        write_hits(partial, extra.hits)
    logger.info("%d conversations for training, %d for the test", len(train), len(test))
    return {"train": _count(train), "test": _count(test), "extra": extra.counts}


def _ask(folder: Path, asker: Asker, config: InstructionsConfig) -> Iterator[Conversation]:
    """Every question of the kinds about the documents of a folder."""
    for row in read_documents(folder, ("id", "url", "meta")):
        documented = read_documented(row)
        if documented is None:
            continue
        for kind in config.kinds:
            if (conversation := asker.ask(kind, documented)) is not None:
                yield conversation


def _count(conversations: list[Conversation]) -> dict[str, int]:
    return dict(sorted(Counter(conversation.kind for conversation in conversations).items()))


if __name__ == "__main__":
    main("instructions", run, instructions=InstructionsConfig, decontaminate=DecontaminateConfig)
