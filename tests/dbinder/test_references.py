"""Who holds what across two devices with real processes: everything is given back, whoever ends, and how."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

import binderkit as bk
from binderkit.errors import DeadObjectError
from binderkit.process import local_node
from tests.dbinder.devices import Recipient, eventually
from tests.dbinder.real import ABILITY, Real
from tests.dbinder.service import Code, Service, call, echo

NOTHING = {"exports": 0, "imports": 0}


@pytest.fixture
def real() -> Iterator[Real]:
    real = Real("tests.dbinder.child:trusting")
    try:
        yield real
    finally:
        real.close()


def hold(real: Real, holder: bk.Child) -> None:
    """Have a process of device b hold the ability of device a."""
    stub = real.b.get(real.udid, ABILITY)
    call(holder.root, Code.KEEP, lambda data: data.write_remote_object(stub))


def exports(real: Real) -> int:
    return real.held()[0]["exports"]


def imports(real: Real) -> int:
    return real.held()[1]["imports"]


def test_a_process_that_is_killed_gives_back_what_it_held(real: Real) -> None:
    real.offer(Service("test.IHeld"))
    with bk.spawn("tests.dbinder.child:trusting") as holder:
        hold(real, holder)
        assert (exports(real), imports(real)) == (1, 1)
        holder.kill()
        eventually(lambda: (imports(real), exports(real)) == (0, 0), "a's object is free")


def test_the_last_of_several_processes_gives_it_back(real: Real) -> None:
    service = Service("test.IHeld")
    real.offer(service)
    with bk.spawn("tests.dbinder.child:trusting") as one, bk.spawn("tests.dbinder.child:trusting") as two:
        hold(real, one)
        hold(real, two)
        assert (exports(real), imports(real)) == (1, 1)
        one.kill()
        assert echo(call(two.root, Code.GIVE_KEPT).read_remote_object()) == "hello"
        assert (exports(real), imports(real)) == (1, 1)
        call(two.root, Code.DROP)
        eventually(lambda: (imports(real), exports(real)) == (0, 0), "a's object is free")


def test_a_process_that_is_killed_in_the_middle_of_a_call_that_brought_an_object(real: Real) -> None:
    """The call runs on the other device and never ends there: what it brought goes with the process that ran it."""
    proxy, mine = real.get(), Service("test.IMine")
    caught: list[BaseException] = []

    def wait() -> None:
        try:
            call(proxy, Code.WAIT, lambda data: data.write_remote_object(mine))
        except BaseException as error:
            caught.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    eventually(lambda: real.a.statistics()["exports"] == 1, "the object left")
    eventually(lambda: real.b.statistics()["imports"] == 1, "it arrived")
    real.child.kill()
    thread.join(10)
    assert [type(error) for error in caught] == [DeadObjectError]
    caught.clear()
    eventually(lambda: (imports(real), exports(real)) == (0, 0), "the object came back")


def test_a_device_that_leaves_gives_back_everything(real: Real) -> None:
    proxy, recipient = real.get(), Recipient()
    proxy.register_death_recipient(recipient)
    given = call(proxy, Code.GIVE).read_remote_object()
    call(proxy, Code.KEEP, lambda data: data.write_remote_object(Service("test.IMine")))
    assert real.held() == ({"exports": 1, "imports": 2}, {"exports": 2, "imports": 1})
    real.devices.network.cut(real.udid, real.b_udid)
    assert recipient.event.wait(5)
    eventually(lambda: real.a.statistics()["exports"] == 0, "what b held is free")
    eventually(lambda: real.b.statistics()["exports"] == 0, "what a held is free")
    for dead in (proxy, given):
        with pytest.raises(DeadObjectError):
            echo(dead)
    del proxy, given, dead
    eventually(lambda: real.held()[0] == NOTHING, "nobody holds dead stand-ins")


def test_nothing_is_left_on_either_end_after_many_objects_went_both_ways(real: Real) -> None:
    """The tables of dbinder, and those of the local drivers beneath."""

    def local() -> list[int]:
        found = [node.statistics() for node in (real.app, real.gateway, local_node())]
        return [one[what] for one in found for what in ("exports", "proxies")]

    def exchange(proxy: Any) -> None:
        call(proxy, Code.KEEP, lambda data: data.write_remote_object(Service("test.IMine")))
        assert echo(call(proxy, Code.GIVE).read_remote_object()) == "hello"

    def only_the_ability() -> bool:
        return real.held() == ({"exports": 0, "imports": 1}, {"exports": 1, "imports": 0})

    proxy = real.get()
    exchange(proxy)
    call(proxy, Code.DROP)
    eventually(only_the_ability, "the first are back")
    before = local()
    for _ in range(60):
        exchange(proxy)
    assert real.held()[0]["exports"] == 60
    call(proxy, Code.DROP)
    eventually(only_the_ability, "all are back")
    eventually(
        lambda: all(now <= then for now, then in zip(local(), before, strict=True)),
        lambda: f"the drivers let them go: {before} before, now {local()}",
    )
    del proxy
    eventually(lambda: real.held() == (NOTHING, NOTHING), "the ability too")
