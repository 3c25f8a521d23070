"""A program on a device, driven by lines of JSON: [command, argument …]; says ["answer", result] and what it hears."""

from __future__ import annotations

import json
import os
import queue
import statistics
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import binderkit as bk
from binderkit import samgr
from binderkit.ability import (
    ConnectOptions,
    ElementName,
    ServiceExtensionAbility,
    Want,
    connect_service_extension_ability,
    disconnect_service_extension_ability,
)
from binderkit.ability.codes import SCHEDULER_ID
from binderkit.ability.contracts import IDistributedScheduler
from binderkit.errors import IpcError
from binderkit.interface import Interface, method, proxy, within
from binderkit.ipc.skeleton import IPCSkeleton
from binderkit.samgr import remote
from binderkit.samgr.remote import Problem
from binderkit.softbus.contracts import (
    DeviceDescription,
    IDeviceWatcher,
    IFinder,
    IPairingWatcher,
    ISoftBus,
    NearbyDevice,
)
from binderkit.softbus.reasons import DataType
from tests.softbus.session_app import App

VISITOR = 0x5200
_printing = threading.Lock()


def say(*words: object) -> None:
    with _printing:
        print(json.dumps(words), flush=True)


class IListener(Interface, descriptor="tests.IListener"):
    @method
    def told(self, text: str) -> str: ...


class IEcho(Interface, descriptor="tests.IEcho"):
    @method
    def echo(self, number: int) -> int: ...

    @method
    def caller(self) -> str: ...

    @method
    def call_back(self, listener: IListener, text: str) -> str: ...

    @method
    def turned(self, data: bytes) -> bytes: ...


class Echo(IEcho):
    def echo(self, number: int) -> int:
        return number

    def caller(self) -> str:
        return IPCSkeleton.get_calling_device_id()

    def call_back(self, listener: IListener, text: str) -> str:
        return listener.told(text)

    def turned(self, data: bytes) -> bytes:
        return data[::-1]


class Listener(IListener):
    def told(self, text: str) -> str:
        say("told", text)
        return f"{text} in {os.getpid()}"


class EchoAbility(ServiceExtensionAbility):
    """A service ability that gives its clients an Echo."""

    def on_connect(self, want: Want) -> Any:
        return Echo()


class IVisitor(Interface, descriptor="tests.IVisitor"):
    @method
    def visit(self, device: str) -> str: ...


class Visitor(IVisitor):
    """A system ability, so that it has permissions: connects to the ability of another device."""

    def visit(self, device: str) -> str:
        answers: queue.Queue[str] = queue.Queue()

        def connected(element: ElementName, found: bk.IRemoteObject) -> None:
            echo = proxy(IEcho, found)
            answers.put(f"{element.device_id == device} {echo.caller()} {echo.echo(7)}")

        options = ConnectOptions(connected, on_failed=lambda code: answers.put(repr(code)))
        connection = connect_service_extension_ability(Want("tests.visited", "Echo", device_id=device), options)
        try:
            return answers.get(timeout=15)
        finally:
            disconnect_service_extension_ability(connection)


class IAsker(Interface, descriptor="tests.IAsker"):
    @method
    def ask(self, key: int, device: str) -> str: ...


class Asker(IAsker):
    """Uses an ability of another device, and says what came of it."""

    def ask(self, key: int, device: str) -> str:
        try:
            return str(proxy(IEcho, samgr.get_system_ability(key, device_id=device)).echo(8))
        except IpcError as error:
            return f"{error.code} {type(error).__name__}: {error.args[0]}"


class AskerAbility(ServiceExtensionAbility):
    """A service ability of this device, so that an application asks."""

    def on_connect(self, want: Want) -> Any:
        return Asker()


class Watcher(IDeviceWatcher):
    def device_changed(self, event: str, device: DeviceDescription) -> None:
        say("device", event, device.udid, device.name)


class Finder(IFinder):
    def found(self, number: int, device: NearbyDevice) -> None:
        say("found", device.name, device.pairing_port)

    def lost(self, number: int, device: NearbyDevice) -> None:
        say("lost", device.name)


class PairingWatcher(IPairingWatcher):
    def paired(self, device: DeviceDescription) -> None:
        say("paired", device.udid)

    def ended(self, code: int, text: str) -> None:
        say("ended", code, text)


class Death(bk.DeathRecipient):
    def on_remote_died(self) -> None:
        say("died")


arrived = threading.Event()


class Arrival(samgr.SystemAbilityListener):
    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        arrived.set()


class Far(samgr.SystemAbilityListener):
    """Hears of abilities of other devices."""

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        say("added", ability_id, device_id)

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        say("removed", ability_id, device_id)


class Loaded(samgr.SystemAbilityLoadCallback):
    def on_load_system_ability_complete_for_remote(
        self, device_id: str, ability: int | str, remote: bk.IRemoteObject | None, error: IpcError | None
    ) -> None:
        if remote is not None:
            say("loaded", ability, proxy(IEcho, remote).echo(5))
        else:
            assert error is not None
            say("not loaded", ability, error.code)


