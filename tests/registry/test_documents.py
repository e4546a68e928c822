"""Every gathered document is accounted for, as the stages left it; nothing is guessed."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from llm.config.paths import Paths
from llm.corpus.documents import text_schema, write_rows
from llm.data.blocks import Blocks, TrainingBlocks
from llm.data.conversations import read_conversations
from llm.data.packed_blocks import PackedBlocks, document_bounds
from llm.data.shards import TokenShards
from llm.registry.cache import Cache, file_md5, listing_md5
from llm.registry.corpus import CachedCorpus, CheckoutCorpus, Corpus, MissingData
from llm.registry.documents import (
    DROPPED,
    HELDOUT,
    TRAIN,
    UNKNOWN,
    VAL,
    Document,
    Fate,
    documents_by_id,
    fates,
    find_documents,
)
from llm.tokenizer.load import Tokenizer
from tests.registry.corpus import URL, make_corpus, pair_about, params, record

EXTRA = "python:pack.extra#"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Paths, dict[str, dict]]:
    """The stages' folders, and their metrics."""
    paths, metrics = make_corpus(tmp_path_factory.mktemp("corpus"))
    pair_about(paths, URL.format(0, 0))
    return paths, metrics


@pytest.fixture(scope="module")
def corpus(made: tuple[Paths, dict[str, dict]]) -> Corpus:
    return CheckoutCorpus(Path(made[0].data))


@pytest.fixture(scope="module")
def found(corpus: Corpus) -> dict[str, Fate]:
    """What became of each document, by url."""
    everything = find_documents(corpus, "python", every=True).documents
    became = fates(corpus, record(params()), everything)
    return {document.url: became[document.id] for document in everything}


def test_the_counts_are_the_stages_own(
    made: tuple[Paths, dict[str, dict]], found: dict[str, Fate]
) -> None:
    _, metrics = made
    counts = Counter((fate.outcome, fate.stage) for fate in found.values())
    assert counts[DROPPED, "extract"] == sum(metrics["extract"]["failed"].values()) > 0
    assert counts[DROPPED, "filter"] == sum(metrics["filter"]["dropped"].values()) > 0
    assert counts[DROPPED, "dedup"] == metrics["dedup"]["exact"] + metrics["dedup"]["near"] > 0
    assert counts[HELDOUT, "decontaminate"] == metrics["decontaminate"]["heldout"] > 0
    assert counts[DROPPED, "decontaminate"] == metrics["decontaminate"]["dropped"]
    assert counts[TRAIN, "tokenize"] == metrics["tokenize"]["train"]["documents"] > 0
    assert counts[VAL, "tokenize"] == metrics["tokenize"]["val"]["documents"] > 0
    assert counts[UNKNOWN, ""] == 0


def test_a_dropped_document_names_rule_value_and_limit(found: dict[str, Fate]) -> None:
    assert found[f"{EXTRA}empty"].reason == "empty (extract.min_characters: 20)"
    assert found[f"{EXTRA}short"].reason == "gopher.min_words: 4 (filter.gopher.min_words: 8)"
    assert found[f"{EXTRA}other_language"].reason == "languages: de (filter.languages: ['en'])"
    assert found[f"{EXTRA}copy"].reason == "exact duplicate of"


def test_a_duplicate_names_the_document_that_was_kept(
    corpus: Corpus, found: dict[str, Fate]
) -> None:
    other = found[f"{EXTRA}copy"].other
    assert other is not None
    assert documents_by_id(corpus, [other])[other].url == URL.format(3, 3)


def test_a_record_of_which_one_copy_was_dropped_is_trained_on(
    made: tuple[Paths, dict[str, dict]], found: dict[str, Fate], tmp_path: Path
) -> None:
    shutil.copytree(made[0].data, tmp_path / "data")
    corpus = CheckoutCorpus(tmp_path / "data")
    url = next(url for url, fate in found.items() if fate.outcome == TRAIN)
    (document,) = find_documents(corpus, url).documents
    again = {"id": document.id, "kept_id": document.id, "kind": "exact"}
    write_rows(tmp_path / "data/dedup/clusters.parquet", [again], text_schema(*again))
    assert fates(corpus, record(params()), [document])[document.id].outcome == TRAIN


