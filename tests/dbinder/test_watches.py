"""dbinder/watches.py and peer_abilities.py together: abilities of another device that come and go, and its ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from binderkit.dbinder import peer_abilities, watches
from binderkit.dbinder.peer_abilities import IPeerAbilities
from binderkit.errors import IpcError, RefusedError, ServiceError
from binderkit.interface import proxy
from binderkit.samgr.listener import SystemAbilityListener
from binderkit.samgr.remote import SOFTBUS_ID, Problem
from tests.dbinder.ability_worlds import Heard, World, world
from tests.dbinder.devices import PATIENCE, eventually
from tests.dbinder.service import Service, echo


@pytest.fixture
def there() -> Iterator[World]:
    with world() as made:
        made.a.registry.declared |= {7, "demo.far"}
        yield made


def watched(there: World, key: int | str = 7) -> Heard:
    heard = Heard()
    assert there.dbinder.watch_ability("b", key, heard) == there.b.udid
    eventually(lambda: any(one == key for one, _ in there.b.registry.listeners), "b was asked")
    return heard


def test_what_is_there_what_comes_and_what_goes(there: World) -> None:
    there.b.registry.add(7)
    one = watched(there)
    assert one.next() == (there.b.udid, 7, True)
    two = watched(there)
    assert two.next() == (there.b.udid, 7, True)  # known already, b is not asked again
    assert there.b.peers.watches() == 1
    there.b.registry.remove(7)
    there.b.registry.add(7)
    for heard in (one, two):
        assert [heard.next(), heard.next()] == [(there.b.udid, 7, False), (there.b.udid, 7, True)]
    assert there.dbinder.unwatch_ability(one) is True
    assert there.dbinder.unwatch_ability(one) is False
    there.b.registry.remove(7)
    assert two.next() == (there.b.udid, 7, False)
    assert there.dbinder.unwatch_ability(two) is True
    eventually(lambda: there.b.peers.watches() == 0 and not there.b.registry.listeners, "b tells nobody any more")
    assert one.events.empty()


def test_by_name_whichever_id_has_it(there: World) -> None:
    heard = watched(there, "demo.far")
    there.b.registry.add(70, "demo.far")
    there.b.registry.remove(70)
    there.b.registry.add(71, "demo.far")
    assert [heard.next() for _ in range(3)] == [(there.b.udid, *rest) for rest in ((70, True), (70, False), (71, True))]


def test_what_this_device_does_not_declare_is_not_told(there: World) -> None:
    with pytest.raises(Problem) as caught:
        there.dbinder.watch_ability("b", 8, Heard())
    assert caught.value.code == 1024
    heard = watched(there, "demo.other")
    there.b.registry.add(72, "demo.other")
    there.b.registry.remove(72)
    eventually(lambda: 72 in there.a.registry.asked, "the news came, and this device does not declare 72")
    there.a.registry.declared.add(72)
    there.b.registry.add(72, "demo.other")
    assert heard.next() == (there.b.udid, 72, True)
    assert heard.events.empty()


def test_a_device_hears_only_of_what_it_may_have(there: World) -> None:
    there.b.registry.refused[7, there.a.udid] = 201
    heard = watched(there)
    there.b.registry.add(7)
    there.b.registry.remove(7)
    del there.b.registry.refused[7, there.a.udid]
    there.b.registry.add(7)
    assert heard.next() == (there.b.udid, 7, True)
    assert heard.events.empty()


def test_a_device_that_leaves_and_comes_back(there: World) -> None:
    there.b.registry.add(7)
    heard = watched(there)
    assert heard.next() == (there.b.udid, 7, True)
    there.b.device.stop()
    assert heard.next() == (there.b.udid, 7, False)
    there.b.registry.listeners.clear()
    there.b.device.start()
    there.b.begin()
    there.b.device.trust(*there.devices.all)
    assert heard.next() == (there.b.udid, 7, True)
    there.b.restart()
    assert [heard.next(), heard.next()] == [(there.b.udid, 7, False), (there.b.udid, 7, True)]


def test_a_device_that_is_not_there_yet(there: World) -> None:
    there.b.device.stop()
    eventually(lambda: not there.a.device.calls.devices(), "b is offline")
    heard = Heard()
    assert there.dbinder.watch_ability("b", 7, heard) == there.b.udid
    there.b.registry.add(7)
    there.b.device.start()
    there.b.begin()
    there.b.device.trust(*there.devices.all)
    assert heard.next() == (there.b.udid, 7, True)


def test_the_other_end_forgets_a_device_that_left(there: World) -> None:
    watched(there)
    there.a.abilities.watches.close()
    there.a.device.stop()
    eventually(lambda: there.b.peers.watches() == 0 and not there.b.registry.listeners, "b forgot a")


def test_a_program_that_ends_hears_nothing_more(there: World) -> None:
    app = there.a.device.app()
    there.a.for_app(app).watch_ability("b", 7, Heard())
    eventually(lambda: there.b.peers.watches() == 1, "b was asked")
    app.kill()
    eventually(lambda: there.b.peers.watches() == 0, "b is told that nobody listens")
    assert not there.a.abilities.watches._programs and not there.a.abilities.watches._targets


def test_one_whose_network_is_cut_hears_that_everything_went(there: World) -> None:
    there.b.registry.add(7)
    heard = watched(there)
    assert heard.next() == (there.b.udid, 7, True)
    there.devices.network.cut(there.a.udid, there.b.udid)
    assert heard.next() == (there.b.udid, 7, False)
    there.devices.network.heal(there.a.udid, there.b.udid)
    assert heard.next() == (there.b.udid, 7, True)


def test_one_object_one_subscription_and_256_of_a_process(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    heard = watched(there)
    with pytest.raises(Problem, match="use a new one") as caught:
        there.dbinder.watch_ability("b", 7, heard)
    assert caught.value.code == 1001
    monkeypatch.setattr("binderkit.limits.MAX_SUBSCRIPTIONS_PER_PID", 2)
    more = watched(there)
    with pytest.raises(Problem, match="which is the limit") as caught:
        there.dbinder.watch_ability("b", 7, Heard())
    assert caught.value.code == 1010
    there.dbinder.unwatch_ability(more)
    watched(there)


def test_a_device_that_refuses_is_not_asked_for_ever(there: World, caplog: pytest.LogCaptureFixture) -> None:
    there.b.registry.refusal = ServiceError("no room", code=1010)
    there.dbinder.watch_ability("b", 7, Heard())
    eventually(lambda: "does not tell of ability 7: no room" in caplog.text, "it is logged")
    assert there.b.peers.watches() == 0


def test_one_that_does_not_serve_others_yet_is_asked_again(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watches, "_PAUSES", (0.01,) * 500)
    peers = there.b.device.abilities.pop(SOFTBUS_ID)
    there.b.registry.add(7)
    heard = Heard()
    asked, get = [], there.b.device.dbinder._get_local

    def get_local(ability: int) -> object:
        asked.append(ability)
        if len(asked) == 3:
            there.b.device.abilities[SOFTBUS_ID] = peers
        return get(ability)

    there.b.device.dbinder._get_local = get_local  # type: ignore[assignment]
    there.dbinder.watch_ability("b", 7, heard)
    assert heard.next() == (there.b.udid, 7, True)
    assert asked == [SOFTBUS_ID] * 3


def test_a_device_that_hangs_holds_up_one_thread(there: World) -> None:
    service, get = Service(), there.b.device.dbinder._get_local

    def hang(ability: int) -> object:
        service.entered.release()
        assert service.go_on.wait(PATIENCE)
        return get(ability)

    there.b.device.dbinder._get_local = hang  # type: ignore[assignment]
    there.a.registry.declared |= set(range(100, 150))
    for key in range(100, 150):
        there.dbinder.watch_ability("b", key, Heard())
    assert service.entered.acquire(timeout=PATIENCE)
    asking = [thread for thread in threading.enumerate() if thread.name == f"binderkit-watch-{there.b.udid[:8]}"]
    assert len(asking) == 1
    service.go_on.set()
    eventually(lambda: there.b.peers.watches() == 50, "it was asked for all of them")


# --- the other end, asked by hand ---------------------------------------------------------------------------


def peer(there: World) -> IPeerAbilities:
    """Return b's object, as the softbus process of a has it."""
    return proxy(IPeerAbilities, there.a.device.dbinder.get(there.b.udid, SOFTBUS_ID))


