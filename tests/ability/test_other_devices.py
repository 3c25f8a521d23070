"""An ability connected from another device, with real processes: its host, its ability manager, its softbus."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from binderkit import samgr
from binderkit.ability import Want, codes, list_service_extension_abilities
from binderkit.ability.client import _Scheduler, ability_manager
from binderkit.ability.connections import Connections
from binderkit.ability.contracts import IDistributedScheduler
from binderkit.dbinder.scheduler import DistributedScheduler, may_connect_devices
from binderkit.interface import proxy
from binderkit.ipc.context import own_identity
from binderkit.ipc.driver import current_driver
from tests.ability.clients import BUNDLE, Told, journal
from tests.ability.contracts import IRecorder
from tests.ability.device import device_process, wait_until_no_host_runs
from tests.dbinder.devices import Devices, eventually


class World:
    """A simulated device that connects, and this runtime directory's, for which this very process is softbus."""

    def __init__(self) -> None:
        self.devices = Devices("visitor", "host")
        self.visitor, self.host = self.devices.all
        self.host.stop()
        softbus: Any = current_driver()
        self.host.softbus = softbus
        self.host.start()
        self.devices.pair()
        there = DistributedScheduler(self.host.dbinder, self._network_id(self.host), ability_manager)
        samgr.add_system_ability(codes.SCHEDULER_ID, there)
        self.host.abilities[codes.SCHEDULER_ID] = there.peer_side.as_object()
        self.there = there.peer_side
        here = DistributedScheduler(
            self.visitor.dbinder, self._network_id(self.visitor), ability_manager, lambda caller: True
        )
        app = self.visitor.app()
        offered: Any = here.as_object()
        self.connections = Connections(app.submit)
        self._connector = _Scheduler(proxy(IDistributedScheduler, self.visitor.softbus.offer(offered, app)))

    @staticmethod
    def _network_id(device: Any) -> str:
        return str(device.calls.engine.info.network_id)

    def connect(self, ability: str) -> tuple[int, Told]:
        told = Told()
        want = Want(BUNDLE, ability, device_id=self.host.udid)
        return self.connections.connect(self._connector, want, told), told

    def close(self) -> None:
        samgr.remove_system_ability(codes.SCHEDULER_ID)
        self.devices.close()


@pytest.fixture
def world(installed: Path) -> Iterator[World]:
    manifest = installed / "bundles" / BUNDLE / "bundle.toml"
    asked = f'request-permissions = ["{codes.DISTRIBUTED_DATASYNC}", '
    manifest.write_text(manifest.read_text().replace("request-permissions = [", asked))
    with device_process(softbus=os.getpid()):
        made = World()
        try:
            yield made
        finally:
            made.close()
            wait_until_no_host_runs(installed)


def test_a_real_host_serves_another_device_until_it_disconnects(world: World, installed: Path) -> None:
    number, told = world.connect("Recorder")
    kind, remote = told.next()
    assert kind == "connect", remote
    recorder = proxy(IRecorder, remote)
    assert recorder.events() == ["create", "connect"]
    (report,) = list_service_extension_abilities()
    assert report.pid == recorder.pid() != os.getpid()
    world.connections.disconnect(number)
    assert told.next()[0] == "disconnect"
    wait_until_no_host_runs(installed)
    assert journal(installed) == [f"Recorder {word}" for word in ("create", "connect", "disconnect", "destroy")]


def test_its_death_and_the_network_s_are_told(world: World, installed: Path) -> None:
    _, told = world.connect("Recorder")
    kind, remote = told.next()
    assert kind == "connect", remote
    os.kill(proxy(IRecorder, remote).pid(), signal.SIGKILL)
    assert told.next()[0] == "disconnect"
    _, told = world.connect("Recorder")
    assert told.next()[0] == "connect"
    world.devices.network.cut(world.visitor.udid, world.host.udid)
    assert told.next()[0] == "disconnect"
    wait_until_no_host_runs(installed)
    assert journal(installed)[-2:] == ["Recorder disconnect", "Recorder destroy"]
    eventually(lambda: not world.there.connections(), "nobody is connected any more")


def test_the_rules_are_those_of_a_caller_of_another_device(world: World) -> None:
    for ability, code, text in (
        ("Hidden", 16000004, f"so device {world.visitor.udid[:8]} of another application may not use it"),
        ("Guarded", 201, "lacks test.permission.ASKED"),
        ("NoSuch", 16000001, "has no ability 'NoSuch'"),
    ):
        kind, failed = world.connect(ability)[1].next()
        assert (kind, int(failed)) == ("failed", code)
        assert text in failed.text


def test_a_process_without_a_token_may_not_connect_devices(world: World) -> None:
    assert not may_connect_devices(own_identity())