class Program:
    def __init__(self) -> None:
        self._kept: list[object] = []
        self._echo: IEcho | None = None
        self._app = App()
        self._far: dict[tuple[int | str, str], Far] = {}

    def softbus(self) -> ISoftBus:
        return proxy(ISoftBus, samgr.load_system_ability(remote.SOFTBUS_ID, timeout=12))

    def _keep(self, thing: Any) -> Any:
        self._kept.append(thing)
        return thing

    def own(self) -> dict[str, object]:
        return asdict(self.softbus().own_device())

    def watch(self) -> None:
        self.softbus().watch(self._keep(Watcher()))

    def pid(self) -> int:
        return self.softbus().as_object().owner.pid  # type: ignore[attr-defined, no-any-return]

    def devices(self) -> list[dict[str, object]]:
        return [asdict(one) for one in self.softbus().trusted_devices()]

    def name(self, name: str) -> None:
        self.softbus().set_name(name)

    def offer(self, secret: str = "") -> dict[str, object]:
        self.watch()
        return asdict(self.softbus().offer_pairing(secret.encode(), 60.0, self._keep(PairingWatcher())))

    def pair(self, port: int, pin: str, secret: str = "") -> dict[str, object]:
        self.watch()
        return asdict(within(30, self.softbus().pair)("127.0.0.1", port, pin, secret.encode()))

    def unpair(self, device: str) -> bool:
        return self.softbus().unpair(device)

    def revoke(self, device: str) -> bool:
        return self.softbus().revoke(device)

    def find(self) -> None:
        self.softbus().refresh(1, 6, self._keep(Finder()))

    def publish(self) -> None:
        self.softbus().publish(1, 6, "hello", self._keep(Finder()))

    def register(self, ability: int, name: str, distributed: bool) -> int:
        service = self._keep(Echo())
        return samgr.add_system_ability(ability, service, name=name, distributed=distributed)

    def remove(self, ability: int) -> None:
        samgr.remove_system_ability(ability)

    def is_local(self, device: str) -> bool:
        return proxy(IDistributedScheduler, samgr.load_system_ability(SCHEDULER_ID, timeout=12)).is_local_device(device)

    def visit(self, device: str) -> str:
        return within(20, proxy(IVisitor, samgr.load_system_ability(VISITOR, timeout=12)).visit)(device)

    def app_asks(self, bundle: str, key: int, device: str) -> str:
        answers: queue.Queue[str] = queue.Queue()

        def connected(element: ElementName, found: bk.IRemoteObject) -> None:
            answers.put(within(20, proxy(IAsker, found).ask)(key, device))

        options = ConnectOptions(connected, on_failed=lambda code: answers.put(repr(code)))
        connection = connect_service_extension_ability(Want(bundle, "Asker"), options)
        try:
            return answers.get(timeout=20)
        finally:
            disconnect_service_extension_ability(connection)

    def serve_sessions(self, name: str) -> None:
        App.serve(self._app, self.softbus().sessions().as_object(), name, DataType.BYTES)

    def talk(self, name: str, network_id: str, count: int, size: int) -> int:
        service = self.softbus().sessions().as_object()
        return App.talk(self._app, service, name, network_id, DataType.BYTES, count, size)

    def running(self, ability: int) -> bool:
        return samgr.check_system_ability(ability) is not None

    def wait_for(self, ability: int) -> bool:
        samgr.subscribe_system_ability(ability, self._keep(Arrival()))
        return arrived.wait(20)

    def get(self, key: int | str, device: str) -> bool:
        self._echo = proxy(IEcho, samgr.get_system_ability(key, device_id=device))
        return True

    def check(self, key: int | str, device: str) -> bool:
        return samgr.check_system_ability(key, device_id=device) is not None

    def load(self, key: int | str, device: str) -> None:
        samgr.load_system_ability(key, self._keep(Loaded()), device_id=device)

    def hear(self, key: int | str, device: str) -> None:
        self._far[key, device] = Far()
        samgr.subscribe_system_ability(key, self._far[key, device], device)

    def hear_no_more(self, key: int | str, device: str) -> None:
        samgr.unsubscribe_system_ability(key, self._far.pop((key, device)), device)

    def list(self, device: str) -> list[dict[str, object]]:
        return [asdict(one) for one in remote.abilities_of(device)]

    def _there(self) -> IEcho:
        assert self._echo is not None
        return self._echo

    def echo(self, number: int) -> int:
        return self._there().echo(number)

    def caller(self) -> str:
        return self._there().caller()

    def call_back(self, text: str) -> str:
        return self._there().call_back(self._keep(Listener()), text)

    def large(self, size: int) -> bool:
        data = os.urandom(size)
        return self._there().turned(data) == data[::-1]

    def watch_death(self) -> None:
        self._there().as_object().register_death_recipient(self._keep(Death()))

    def time(self, count: int) -> float:
        """Return the median of an echo in microseconds."""
        echo, times = self._there().echo, []
        for number in range(count):
            begin = time.perf_counter()
            echo(number)
            times.append(time.perf_counter() - begin)
        return statistics.median(times) * 1e6


def main() -> None:
    program = Program()
    for line in sys.stdin:
        command, *arguments = json.loads(line)
        work: Callable[..., object] = getattr(program, command)
        try:
            say("answer", work(*arguments))
        except (IpcError, Problem) as error:
            text = error.text if isinstance(error, Problem) else str(error.args[0])
            say("answer", {"code": error.code, "text": text, "kind": type(error).__name__})


if __name__ == "__main__":
    main()