def test_conversations_and_pairs_are_counted_by_their_document(
    made: tuple[Paths, dict[str, dict]], found: dict[str, Fate]
) -> None:
    folder = made[0].stage("instructions")
    for file, counted in (("train.jsonl", "conversations"), ("test.jsonl", "questions")):
        asked = Counter(each.source for each in read_conversations(folder / file))
        assert {url: n for url, fate in found.items() if (n := getattr(fate, counted))} == asked
    assert found[URL.format(0, 0)].pairs == 1
    assert sum(fate.pairs + fate.test_pairs for fate in found.values()) == 1


def test_the_steps_that_read_a_document_are_those_that_the_loop_drew(
    made: tuple[Paths, dict[str, dict]], found: dict[str, Fate]
) -> None:
    """Every step's tokens, as the loop gets them, hold the words of what it is said to have read."""
    paths, _ = made
    values = params()
    tokenizer = Tokenizer.load(paths.stage("tokenizer"))
    size, batch = values["model"]["block_size"], values["pretrain"]["batch_tokens"]
    shards = TokenShards(paths.stage("tokenize") / "train", tokenizer.hash)
    blocks = TrainingBlocks(
        Blocks(shards, size),
        values["pretrain"]["micro_batch_size"],
        batch,
        values["pretrain"]["max_tokens"],
        values["pretrain"]["seed"],
    )
    stream = shards[0 : len(shards)].tolist()
    starts = [n for n, id_ in enumerate(stream) if id_ == tokenizer.bos_id]
    read: dict[int, set[int]] = {n: set() for n in range(len(starts))}
    owner = [-1] * len(stream)
    for n, start in enumerate(starts):
        end = starts[n + 1] if n + 1 < len(starts) else len(stream)
        owner[start:end] = [n] * (end - start)
    for step in range(blocks.n_steps):
        for index in range(blocks.micros_per_step):
            first = (step * blocks.micros_per_step + index) * blocks.micro_batch_size
            for place in range(first, first + blocks.micro_batch_size):
                block = blocks._block(place)
                for token in range(block * size, block * size + size):
                    read[owner[token]].add(step + 1)
    trained = [fate for fate in found.values() if fate.outcome == TRAIN]
    assert [fate.exposure.steps for fate in trained if fate.exposure] == [
        tuple(sorted(read[n])) for n in range(len(starts))
    ]
    assert any(not steps for steps in read.values())
    assert any(len(steps) > 1 for steps in read.values())


