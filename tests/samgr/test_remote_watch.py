"""samgr/remote_watch.py: listeners for abilities of another device, with a SAMgr and a softbus that can be killed."""

from __future__ import annotations

import asyncio
import os
import queue
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from binderkit import samgr
from binderkit.errors import ParamTypeError, ParamValueError, PermissionDeniedError, RefusedError, ServiceError
from binderkit.interface import proxy
from binderkit.ipc.driver import current_driver
from binderkit.samgr import aio, remote_watch
from binderkit.samgr.remote import SOFTBUS_ID, IAbilityWatcher, IDBinder
from tests.driver.unix.hostile import until
from tests.samgr.fake_softbus import KITCHEN, THERE, IControl, install
from tests.samgr.processes import WAIT, samgr_process


class Heard(samgr.SystemAbilityListener):
    """Puts what it hears into a queue."""

    def __init__(self) -> None:
        super().__init__()
        self.events: queue.Queue[tuple[str, int, str]] = queue.Queue()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.put(("added", ability_id, device_id))
        if ability_id == 66:
            raise RuntimeError("a listener with a mistake")

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.put(("removed", ability_id, device_id))

    def next(self) -> tuple[str, int, str]:
        return self.events.get(timeout=WAIT)


@pytest.fixture
def softbus(device: Path) -> Iterator[IControl]:
    install(device)
    with samgr_process():
        yield control()


def control() -> IControl:
    return proxy(IControl, samgr.load_system_ability(SOFTBUS_ID, timeout=12))


def kill(softbus: IControl) -> None:
    os.kill(softbus.pid(), signal.SIGKILL)


def test_a_listener_hears_of_another_device_until_it_is_taken_out(softbus: IControl) -> None:
    one, two = Heard(), Heard()
    samgr.subscribe_system_ability(THERE, one, "kitchen")
    samgr.subscribe_system_ability(THERE, one, "kitchen")  # again changes nothing
    asyncio.run(aio.subscribe_system_ability("runs", two, device_id=KITCHEN))
    assert one.next() == two.next() == ("added", THERE, KITCHEN)
    assert softbus.watched() == ["5", "runs"]
    assert softbus.tell(THERE, True) == 2  # said twice, told once
    softbus.tell(THERE, False)
    softbus.tell(THERE, False)
    softbus.tell(8, True)
    for listener in (one, two):
        assert [listener.next(), listener.next()] == [("removed", THERE, KITCHEN), ("added", 8, KITCHEN)]
    samgr.unsubscribe_system_ability(THERE, one, "kitchen")
    assert softbus.watched() == ["runs"]
    assert softbus.tell(8, False) == 1
    assert two.next() == ("removed", 8, KITCHEN)
    asyncio.run(aio.unsubscribe_system_ability("runs", two, device_id=KITCHEN))
    assert softbus.watched() == [] and one.events.empty()
    with pytest.raises(ServiceError, match="not subscribed to 5 of device 'kitchen'"):
        samgr.unsubscribe_system_ability(THERE, one, "kitchen")


def test_a_softbus_that_ended_takes_everything_along_until_the_next_one_says_otherwise(softbus: IControl) -> None:
    heard = Heard()
    samgr.subscribe_system_ability(THERE, heard, "kitchen")
    assert heard.next() == ("added", THERE, KITCHEN)
    softbus.tell(8, True)
    assert heard.next() == ("added", 8, KITCHEN)
    for gone in ([THERE, 8], [THERE]):
        kill(control())
        for ability in gone:
            assert heard.next() == ("removed", ability, KITCHEN)
        assert heard.next() == ("added", THERE, KITCHEN)  # auto-restart, and nobody asked
        assert control().watched() == ["5"]
    samgr.unsubscribe_system_ability(THERE, heard, "kitchen")
    kill(control())
    assert heard.events.empty()