def test_a_new_object_takes_the_place_of_the_one_before(there: World) -> None:
    one, two, side = Heard(), Heard(), peer(there)
    side.watch(7, one)
    side.watch(7, two)
    there.b.registry.add(7)
    assert two.next() == ("", 7, True)
    assert one.events.empty() and there.b.peers.watches() == len(there.b.registry.listeners) == 1
    assert side.unwatch(7, one) is False
    assert side.unwatch(7, two) is True
    assert side.unwatch(7, two) is False


def test_no_device_has_more_than_its_share(there: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peer_abilities, "MOST", 2)
    side = peer(there)
    for key in (1, 2, 2):
        side.watch(key, Heard())
    with pytest.raises(Problem, match="which is the limit") as caught:
        side.watch(3, Heard())
    assert caught.value.code == 1010
    wrong: list[tuple[int | str, int]] = [(0, 1000), ("a b", 1001)]
    for word, code in wrong:
        with pytest.raises(Problem) as caught:
            side.watch(word, Heard())
        assert caught.value.code == code


def test_what_samgr_refuses_is_not_kept(there: World) -> None:
    there.b.registry.refusal = ServiceError("no room", code=1010)
    with pytest.raises(Problem, match="no room"):
        peer(there).watch(7, Heard())
    assert there.b.peers.watches() == 0


