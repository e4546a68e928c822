"""Token shards: one stream of ids in memory-mapped files, bound to the tokenizer that made it.

A shard is a header of 96 bytes (little-endian: magic, version, bytes per id, number of
ids, sha256 of tokenizer.json, sha256 of the ids) and the ids, uint16 or uint32.
"""

import bisect
import hashlib
import itertools
import struct
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

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


def id_dtype(vocab_size: int) -> np.dtype:
    """The smallest that holds every id."""
    return DTYPES[2 if vocab_size <= 2**16 else 4]


class ShardWriter:
    """A stream of ids written as shards of exactly `shard_tokens` but the last; use it in a `with`.

    The ids must be below the tokenizer's vocab_size. No more than what is given at a time is
    in memory.
    """

    def __init__(self, folder: Path, shard_tokens: int, tokenizer: Tokenizer) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._shard_tokens, self._hash = folder, shard_tokens, tokenizer.hash
        self._dtype = id_dtype(tokenizer.vocab_size)
        self._number = 0
        self._shard: _Shard | None = None
        self.tokens = 0  # written

    def write(self, ids: np.ndarray) -> None:
        """Append ids; a document may begin in one shard and end in the next."""
        assert not len(ids) or ids.max() <= np.iinfo(self._dtype).max, "an id beyond vocab_size"
        self.tokens += len(ids)
        while len(ids):
            if self._shard is None:
                path = self._folder / f"{self._number:05d}.bin"
                self._shard = _Shard(path, self._dtype, self._hash)
                self._number += 1
            taken = ids[: self._shard_tokens - self._shard.count]
            self._shard.write(taken)
            ids = ids[len(taken) :]
            if self._shard.count == self._shard_tokens:
                self._close()

    def _close(self) -> None:
        if self._shard is not None:
            self._shard.close()
            self._shard = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is None:
            self._close()
        elif self._shard is not None:
            self._shard.abandon()


class _Shard:
    """A file that is being written; its header is known at the end."""

    def __init__(self, path: Path, dtype: np.dtype, tokenizer_hash: str) -> None:
        self._file = path.open("wb")
        self._file.write(bytes(HEADER.size))
        self._dtype, self._tokenizer_hash = dtype, tokenizer_hash
        self._digest = hashlib.sha256()
        self.count = 0

    def write(self, ids: np.ndarray) -> None:
        content = ids.astype(self._dtype).tobytes()
        self._digest.update(content)
        self._file.write(content)
        self.count += len(ids)

    def abandon(self) -> None:
        """Close the file as it is, after an error that counts more than one of closing it."""
        with suppress(OSError):
            self._file.close()

    def close(self) -> None:
        with self._file as file:
            file.seek(0)
            header = (MAGIC, VERSION, self._dtype.itemsize, self.count)
            hashes = (bytes.fromhex(self._tokenizer_hash), self._digest.digest())
            file.write(HEADER.pack(*header, *hashes))


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