def test_one_that_is_subscribed_while_softbus_dies_is_not_lost(
    softbus: IControl, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It ends between its answer and the moment when we know of the subscription."""
    first, heard, begin = Heard(), Heard(), remote_watch._Subscription.begin
    samgr.subscribe_system_ability(THERE, first, KITCHEN)  # so that we hear of softbus processes already
    assert first.next() == ("added", THERE, KITCHEN)
    died: list[int] = []

    def dying(self: remote_watch._Subscription, service: IDBinder) -> None:
        begin(self, service)
        if self._listener is heard and not died:
            died.append(softbus.pid())
            kill(softbus)
            # The next one was heard of, and is done with, before the subscription is in the table.
            assert [first.next(), first.next()] == [(word, THERE, KITCHEN) for word in ("removed", "added")]

    monkeypatch.setattr(remote_watch._Subscription, "begin", dying)
    samgr.subscribe_system_ability(THERE, heard, "kitchen")
    assert [heard.next() for _ in range(3)] == [(word, THERE, KITCHEN) for word in ("added", "removed", "added")]
    samgr.unsubscribe_system_ability(THERE, heard, "kitchen")
    samgr.unsubscribe_system_ability(THERE, first, KITCHEN)


def test_what_softbus_refuses_is_not_subscribed(softbus: IControl) -> None:
    heard = Heard()
    with pytest.raises(ServiceError, match="no device 'attic'") as caught:
        samgr.subscribe_system_ability(THERE, heard, "attic")
    assert caught.value.code == 108
    for code, kind in ((201, PermissionDeniedError), (303, RefusedError), (1024, ServiceError)):
        softbus.refuse(code)
        with pytest.raises(kind) as error:
            samgr.subscribe_system_ability(THERE, heard, "kitchen")
        assert error.value.code == code
    softbus.refuse(0)
    with pytest.raises(ParamTypeError):
        samgr.subscribe_system_ability(THERE, object(), "kitchen")  # type: ignore[arg-type]
    for key, device in ((0, "kitchen"), ("a b", "kitchen"), (5, "x" * 65)):
        with pytest.raises(ParamValueError):
            samgr.subscribe_system_ability(key, heard, device)
    assert softbus.watched() == []
    samgr.subscribe_system_ability(THERE, heard, "kitchen")
    assert heard.next() == ("added", THERE, KITCHEN)
    samgr.unsubscribe_system_ability(THERE, heard, "kitchen")


def test_without_news_of_softbus_there_is_no_subscription(softbus: IControl, monkeypatch: pytest.MonkeyPatch) -> None:
    """SAMgr refuses to tell of softbus processes that come: the subscription would end with this one."""
    subscribe = samgr.client.subscribe_system_ability

    def refused(key: object, *rest: object) -> None:
        raise ServiceError("too many", code=1010)

    monkeypatch.setattr("binderkit.samgr.client.subscribe_system_ability", refused)
    with pytest.raises(ServiceError, match="too many"):
        remote_watch.subscribe(THERE, Heard(), "kitchen")
    assert softbus.watched() == [] and not remote_watch._current().subscriptions
    monkeypatch.setattr("binderkit.samgr.client.subscribe_system_ability", subscribe)
    heard = Heard()
    samgr.subscribe_system_ability(THERE, heard, "kitchen")
    kill(softbus)
    assert [heard.next() for _ in range(3)] == [(word, THERE, KITCHEN) for word in ("added", "removed", "added")]
    samgr.unsubscribe_system_ability(THERE, heard, "kitchen")


def test_a_listener_with_a_mistake_hears_the_next(softbus: IControl, caplog: pytest.LogCaptureFixture) -> None:
    heard = Heard()
    samgr.subscribe_system_ability(THERE, heard, "kitchen")
    softbus.tell(66, True)
    softbus.tell(66, False)
    assert [heard.next()[:2] for _ in range(3)] == [("added", 5), ("added", 66), ("removed", 66)]
    until(lambda: "the listener of system ability 5 of device 'kitchen' failed" in caplog.text, "it is logged")
    samgr.unsubscribe_system_ability(THERE, heard, "kitchen")


def test_only_softbus_tells(softbus: IControl) -> None:
    heard = Heard()
    samgr.subscribe_system_ability(THERE, heard, "kitchen")
    assert heard.next() == ("added", THERE, KITCHEN)
    (subscription,) = remote_watch._current().subscriptions.values()
    ears = subscription._ears
    assert isinstance(ears, IAbilityWatcher)
    with pytest.raises(RefusedError, match="only softbus"):
        ears.ability_changed(KITCHEN, 9, True)  # we are another process
    samgr.unsubscribe_system_ability(THERE, heard, "kitchen")
    assert heard.events.empty() and remote_watch._current().driver is current_driver()