def test_a_device_that_leaves_while_it_is_being_subscribed_is_forgotten(there: World) -> None:
    subscribe, unsubscribe = there.b.registry.subscribe, there.b.registry.unsubscribe
    refused, done = threading.Event(), threading.Event()

    def leaving(key: int | str, listener: SystemAbilityListener) -> None:
        there.devices.network.cut(there.a.udid, there.b.udid)
        assert refused.wait(PATIENCE)  # it was to be ended before it began
        subscribe(key, listener)
        done.set()

    def ending(key: int | str, listener: SystemAbilityListener) -> None:
        try:
            unsubscribe(key, listener)
        finally:
            refused.set()

    there.b.registry.subscribe = leaving  # type: ignore[method-assign]
    there.b.registry.unsubscribe = ending  # type: ignore[method-assign]
    there.dbinder.watch_ability("b", 7, Heard())
    assert done.wait(PATIENCE)
    eventually(lambda: not there.b.registry.listeners and not there.b.peers.watches(), "nobody is told of anything")


def test_one_that_is_taken_out_while_the_other_device_is_asked(there: World) -> None:
    subscribe, heard, done = there.b.registry.subscribe, Heard(), threading.Event()

    def slow(key: int | str, listener: SystemAbilityListener) -> None:
        taking_out = threading.Thread(target=there.dbinder.unwatch_ability, args=(heard,))
        taking_out.start()
        taking_out.join(PATIENCE)
        subscribe(key, listener)
        done.set()

    there.b.registry.subscribe = slow  # type: ignore[method-assign]
    there.dbinder.watch_ability("b", 7, heard)
    assert done.wait(PATIENCE)
    eventually(lambda: not there.b.registry.listeners and not there.b.peers.watches(), "nobody is told of anything")


def test_the_other_end_alone_noticed_that_the_network_broke(there: World) -> None:
    """It forgot what it was asked; we hear of it with its next answer, and no presence event comes."""
    there.b.offer(7)
    heard = watched(there)
    assert heard.next() == (there.b.udid, 7, True)
    there.b.device.dbinder._drop(there.a.udid, "it seemed to be gone")
    eventually(lambda: there.b.peers.watches() == 0, "b forgot a")
    assert echo(there.dbinder.get_ability("b", 7, 5.0)) == "hello"
    assert [heard.next(), heard.next()] == [(there.b.udid, 7, False), (there.b.udid, 7, True)]


def test_only_a_device_asks_and_for_its_own_objects(there: World) -> None:
    with pytest.raises(RefusedError, match="another device calls this"):
        there.b.peers.watch(7, Heard())
    local = there.b.device.softbus.offer(there.b.peers.as_object(), there.b.device.app())  # type: ignore[arg-type]
    with pytest.raises(IpcError) as caught:
        proxy(IPeerAbilities, local).watch(7, Heard())
    assert caught.value.code == 303
    assert there.b.peers.watches() == 0


def test_only_the_device_that_was_asked_tells(there: World) -> None:
    watched(there)
    (target,) = there.a.abilities.watches._targets.values()
    assert target.link is not None
    with pytest.raises(RefusedError, match="tells of its abilities"):
        target.link.ability_changed(there.b.udid, 7, True)  # we are a process of this device
