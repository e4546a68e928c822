"""Token shards: one stream of ids in memory-mapped files, bound to the tokenizer that made it.

A shard is a header of 96 bytes (little-endian: magic, version, bytes per id, number of
ids, sha256 of tokenizer.json, sha256 of the ids) and the ids, uint16 or uint32.
"""

import bisect
import hashlib
import itertools
import struct
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from llm.errors import DataError
from llm.tokenizer.load import Tokenizer

MAGIC = b"LLMTOKEN"
VERSION = 1
HEADER = struct.Struct("<8sIIQ32s32s8x")
DTYPES = {2: np.dtype("<u2"), 4: np.dtype("<u4")}


@dataclass(frozen=True)
class Header:
    """What a shard says of itself."""

    dtype: np.dtype
    count: int  # ids
    tokenizer_hash: str
    ids_hash: str


def write_shards(
    folder: Path,
    documents: Iterable[np.ndarray],
    shard_tokens: int,
    tokenizer: Tokenizer,
) -> int:
    """Write the documents' ids, joined, in shards of exactly `shard_tokens` but the last.

    Returns the number of ids. The ids must be below the tokenizer's vocab_size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    dtype = DTYPES[2 if tokenizer.vocab_size <= 2**16 else 4]
    total = 0
    for number, pieces in enumerate(_split(documents, shard_tokens)):
        total += _write_shard(folder / f"{number:05d}.bin", pieces, dtype, tokenizer.hash)
    return total


def _split(documents: Iterable[np.ndarray], shard_tokens: int) -> Iterator[list[np.ndarray]]:
    """The stream's pieces, shard by shard; a document may begin in one and end in the next."""
    pieces: list[np.ndarray] = []
    room = shard_tokens
    for document in documents:
        while len(document) >= room:
            yield [*pieces, document[:room]]
            pieces, document, room = [], document[room:], shard_tokens
        if len(document):
            pieces.append(document)
            room -= len(document)
    if pieces:
        yield pieces


def _write_shard(path: Path, pieces: list[np.ndarray], dtype: np.dtype, tokenizer_hash: str) -> int:
    ids = np.concatenate(pieces)
    assert ids.max() <= np.iinfo(dtype).max, "an id beyond the tokenizer's vocab_size"
    content = ids.astype(dtype).tobytes()
    digest = hashlib.sha256(content).digest()
    with path.open("wb") as file:
        file.write(
            HEADER.pack(
                MAGIC,
                VERSION,
                dtype.itemsize,
                len(ids),
                bytes.fromhex(tokenizer_hash),
                digest,
            )
        )
        file.write(content)
    return len(ids)


def read_header(path: Path) -> Header:
    """A shard's header; DataError when the file is no shard, or cut short."""
    with path.open("rb") as file:
        head = file.read(HEADER.size)
    if len(head) < HEADER.size or not head.startswith(MAGIC):
        raise DataError(f"{path} is not a token shard; `dvc repro tokenize` makes them")
    _, version, item_bytes, count, tokenizer_hash, ids_hash = HEADER.unpack(head)
    if version != VERSION or item_bytes not in DTYPES:
        raise DataError(
            f"{path} has version {version} and {item_bytes} bytes per id; this code reads "
            f"version {VERSION}, 2 or 4 bytes; run `dvc repro tokenize`"
        )
    expected = HEADER.size + count * item_bytes
    if path.stat().st_size != expected:
        raise DataError(
            f"{path} has {path.stat().st_size} bytes, its header promises {expected}; "
            "it is damaged: remove it and run `dvc repro tokenize`"
        )
    return Header(DTYPES[item_bytes], count, tokenizer_hash.hex(), ids_hash.hex())


class TokenShards:
    """A folder of shards as one stream of ids: `len(shards)`, `shards[a:b]`."""

    def __init__(self, folder: Path, tokenizer_hash: str) -> None:
        """Map the files; DataError when there are none or another tokenizer made them."""
        paths = sorted(folder.glob("*.bin"))
        if not paths:
            raise DataError(f"{folder} holds no token shards; `dvc repro tokenize` makes them")
        headers = [read_header(path) for path in paths]
        for path, header in zip(paths, headers, strict=True):
            if header.tokenizer_hash != tokenizer_hash:
                raise DataError(
                    f"{path} was made by tokenizer {header.tokenizer_hash[:12]}, not by the given "
                    f"{tokenizer_hash[:12]}; run `dvc repro tokenize`"
                )
        self._maps = [
            np.memmap(path, header.dtype, "r", HEADER.size, (header.count,))
            for path, header in zip(paths, headers, strict=True)
        ]
        self._ends = list(itertools.accumulate(header.count for header in headers))
        stream = "".join(header.ids_hash for header in headers)
        self.fingerprint = hashlib.sha256((tokenizer_hash + stream).encode()).hexdigest()

    def __len__(self) -> int:
        return self._ends[-1]

    def __getitem__(self, span: slice) -> np.ndarray:
        """Ids `a` to `b` as a new array; the ends are cut to the stream like a list's."""
        start, stop, step = span.indices(len(self))
        assert step == 1, "a stream is read forwards"
        pieces = []
        while start < stop:
            shard = bisect.bisect_right(self._ends, start)
            first = self._ends[shard] - len(self._maps[shard])
            end = min(stop, self._ends[shard])
            pieces.append(self._maps[shard][start - first : end - first])
            start = end
        return np.concatenate(pieces) if pieces else np.empty(0, self._maps[0].dtype)
