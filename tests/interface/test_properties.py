"""Properties: reading, assigning, watching."""

from __future__ import annotations

import asyncio
import queue

import pytest

from binderkit.errors import ParamTypeError
from binderkit.interface import Interface, Property, get_property, proxy, set_property, watch
from binderkit.ipc.remote import IRemoteObject
from binderkit.testing import loopback
from tests.interface.service import WAIT, Echo, IEcho


def test_reading_and_assigning_are_calls(echo: IEcho) -> None:
    assert echo.volume == 3
    echo.volume = 9
    assert echo.volume == 9
    assert echo.size == 0
    with pytest.raises(ParamTypeError, match=r"IEcho.volume: expected int64, got str 'loud'"):
        echo.volume = "loud"  # type: ignore[assignment]
    with pytest.raises(AttributeError, match=r"IEcho.size can only be read"):
        echo.size = 4


def test_reading_and_setting_without_blocking(echo: IEcho) -> None:
    async def use() -> None:
        assert await get_property(echo, IEcho.volume) == 3
        await set_property(echo, IEcho.volume, 8, timeout=WAIT)
        assert await get_property(echo, IEcho.volume, timeout=WAIT) == 8
        with pytest.raises(AttributeError, match=r"IEcho.size can only be read"):
            await set_property(echo, IEcho.size, 4)
        with pytest.raises(ParamTypeError, match=r"IEcho.volume: expected int64, got str 'loud'"):
            await set_property(echo, IEcho.volume, "loud")  # type: ignore[misc]

    asyncio.run(use())


def test_of_an_object_of_this_process() -> None:
    service = Echo()

    async def use() -> None:
        await set_property(service, IEcho.volume, 4)
        assert await get_property(service, IEcho.volume) == 4
        with pytest.raises(ParamTypeError, match="is no property of"):
            await get_property(7, IEcho.volume)

    asyncio.run(use())


def test_watchers_are_told_in_order(echo: IEcho) -> None:
    told: queue.Queue[int] = queue.Queue()
    with watch(echo, IEcho.volume, told.put):
        for value in range(10, 20):
            echo.volume = value
        assert [told.get(timeout=WAIT) for _ in range(10)] == list(range(10, 20))
    echo.volume = 1
    with watch(echo, IEcho.volume, told.put):
        echo.volume = 2
        assert told.get(timeout=WAIT) == 2, "after the end nobody was told about 1"


def test_a_watcher_that_is_gone_is_dropped() -> None:
    service = Echo()
    with loopback() as pair:
        echo = proxy(IEcho, pair.offer(service))
        watching = watch(echo, IEcho.volume, print)
        assert len(service.__dict__["_property_watchers"]["volume"]) == 1
        pair.client.kill()
        service.volume = 5
        assert service.__dict__["_property_watchers"]["volume"] == []
        del watching


def test_what_cannot_be_watched(echo: IEcho, remote: IRemoteObject) -> None:
    class IOther(Interface, descriptor="test.IOther"):
        level = Property(int)

    with pytest.raises(ParamTypeError, match=r"Property IOther.level> is no property of"):
        watch(echo, IOther.level, print)
    with pytest.raises(ParamTypeError, match="a watcher is a function"):
        watch(echo, IEcho.volume, 3)  # type: ignore[arg-type]
    with pytest.raises(ParamTypeError, match="watch takes a proxy"):
        watch(remote, IEcho.volume, print)


def test_a_property_without_a_value() -> None:
    class ILamp(Interface, descriptor="test.ILamp"):
        on = Property(bool)

    class Lamp(ILamp):
        pass

    lamp = Lamp()
    with pytest.raises(AttributeError, match=r"Lamp.on was not given a value yet"):
        assert lamp.on
    lamp.on = True
    assert lamp.on is True
    with pytest.raises(ParamTypeError, match=r"ILamp.on: expected bool"):
        lamp.on = 1
    assert repr(ILamp.on) == "<Property ILamp.on>"
