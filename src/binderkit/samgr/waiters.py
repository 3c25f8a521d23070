"""Calls that wait until an ability is registered: futures, no threads.

Owns: who waits for what, with its quota per process. Locks: none here; the
service guards it with its own.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, TypeVar

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo, AbilityKey

if TYPE_CHECKING:
    from binderkit.ipc.remote import IRemoteObject

T = TypeVar("T")


class Waiters:
    """Futures by the id or name they wait for."""

    def __init__(self) -> None:
        self._of: dict[AbilityKey, set[asyncio.Future[IRemoteObject]]] = {}
        self._per_pid: Counter[int] = Counter()

    def __len__(self) -> int:
        """How many calls wait (those that were taken and did not ``end`` yet included)."""
        return self._per_pid.total()

    def add(self, pid: int, key: AbilityKey, future: asyncio.Future[IRemoteObject]) -> None:
        """Let ``future`` wait; every add is followed by an ``end``.

        Raises:
            ServiceError: the process waits 256 times already, the same quota as for subscriptions (1010).
        """
        if self._per_pid[pid] >= limits.MAX_SUBSCRIPTIONS_PER_PID:
            raise ServiceError(
                f"process {pid} waits for {self._per_pid[pid]} system abilities already, the limit is "
                f"{limits.MAX_SUBSCRIPTIONS_PER_PID}; use one listener instead",
                code=codes.SUBSCRIBE_LIMIT,
            )
        self._per_pid[pid] += 1
        self._of.setdefault(key, set()).add(future)

    def end(self, pid: int, key: AbilityKey, future: asyncio.Future[IRemoteObject]) -> None:
        """Note that a wait is over, however it ended."""
        self._per_pid[pid] -= 1
        if not self._per_pid[pid]:
            del self._per_pid[pid]
        waiting = self._of.get(key)
        if waiting is not None:
            waiting.discard(future)
            if not waiting:
                del self._of[key]

    def take(self, info: AbilityInfo) -> list[asyncio.Future[IRemoteObject]]:
        """Take out those that waited for this ability; the caller resolves them."""
        return [future for key in info.keys for future in self._of.pop(key, ())]

    def counts(self) -> dict[AbilityKey, int]:
        """Return how many calls wait for each id or name, for the dump."""
        return {key: len(futures) for key, futures in self._of.items()}


def resolve(future: asyncio.Future[T], result: T) -> None:
    """Let a waiter go on with ``result``, from any thread."""

    def set_result() -> None:
        if not future.done():
            future.set_result(result)

    future.get_loop().call_soon_threadsafe(set_result)


def fail(future: asyncio.Future[IRemoteObject], error: Exception) -> None:
    """Let a waiter go on with an error, from any thread."""

    def set_error() -> None:
        if not future.done():
            future.set_exception(error)

    future.get_loop().call_soon_threadsafe(set_error)
