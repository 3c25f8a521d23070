"""The contracts and services the tests of typed interfaces use."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass

from binderkit.interface import Int32, Interface, Property, handler, method, oneway, raises, transaction_code

WAIT = 10.0


@dataclass
class Bad(Exception):
    path: str
    line: int = 0


class IListener(Interface, descriptor="test.IListener"):
    @method
    def told(self, text: str) -> int: ...


class IBase(Interface, descriptor="test.IBase"):
    @method
    def name(self) -> str: ...


class IEcho(IBase, descriptor="test.IEcho", version=2):
    """Gives back what it gets."""

    volume = Property(int)
    size = Property(int, readonly=True)

    @method
    def echo(self, value: int) -> int:
        """Return the value."""

    @method
    def words(self, values: list[str], times: Int32 = 2, *, sep: str = "-") -> str: ...
    @method
    def mixed(self, a: int, b: float, c: str, d: int, e: bool) -> tuple[int, float, str, int, bool]: ...
    @method
    @oneway
    def hint(self, text: str) -> None: ...
    @method
    def hints(self) -> list[str]: ...
    @method
    @transaction_code(30)
    @raises(Bad, KeyError)
    def fail(self, how: str) -> None: ...
    @method
    def slow(self, seconds: float) -> float: ...
    @method
    def call(self, listener: IListener | None) -> int: ...
    @method
    def me(self) -> IEcho: ...
    @method
    def count(self, to: int) -> Iterator[int]: ...
    @method
    def acount(self, to: int) -> AsyncIterator[int]: ...
    @method
    def closed(self) -> int: ...
    @method
    async def later(self, n: int) -> int: ...


class IMore(Interface, descriptor="test.IMore"):
    @method
    def more(self) -> str: ...


class Echo(IEcho, IMore):
    """Implements both."""

    def __init__(self) -> None:
        self.volume = 3
        self._hints: list[str] = []
        self._closed = threading.Semaphore(0)

    @property
    def size(self) -> int:  # type: ignore[override]
        return len(self._hints)

    def name(self) -> str:
        return "echo"

    def echo(self, value: int) -> int:
        return value

    def words(self, values: list[str], times: int = 2, *, sep: str = "-") -> str:
        return sep.join(values * times)

    def mixed(self, a: int, b: float, c: str, d: int, e: bool) -> tuple[int, float, str, int, bool]:
        return a, b, c, d, e

    @oneway
    def hint(self, text: str) -> None:
        self._hints.append(text)

    def hints(self) -> list[str]:
        return self._hints

    def fail(self, how: str) -> None:
        if how == "bad":
            raise Bad("a.py", 3)
        if how == "key":
            raise KeyError("k")
        if how == "result":
            return 5  # type: ignore[return-value]
        raise ValueError("other")

    @handler
    async def slow(self, seconds: float) -> float:
        await asyncio.sleep(seconds)
        return seconds

    def call(self, listener: IListener | None) -> int:
        return -1 if listener is None else listener.told("hello") + 1

    def me(self) -> IEcho:
        return self

    def count(self, to: int) -> Iterator[int]:
        try:
            yield from range(to)
        finally:
            self._closed.release()

    async def acount(self, to: int) -> AsyncIterator[int]:
        try:
            for number in range(to):
                yield number
        finally:
            self._closed.release()

    def closed(self) -> int:
        """Wait until an iterator was closed."""
        assert self._closed.acquire(timeout=WAIT)
        return 1

    async def later(self, n: int) -> int:
        return n + 1

    def more(self) -> str:
        return "more"


class Listener(IListener):
    """Counts letters."""

    def told(self, text: str) -> int:
        return len(text)
