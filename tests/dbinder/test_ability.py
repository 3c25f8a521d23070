"""dbinder/ability.py: what the softbus process gives other devices of this one, by what SAMgr says."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from binderkit import process, samgr
from binderkit.dbinder import ability
from binderkit.dbinder.ability import SoftBus, get_local
from binderkit.dbinder.service import DBinderService
from binderkit.errors import DeadObjectError, ServiceError
from binderkit.ipc.context import CallContext, RemoteCaller, current
from binderkit.ipc.remote import IRemoteObject, RemoteObject
from binderkit.samgr.profile import Profile
from binderkit.samgr.reason import OnDemandReason
from binderkit.samgr.remote import SOFTBUS_ID
from binderkit.softbus.calls import Calls
from binderkit.softbus.memory import Network
from tests.dbinder.devices import SharedBulk
from tests.samgr.fake_device import Device
from tests.samgr.fake_device import ability as profile
from tests.samgr.processes import Adder

ME, YOU = "a" * 64, "b" * 64
CAMERA = "ohos.permission.CAMERA"


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Iterator[Device]:
    abilities = (
        profile(5),
        profile(6, distributed=True),
        profile(7, distributed=True, permission=CAMERA),
        profile(8, distributed=True, permission=CAMERA, remote_access=(ME,)),
        profile(1401, distributed=True),
    )
    softbus = Profile("softbus", Path("/softbus.toml"), (profile(SOFTBUS_ID, distributed=True),))
    made = Device(Profile("demo", Path("/demo.toml"), abilities), softbus)
    speaker = made.up(SOFTBUS_ID, distributed=True)[0]
    monkeypatch.setattr(samgr, "system_ability_manager", lambda: speaker)
    for name in ("get_system_ability", "list_ability_states"):
        monkeypatch.setattr(samgr, name, getattr(made.client, name))
    yield made
    made.service.close()


def asked_by(device_id: str, ask: Callable[[], IRemoteObject | None]) -> IRemoteObject | None:
    """Ask as the process that handles a call of another device."""
    token = current.set(CallContext(RemoteCaller(device_id, YOU, 1, 0, 0), None, None, 0, 1, 1, None, None))
    try:
        return ask()
    finally:
        current.reset(token)


def test_who_gets_what(device: Device) -> None:
    stubs = {key: device.up(key, distributed=True)[2] for key in (6, 8)}
    assert asked_by(YOU, lambda: get_local(6)) is stubs[6]
    assert asked_by(ME, lambda: get_local(8)) is stubs[8]
    assert asked_by(ME, lambda: get_local(9)) is None
    for asking, key, code in ((YOU, 8, 201), (ME, 7, 201), (ME, 5, 115)):
        with pytest.raises(ServiceError) as caught:
            asked_by(asking, lambda: get_local(key))  # noqa: B023
        assert caught.value.code == code


def test_the_list_shows_what_the_asking_device_may_have(device: Device) -> None:
    device.up(6, distributed=True)

    def ids(asking: str) -> dict[int, bool]:
        return {one.id: one.running for one in ability._offered(asking)}

    assert ids(ME) == {6: True, 8: False}
    assert ids(YOU) == {6: True}
    assert ids("") == {6: True, 7: False, 8: False}  # for this device itself


def test_one_that_fails_at_its_start_is_not_available(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    def dead(key: int) -> IRemoteObject:
        raise DeadObjectError("it ended")

    monkeypatch.setattr(samgr, "get_system_ability", dead)
    with pytest.raises(ServiceError, match="cannot be loaded there: it ended") as caught:
        asked_by(ME, lambda: get_local(6))
    assert caught.value.code == 113


def test_without_samgr_nothing_is_available(device: Device, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its death must not look like that of the device."""

    def dead() -> samgr.SystemAbilityManagerClient:
        raise DeadObjectError("SAMgr ended")

    monkeypatch.setattr(samgr, "system_ability_manager", dead)
    with pytest.raises(ServiceError, match="SAMgr ended") as caught:
        asked_by(ME, lambda: get_local(6))
    assert caught.value.code == 113


def test_the_softbus_processes_of_two_devices_have_objects_of_their_own(
    device: Device, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Part:
        def __init__(self) -> None:
            self.stub = RemoteObject("tests.Part")

        def as_object(self) -> RemoteObject:
            return self.stub

    class Sides(Part):
        peer_side = Part()

    assert asked_by(ME, lambda: get_local(SOFTBUS_ID)) is None
    part, sides = Part(), Sides()
    monkeypatch.setattr(SoftBus, "peer_abilities", part)
    monkeypatch.setattr(SoftBus, "scheduler", sides)
    assert asked_by(ME, lambda: get_local(SOFTBUS_ID)) is part.stub
    monkeypatch.setattr(samgr, "get_system_ability", lambda key: Adder())
    assert asked_by(ME, lambda: get_local(1401)) is sides.peer_side.stub


def test_the_scheduler_waits_for_softbus() -> None:
    scheduler = ability.Scheduler()
    with pytest.raises(ServiceError, match="does not run in this process"):
        scheduler.on_start(OnDemandReason())
    assert scheduler.on_idle(OnDemandReason()) < 0 and SoftBus().on_idle(OnDemandReason()) < 0


def test_a_start_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What was begun is ended: others are served no more before dbinder goes, and streams last."""
    ended: list[str] = []
    network = Network()

    class Begun:
        def __init__(self, directory: Path, *, abilities: object) -> None:
            self.udid = ME
            self.calls = Calls(network.engine(ME))
            self.bulk = SharedBulk().port(ME)

        def leave_network(self) -> None:
            assert SoftBus.scheduler is None and SoftBus.peer_abilities is None
            self.calls.close()
            ended.append("network")

        def close(self) -> None:
            ended.append("device")

    def refuse(*_: object) -> None:
        assert SoftBus.scheduler is not None and SoftBus.peer_abilities is not None
        raise ServiceError("not today")

    close = DBinderService.close

    def closing(self: DBinderService) -> None:
        ended.append("dbinder")
        close(self)

    monkeypatch.setenv("BINDERKIT_SOFTBUS_STATE", str(tmp_path / "state"))
    monkeypatch.setattr("binderkit.softbus.device.SoftBusDevice", Begun)
    monkeypatch.setattr("binderkit.dbinder.objects.Objects", refuse)
    monkeypatch.setattr(DBinderService, "close", closing)
    try:
        with pytest.raises(ServiceError, match="not today"):
            SoftBus().on_start(OnDemandReason())
        assert ended == ["network", "dbinder", "device"]
    finally:
        network.close()
        process.shutdown()
