"""Results that come one by one: an iterator of the service, read from another process.

Owns: the object that stands for the iterator at the service, and its reader at the client. The reader asks for each
item, so nothing is produced ahead of it (back-pressure), and a service with a slow reader holds one item, not many.
Cancelling a wait cancels the producing coroutine; ``close``, or dropping the reader, ends the iterator.

Lock: one per stream, held while its iterator makes an item: two readers take turns.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import AsyncIterator, Iterator
from types import TracebackType
from typing import Any, Generic, TypeVar, cast

from binderkit.errors import DeadObjectError, InterfaceMismatchError, ParamTypeError, UnknownTransactionError
from binderkit.interface import codes
from binderkit.interface.codec import Codec, Mismatch, reader
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.parcel import MessageSequence

T = TypeVar("T")
_log = logging.getLogger("binderkit.interface")
_ONE_WAY = MessageOption(MessageOption.TF_ASYNC)


class _NoMore(Exception):
    """The iterator is at its end."""


def _check_token(data: MessageSequence) -> None:
    token = data.read_interface_token()
    if token != codes.STREAM:
        raise InterfaceMismatchError(f"a stream is called as {codes.STREAM}, got {token!r}")


class _Source(RemoteObject):
    """An iterator of this process, for one reader elsewhere."""

    def __init__(self, codec: Codec, title: str) -> None:
        super().__init__(codes.STREAM)
        self._codec = codec
        self._title = title

    def _write(self, reply: MessageSequence, item: object) -> bool:
        reply.write_boolean(True)
        try:
            self._codec.write(reply, item)
        except Mismatch as error:
            raise error.explained(f"an item of {self._title}") from None
        return True


class SyncSource(_Source):
    """An ordinary iterator."""

    def __init__(self, iterator: Iterator[Any], codec: Codec, title: str) -> None:
        super().__init__(codec, title)
        self._iterator: Iterator[Any] | None = iterator
        self._lock = threading.Lock()

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        _check_token(data)
        if code == codes.CLOSE:
            return self._close()
        if code != codes.NEXT:
            raise UnknownTransactionError(f"a stream does not know transaction {code}")
        with self._lock:
            iterator = self._iterator
            if iterator is not None:
                for item in iterator:
                    return self._write(reply, item)
                self._iterator = None
        reply.write_boolean(False)
        return True

    def _close(self) -> bool:
        with self._lock:
            iterator, self._iterator = self._iterator, None
            close = getattr(iterator, "close", None)
            if close is not None:
                close()
        return True


class AsyncSource(_Source):
    """An asynchronous iterator; its coroutine runs on the loop of the handlers."""

    def __init__(self, iterator: AsyncIterator[Any], codec: Codec, title: str) -> None:
        super().__init__(codec, title)
        import asyncio  # only services with asynchronous streams pay for it; they have imported it

        self._iterator: AsyncIterator[Any] | None = iterator
        self._lock = asyncio.Lock()

    async def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        _check_token(data)
        if code not in (codes.NEXT, codes.CLOSE):
            raise UnknownTransactionError(f"a stream does not know transaction {code}")
        async with self._lock:
            if code == codes.CLOSE:
                return await self._close()
            if self._iterator is not None:
                try:
                    return self._write(reply, await anext(self._iterator))
                except StopAsyncIteration:
                    self._iterator = None
        reply.write_boolean(False)
        return True

    async def _close(self) -> bool:
        iterator, self._iterator = self._iterator, None
        close = getattr(iterator, "aclose", None)
        if close is not None:
            await close()
        return True


def source(result: object, codec: Codec, title: str) -> RemoteObject:
    """Return the remote object that stands for an iterator a method returned.

    Raises:
        ParamTypeError: it returned something else (401).
    """
    if isinstance(result, AsyncIterator):
        return AsyncSource(result, codec, title)
    try:
        iterator = iter(result)  # type: ignore[call-overload]
    except TypeError:
        raise ParamTypeError(f"{title} returned {type(result).__name__}; the contract says an iterator") from None
    return SyncSource(iterator, codec, title)


class Stream(Generic[T]):
    """The reader of an iterator of another process: ``for``, ``async for``, ``with``, ``async with``.

    Raises while iterating: what the service's iterator raised, as RemoteError; DeadObjectError when it is gone;
    CallTimeoutError. Any error ends it, because nobody knows then which item would be next.
    """

    def __init__(self, remote: IRemoteObject, codec: Codec) -> None:
        self._remote: IRemoteObject | None = remote
        self._codec = codec
        self._read = reader(codec)

    def __iter__(self) -> Stream[T]:
        return self

    def __next__(self) -> T:
        if self._remote is None:
            raise StopIteration
        reply = MessageSequence()
        try:
            self._remote.send_request(codes.NEXT, _request(), reply)
            return self._item(reply)
        except _NoMore:
            raise StopIteration from None
        except BaseException:
            self._remote = None
            raise

    def _item(self, reply: MessageSequence) -> T:
        if reply.read_boolean():
            return cast(T, self._read(reply))
        self._remote = None
        raise _NoMore

    def __aiter__(self) -> Stream[T]:
        return self

    async def __anext__(self) -> T:
        if self._remote is None:
            raise StopAsyncIteration
        reply = MessageSequence()
        try:
            await self._remote.send_message_request(codes.NEXT, _request(), reply)
            return self._item(reply)
        except _NoMore:
            raise StopAsyncIteration from None
        except BaseException:
            self._remote = None
            raise

    def close(self) -> None:
        """End the service's iterator (its ``finally`` blocks run there). Idempotent; does not wait."""
        remote, self._remote = self._remote, None
        if remote is None:
            return
        try:
            remote.send_request(codes.CLOSE, _request(), MessageSequence(), _ONE_WAY)
        except DeadObjectError as error:
            _log.debug("a stream's service is gone: %s", error)

    async def aclose(self) -> None:
        """The same from a coroutine."""
        self.close()

    def __enter__(self) -> Stream[T]:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Stream[T]:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Stream of {self._codec.name()}{' ended' if self._remote is None else ''}>"


def _request() -> MessageSequence:
    data = MessageSequence()
    data.write_interface_token(codes.STREAM)
    return data
