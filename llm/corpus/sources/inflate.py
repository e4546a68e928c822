"""Compressed files as streams that end in an error rather than in a full memory."""

import io
from pathlib import PurePosixPath
from typing import BinaryIO

import pyarrow as pa

CODECS = {".gz": "gzip", ".zst": "zstd"}
FREE_BYTES = 16_000_000  # so much may come out of any file: small ones compress extremely well

PIECE_BYTES = 8192  # what is lost in front of the place where a file is cut off


class BombError(Exception):
    """A file inflates to more than its limit."""


class Counted(io.RawIOBase):
    """A stream that knows how many bytes were read from it."""

    def __init__(self, stream: BinaryIO) -> None:
        self.count = 0
        self._stream = stream

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        data = self._stream.read(size)
        self.count += len(data)
        return data

    def close(self) -> None:
        self._stream.close()
        super().close()


class Inflated(io.RawIOBase):
    """The inflated bytes of a stream, at most `max_inflation` times what was read for them.

    BombError beyond; OSError for what is cut off or is not compressed that way.
    """

    def __init__(self, stream: BinaryIO, codec: str, max_inflation: int) -> None:
        self._inner = Counted(stream)
        self._stream = pa.CompressedInputStream(pa.PythonFile(self._inner, mode="r"), codec)
        self._codec = codec
        self._max_inflation = max_inflation
        self._count = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: memoryview, /) -> int:  # pyright: ignore[reportIncompatibleMethodOverride]
        data = self._stream.read(min(len(buffer), PIECE_BYTES))
        self._count += len(data)
        if self._count > max(FREE_BYTES, self._max_inflation * self._inner.count):
            raise BombError(
                f"{self._inner.count:,} bytes of {self._codec} inflate to more than "
                f"{self._count:,}, beyond max_inflation={self._max_inflation}"
            )
        buffer[: len(data)] = data
        return len(data)


def inflated(stream: BinaryIO, name: str, max_inflation: int) -> tuple[BinaryIO, str]:
    """The stream as its name says it is compressed, and the ending of the name below that."""
    path = PurePosixPath(name)
    codec = CODECS.get(path.suffix.lower())
    if codec is None:
        return stream, path.suffix.lower()
    reader = io.BufferedReader(Inflated(stream, codec, max_inflation), 1 << 17)
    return reader, PurePosixPath(path.stem).suffix.lower()
