"""scheduler.py: connections to abilities of other devices, their ends, and who may not have one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from binderkit import samgr
from binderkit.ability import Want, client, codes
from binderkit.ability.connections import Connections
from binderkit.ability.contracts import IAbilityConnection, IPeerScheduler, Refusal
from binderkit.errors import AbilityError, DeadObjectError, RpcLimitError, ServiceError, TooBigError
from binderkit.interface import proxy
from binderkit.ipc.remote import IRemoteObject
from binderkit.ipc.rpc_proxy import RpcProxy
from tests.dbinder.abilities import BUNDLE, IVisited, Phone, Phones, Told, Visited, phones
from tests.dbinder.devices import Recipient, eventually


@pytest.fixture
def both(tmp_path: Path) -> Iterator[Phones]:
    with phones(tmp_path) as made:
        yield made


class Callback(IAbilityConnection):
    """A connection that a client makes by hand."""

    def __init__(self) -> None:
        self.told: list[Any] = []

    def connect_done(self, element: object, remote: IRemoteObject) -> None:
        self.told.append("connected")

    def connect_failed(self, element: object, code: int, text: str) -> None:
        self.told.append((code, text))

    def disconnect_done(self, element: object, result: int, text: str) -> None:
        self.told.append(result)


# --- what must work ---------------------------------------------------------------------------------------


def test_an_ability_of_another_device_is_connected_called_and_disconnected(both: Phones) -> None:
    app = both.a.client()
    number, told = app.connect(both.b, word="hello")
    kind, (element, remote) = told.next()
    assert kind == "connect" and isinstance(remote, RpcProxy)
    assert (element.device_id, element.bundle_name, element.ability_name) == (both.b.network_id, BUNDLE, "Open")
    visited = proxy(IVisited, remote)
    assert visited.word() == "hello"
    assert visited.device() == both.a.device.udid  # proven by its certificate
    (report,) = both.b.manager.list_abilities()
    assert (report.connections, report.state) == (1, "ACTIVE")
    with pytest.raises(RpcLimitError):  # reference 0, C2: it is an anonymous object of another device
        remote.register_death_recipient(Recipient())

    app.connections.disconnect(number)

    assert told.next()[0] == "disconnect"
    both.all_idle()
    assert Visited.seen == ["connect", "disconnect", "destroy"]
    del visited, remote, told
    both.devices.nothing_held()


def test_clients_of_both_devices_share_the_ability(both: Phones) -> None:
    one, two = both.a.client(), both.a.client(other_app(both.a))
    first, second = one.connect(both.b, word="x"), two.connect(both.b, word="y")
    assert first[1].object().word() == second[1].object().word()
    again = one.connections.connect(one._connector, Want(BUNDLE, "Open", device_id=both.b.network_id), more := Told())
    more.object()
    assert both.a.scheduler.connections() == 2  # the third shares the first
    for connections, number in ((one, first[0]), (one, again), (two, second[0])):
        connections.connections.disconnect(number)
    both.all_idle()
    assert Visited.seen == ["connect", "disconnect", "destroy"]


def other_app(phone: Phone) -> Any:
    app = phone.device.app()
    phone.permitted.add(app.identity.pid)
    return app


def test_the_device_may_be_named_by_its_udid(both: Phones) -> None:
    told, app = Told(), both.a.client()
    app.connections.connect(app._connector, Want(BUNDLE, "Open", device_id=both.b.device.udid), told)
    assert told.object().device() == both.a.device.udid


def test_a_device_id_of_this_device_means_this_device(both: Phones, monkeypatch: pytest.MonkeyPatch) -> None:
    app = both.a.app
    objects = {
        codes.ABILITY_MANAGER_ID: both.a.manager_for(app).as_object(),
        codes.SCHEDULER_ID: both.a.scheduler_for(app).as_object(),
    }
    monkeypatch.setattr(client, "_connections", Connections(app.submit))
    monkeypatch.setattr(client, "_known", {})
    monkeypatch.setattr(samgr, "get_system_ability", objects.__getitem__)
    for name in (both.a.network_id, both.a.device.udid, ""):
        told = Told()
        number = client.connect_service_extension_ability(Want(BUNDLE, "Open", device_id=name), told)
        assert told.object().device() == ""
        client.disconnect_service_extension_ability(number)
        assert told.next()[0] == "disconnect"
    told = Told()
    number = client.connect_service_extension_ability(Want(BUNDLE, "Open", device_id=both.b.network_id), told)
    assert told.object().device() == both.a.device.udid
    client.disconnect_service_extension_ability(number)
    assert told.next()[0] == "disconnect"
    with pytest.raises(AbilityError, match="can be connected, not started") as caught:
        client.stop_service_extension_ability(Want(BUNDLE, "Open", device_id=both.b.network_id))
    assert caught.value.code == 16000001


def test_without_a_scheduler_the_client_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def none(ability_id: int) -> IRemoteObject:
        raise ServiceError(f"system ability {ability_id} is not registered", code=1008)

    monkeypatch.setattr(client, "_known", {})
    monkeypatch.setattr(samgr, "get_system_ability", none)
    with pytest.raises(AbilityError, match=r"the distributed scheduler \(system ability 1401\) of this one") as caught:
        client.connect_service_extension_ability(Want(BUNDLE, "Open", device_id="d"), Told())
    assert caught.value.code == 16000050


# --- who goes ---------------------------------------------------------------------------------------------


def test_the_service_ends(both: Phones) -> None:
    app = both.a.client()
    _, told = app.connect(both.b)
    visited = told.object()
    both.b.starter.kill(BUNDLE)
    assert told.next()[0] == "disconnect"
    with pytest.raises(DeadObjectError):
        visited.word()
    both.all_idle()
    app.connect(both.b, word="again")[1].object()


def test_the_cable_is_pulled(both: Phones) -> None:
    app = both.a.client()
    _, told = app.connect(both.b)
    visited = told.object()
    both.devices.network.cut(both.a.device.udid, both.b.device.udid)
    assert told.next()[0] == "disconnect"
    with pytest.raises(DeadObjectError):
        visited.word()
    both.all_idle()  # over there, too: nobody is connected any more
    assert Visited.seen[-1] == "destroy" and told.nothing()
    assert app.failure(both.b, "Open") == 16000001
    both.devices.network.heal(both.a.device.udid, both.b.device.udid)
    eventually(lambda: both.b.device.udid in both.a.device.calls.devices(), "the devices see each other again")
    eventually(lambda: both.a.device.dbinder._devices and both.b.device.dbinder._devices, "dbinder knows")
    assert app.connect(both.b, word="back")[1].object().word() == "back"


def test_the_other_softbus_ends(both: Phones) -> None:
    _, told = both.a.client().connect(both.b)
    told.object()
    both.b.device.stop()
    assert told.next()[0] == "disconnect"
    eventually(lambda: not both.a.scheduler.connections(), "the connection is forgotten")


def test_the_client_ends(both: Phones) -> None:
    app = other_app(both.a)
    _, told = both.a.client(app).connect(both.b)
    told.object()
    app.kill()
    both.all_idle()
    assert Visited.seen == ["connect", "disconnect", "destroy"]


def test_the_ability_manager_over_there_ends(both: Phones) -> None:
    _, told = both.a.client().connect(both.b)
    told.object()
    both.b.daemon.kill()
    assert told.next()[0] == "disconnect"
    eventually(lambda: not both.b.scheduler.peer_side.connections(), "the connection is forgotten")


@pytest.mark.parametrize("how", ["disconnects", "ends", "loses the network"])
def test_the_client_goes_while_it_is_being_connected(both: Phones, how: str) -> None:
    app = other_app(both.a)
    client = both.a.client(app)
    number, told = client.connect(both.b, "Slow")
    assert Visited.entered.wait(10)
    if how == "disconnects":
        client.connections.disconnect(number)
    elif how == "ends":
        app.kill()
    else:
        both.devices.network.cut(both.a.device.udid, both.b.device.udid)
        kind, code = told.next()
        assert (kind, int(code)) == ("failed", 16000050)
        assert "was not connected: device 'bert'" in code.text
    Visited.go_on.set()
    both.all_idle()
    assert Visited.seen == ["connect", "disconnect", "destroy"]
    if how == "disconnects":
        assert told.next()[0] == "disconnect"
    assert told.nothing()


# --- who may not ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("ability", "code", "text"),
    [
        ("Missing", 16000001, "has no ability 'Missing'"),
        ("Window", 16000002, "is of type 'page'"),
        ("Hidden", 16000004, "is not exported, so device {a} of another application may not use it"),
        ("Guarded", 201, "device {a} lacks test.permission.ASKED"),
        ("Raises", 16000050, "not today"),
    ],
)
def test_what_the_other_device_refuses_comes_with_its_words(both: Phones, ability: str, code: int, text: str) -> None:
    failed = both.a.client().failure(both.b, ability)
    assert int(failed) == code
    assert text.format(a=both.a.device.udid[:8]) in failed.text
    both.all_idle()


def test_a_client_without_the_permission_is_refused(both: Phones) -> None:
    failed = both.a.client(both.a.device.app()).failure(both.b, "Open")
    assert int(failed) == 201
    assert f"lacks {codes.DISTRIBUTED_DATASYNC}, needed for" in failed.text
    assert not Visited.seen


def test_an_application_without_the_permission_is_not_reached(both: Phones) -> None:
    manifest = both.b.bundle / "bundle.toml"
    manifest.write_text(manifest.read_text().replace(codes.DISTRIBUTED_DATASYNC, "test.permission.OTHER"))
    failed = both.a.client().failure(both.b, "Open")
    assert int(failed) == 201
    assert f"{BUNDLE} lacks {codes.DISTRIBUTED_DATASYNC} on its device" in failed.text


def test_an_unknown_device_and_one_without_scheduler(both: Phones) -> None:
    told, app = Told(), both.a.client()
    app.connections.connect(app._connector, Want(BUNDLE, "Open", device_id="nobody"), told)
    kind, code = told.next()
    assert (kind, int(code)) == ("failed", 16000001) and "no device 'nobody' is online" in code.text
    del both.b.device.abilities[codes.SCHEDULER_ID]
    failed = app.failure(both.b, "Open")
    assert int(failed) == 16000050 and "has no system ability 1401" in failed.text


def test_parameters_of_100_kilobytes_arrive_and_more_is_no_want(both: Phones) -> None:
    word = "w" * 35_000
    _, told = both.a.client().connect(both.b, word=word)
    assert told.object().word() == word
    with pytest.raises(TooBigError, match="allowed are 102400"):
        both.a.client().connect(both.b, a=word, b=word)


def test_nobody_but_the_scheduler_connects_for_another_device(both: Phones) -> None:
    with pytest.raises(Refusal, match="only the distributed scheduler") as caught:
        both.b.manager_for(both.b.app).connect_ability_of_device("f" * 64, Want(BUNDLE, "Open"), Callback())
    assert caught.value.code == 201


def test_local_processes_do_not_speak_as_another_device(both: Phones) -> None:
    side = both.b.scheduler.peer_side
    remote = both.b.device.softbus.offer(side.as_object(), both.b.app)  # type: ignore[arg-type]
    proxy(IPeerScheduler, remote).connect_from_remote(Want(BUNDLE, "Open"), Callback())
    both.b.device.local.flush()
    with pytest.raises(Exception, match="a scheduler of another device calls this"):
        side.connect_from_remote(Want(BUNDLE, "Open"), Callback())
    assert not side.connections()


def test_only_who_connected_disconnects_and_only_what_is_connected(both: Phones) -> None:
    scheduler, callback = both.a.scheduler_for(both.a.app), Callback()
    want = Want(BUNDLE, "Slow", device_id=both.b.network_id)
    with pytest.raises(Refusal, match="CONNECTION_NOT_EXIST"):
        scheduler.disconnect_remote_ability(callback)
    scheduler.connect_remote_ability(want, callback)
    with pytest.raises(Refusal, match="in use for a connection"):
        scheduler.connect_remote_ability(want, callback)
    with pytest.raises(Refusal, match=r"INVALID_CONNECTION_STATE: .* is CONNECTING"):
        scheduler.disconnect_remote_ability(callback)
    Visited.go_on.set()
    eventually(lambda: callback.told == ["connected"], "it is connected")
    scheduler.disconnect_remote_ability(callback)
    eventually(lambda: callback.told == ["connected", 0], "it is told of the end")
    both.all_idle()


def test_too_many_connections_of_one_process(both: Phones, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("binderkit.limits.MAX_CONNECTIONS_PER_CLIENT", 1)
    client = both.a.client()
    client.connect(both.b)[1].object()
    failed = client.failure(both.b, "Slow")
    assert int(failed) == 16000050 and "which is the limit" in failed.text
    # Over there the limit is the device's.
    failed = both.a.client(other_app(both.a)).failure(both.b, "Open")
    assert int(failed) == 16000050 and "which is the limit" in failed.text
