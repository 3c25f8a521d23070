"""Iterators as results: item by item, back-pressure, ends and errors."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from typing import cast

import pytest

import binderkit as bk
from binderkit.errors import InterfaceMismatchError, RemoteError, UnknownTransactionError
from binderkit.interface import Interface, Stream, aio, method, proxy
from binderkit.testing import loopback
from tests.interface.service import IEcho


def test_items_come_one_by_one(echo: IEcho) -> None:
    assert list(echo.count(5)) == [0, 1, 2, 3, 4]
    assert list(echo.count(0)) == []
    assert echo.closed() == 1


def test_from_a_coroutine(echo: IEcho) -> None:
    async def main() -> None:
        assert [item async for item in echo.acount(4)] == [0, 1, 2, 3]
        stream = cast("Stream[int]", await aio(echo.acount)(1000))
        async with stream:
            assert await anext(stream) == 0
            assert await anext(stream) == 1
        with pytest.raises(StopAsyncIteration):
            await anext(stream)

    asyncio.run(main())
    assert echo.closed() == 1


def test_a_reader_that_stops_ends_the_iterator(echo: IEcho) -> None:
    with cast("Stream[int]", echo.count(10**9)) as stream:
        assert next(stream) == 0
    assert echo.closed() == 1
    stream.close()
    with pytest.raises(StopIteration):
        next(stream)


def test_nothing_is_produced_ahead(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="binderkit.ipc")  # a kept record keeps the frames of the failed calls
    made: list[int] = []

    class INumbers(Interface, descriptor="test.INumbers"):
        @method
        def numbers(self) -> Iterator[int]: ...
        @method
        def broken(self) -> Iterator[int]: ...
        @method
        def wrong(self) -> Iterator[int]: ...

    class Numbers(INumbers):
        def numbers(self) -> Iterator[int]:
            for number in range(100):
                made.append(number)
                yield number

        def broken(self) -> Iterator[int]:
            yield 1
            raise ValueError("half way")

        def wrong(self) -> Iterator[int]:
            yield "text"  # type: ignore[misc]

    with loopback() as pair:
        numbers = proxy(INumbers, pair.offer(Numbers()))
        stream = cast("Stream[int]", numbers.numbers())
        assert made == []
        assert [next(stream), next(stream)] == [0, 1]
        assert made == [0, 1]
        assert repr(stream) == "<Stream of int64>"
        stream.close()
        broken = numbers.broken()
        assert next(broken) == 1
        with pytest.raises(RemoteError, match="ValueError: half way"):
            next(broken)
        with pytest.raises(RemoteError, match=r"an item of INumbers.wrong: expected int64, got str 'text'"):
            next(numbers.wrong())
        del broken, stream


def test_a_stream_refuses_other_calls(echo: IEcho) -> None:
    stream = cast("Stream[int]", echo.count(3))
    remote = stream._remote
    assert remote is not None
    data = bk.MessageSequence()
    data.write_interface_token("binderkit.IStream")
    with pytest.raises(UnknownTransactionError, match="does not know transaction 9"):
        remote.send_request(9, data, bk.MessageSequence())
    data = bk.MessageSequence()
    data.write_interface_token("test.IOther")
    with pytest.raises(InterfaceMismatchError, match=r"called as binderkit\.IStream"):
        remote.send_request(1, data, bk.MessageSequence())
    stream.close()