def test_of_packed_documents_the_steps_are_told_as_well(
    made: tuple[Paths, dict[str, dict]], corpus: Corpus, found: dict[str, Fate]
) -> None:
    paths, _ = made
    values = params()
    values["pretrain"] |= {"packing": "best_fit", "packing_window": 7}
    tokenizer = Tokenizer.load(paths.stage("tokenizer"))
    shards = TokenShards(paths.stage("tokenize") / "train", tokenizer.hash)
    size, section = values["model"]["block_size"], values["pretrain"]
    blocks = PackedBlocks(
        shards, size, document_start=tokenizer.bos_id, window=7, document_mask=False
    )
    sizes = (section["micro_batch_size"], section["batch_tokens"], section["max_tokens"])
    batches = TrainingBlocks(blocks, *sizes, section["seed"])
    bounds = document_bounds(shards, tokenizer.bos_id)
    read: dict[int, set[int]] = {n: set() for n in range(len(bounds) - 1)}
    rows = batches.micros_per_step * batches.micro_batch_size
    for place in range(batches.n_steps * rows):
        for start, length in blocks._pieces(batches._block(place)):
            owner = int((bounds <= start).sum()) - 1
            assert start + length <= bounds[owner + 1]  # no piece is of two documents
            read[owner].add(place // rows + 1)
    trained = [document for document, fate in found.items() if fate.outcome == TRAIN]
    everything = find_documents(corpus, "python", every=True).documents
    became = fates(corpus, record(values), everything)
    exposed = {each.url: became[each.id].exposure for each in everything}
    assert [exposed[url].steps for url in trained] == [  # type: ignore[union-attr]
        tuple(sorted(steps)) for steps in read.values()
    ]
    assert any(not steps for steps in read.values())


def test_being_in_the_split_is_not_being_trained_on(found: dict[str, Fate]) -> None:
    trained = [fate for fate in found.values() if fate.outcome == TRAIN]
    for fate in trained:
        assert fate.exposure is not None
        derived = fate.conversations + fate.pairs
        assert fate.trained == bool(fate.exposure.steps or derived)
    assert {fate.trained for fate in trained} == {True, False}


def test_other_code_that_drew_the_blocks_leaves_the_steps_unknown(corpus: Corpus) -> None:
    changed = record(params())
    object.__setattr__(changed, "code", {**changed.code, "llm/data/order.py": "0" * 32})
    everything = find_documents(corpus, "python", every=True).documents
    became = fates(corpus, changed, everything)
    in_train = [fate for fate in became.values() if fate.outcome == TRAIN]
    assert all("llm/data/order.py has changed since" in fate.exposure_unknown for fate in in_train)
    assert {fate.trained for fate in in_train} == {True, None}


@pytest.mark.parametrize(
    ("query", "urls", "others"),
    [
        ("pack.part3.thing_3", [URL.format(3, 3)], 2),  # thing_33 and thing_38 contain it
        (URL.format(3, 3), [URL.format(3, 3)], 2),
        ("extra.cop", [f"{EXTRA}copy"], 0),
        ("short" + "0" * 6, [f"{EXTRA}short"], 0),
        ("nothing", [], 0),
    ],
)
def test_a_query_means_the_exact_document_before_those_that_contain_it(
    corpus: Corpus, query: str, urls: list[str], others: int
) -> None:
    answer = find_documents(corpus, query)
    assert [document.url for document in answer.documents] == urls
    assert answer.others == others
    assert len(find_documents(corpus, query, every=True).documents) == len(urls) + others


@pytest.fixture
def cached(made: tuple[Paths, dict[str, dict]], tmp_path: Path) -> tuple[CachedCorpus, Cache]:
    """The same corpus in a DVC cache, where nothing has a name."""
    cache, outs = Cache(tmp_path / "cache"), {}
    for folder in Path(made[0].data).iterdir():
        files = {
            path.relative_to(folder).as_posix(): path
            for path in folder.rglob("*")
            if path.is_file()
        }
        listed = {name: file_md5(path) for name, path in files.items()}
        for name, path in files.items():
            place = cache.path(listed[name])
            place.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, place)
        outs[f"data/{folder.name}"] = listing_md5(listed)
        rows = [{"md5": listed[name], "relpath": name} for name in sorted(listed)]
        place = cache.path(outs[f"data/{folder.name}"])
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(json.dumps(rows, sort_keys=True))
    return CachedCorpus(record(params(), outs), cache), cache


def test_a_versions_corpus_is_read_in_the_cache(
    cached: tuple[CachedCorpus, Cache], found: dict[str, Fate]
) -> None:
    corpus, _ = cached
    everything = find_documents(corpus, "python", every=True).documents
    became = fates(corpus, record(params()), everything)
    assert {document.url: became[document.id] for document in everything} == found


def test_what_is_not_in_the_cache_is_unknown_unless_another_stage_proves_it(
    cached: tuple[CachedCorpus, Cache], found: dict[str, Fate]
) -> None:
    corpus, cache = cached
    everything = find_documents(corpus, "python", every=True).documents
    _lose(corpus, cache, "filter")
    became = fates(corpus, record(params()), everything)
    unknown = [each.url for each in everything if became[each.id].outcome == UNKNOWN]
    assert unknown == [url for url, fate in found.items() if fate.stage == "filter"]
    fate = became[next(each.id for each in everything if each.url == f"{EXTRA}short")]
    assert "data/filter" in fate.reason
    assert "no longer in the DVC cache" in fate.reason
    assert fate.trained is None

    _lose(corpus, cache, "instructions")
    fate = fates(corpus, record(params()), everything)[everything[5].id]
    assert "data/instructions" in fate.unread[0]

    _lose(corpus, cache, "gather")
    with pytest.raises(MissingData, match=r"data/gather .* is no longer in the DVC cache"):
        find_documents(corpus, "python")


def _lose(corpus: CachedCorpus, cache: Cache, stage: str) -> None:
    cache.path(corpus._record.outs[f"data/{stage}"]).unlink()


def test_a_document_that_was_never_gathered_has_no_fate(corpus: Corpus) -> None:
    stranger = Document("f" * 40, "docs", "python:elsewhere#thing")
    assert fates(corpus, record(params()), [stranger])[stranger.id].outcome == UNKNOWN
    assert documents_by_id(corpus, [stranger.id]) == {}
