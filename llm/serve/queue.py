"""Requests that want the model: one after the other, and only so many."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from http import HTTPStatus

from llm.serve.protocol import ApiError

MAX_WAITING = 32  # requests, the one that is answered included
RETRY_S = 5


class Queue:
    """One after the other, in the order of their coming, and only so many."""

    def __init__(self) -> None:
        self._turn = asyncio.Lock()
        self._waiting = 0
        self.worker = ThreadPoolExecutor(1, thread_name_prefix="generation")

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for the others; ApiError 429 when there are too many."""
        if self._waiting >= MAX_WAITING:
            raise ApiError(
                HTTPStatus.TOO_MANY_REQUESTS,
                f"{MAX_WAITING} requests wait already; try again in a moment",
                code="rate_limit_exceeded",
                headers={"Retry-After": str(RETRY_S)},
            )
        self._waiting += 1
        try:
            async with self._turn:
                yield
        finally:
            self._waiting -= 1
