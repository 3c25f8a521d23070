"""Devices with ability managers, for the tests of the distributed scheduler: on a simulated network, in one process.

Each ``Phone`` is a device with softbus, an ability manager in a "process" of its own, and a bundle whose hosts are real
ability hosts in further "processes".
"""

from __future__ import annotations

import queue
import textwrap
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar, cast

from binderkit.ability import ConnectOptions, Want, codes
from binderkit.ability.client import _Scheduler
from binderkit.ability.connections import Connections
from binderkit.ability.contracts import IAbilityManager, IDistributedScheduler
from binderkit.ability.extension import ServiceExtensionAbility
from binderkit.ability.host import BUNDLE_VARIABLE, AbilityHost
from binderkit.ability.manifest import BundleDirectory, load_bundle
from binderkit.ability.service import AbilityManagerService
from binderkit.dbinder.scheduler import DistributedScheduler
from binderkit.driver.loopback import LoopbackProcess
from binderkit.interface import Interface, method, proxy
from binderkit.ipc.context import calling_identity
from binderkit.samgr.tokens import TokenRegistry
from tests.dbinder.devices import PATIENCE, Device, Devices, eventually

BUNDLE = "test.visited"
MANIFEST = f"""
name = "{BUNDLE}"
version = "1"
request-permissions = ["{codes.DISTRIBUTED_DATASYNC}"]
[[ability]]
name = "Open"
exported = true
entry = "visited.py:Visited"
[[ability]]
name = "Hidden"
entry = "visited.py:Visited"
[[ability]]
name = "Guarded"
exported = true
permissions = ["test.permission.ASKED"]
entry = "visited.py:Visited"
[[ability]]
name = "Window"
type = "page"
exported = true
[[ability]]
name = "Slow"
exported = true
entry = "visited.py:Slow"
[[ability]]
name = "Raises"
exported = true
entry = "visited.py:Raises"
"""
CODE = """
from tests.dbinder.abilities import Raises, Slow, Visited
"""


class IVisited(Interface, descriptor="test.IVisited"):
    """What an ability gives its clients."""

    @method
    def word(self) -> str: ...

    @method
    def device(self) -> str: ...


class _Visited(IVisited):
    def __init__(self, word: str) -> None:
        self._word = word

    def word(self) -> str:
        return self._word

    def device(self) -> str:
        return calling_identity().device_id


class Visited(ServiceExtensionAbility):
    """Keeps what happens to all of its kind."""

    seen: ClassVar[list[str]] = []
    entered = threading.Event()
    go_on = threading.Event()

    def on_connect(self, want: Want) -> Any:
        self.seen.append("connect")
        return _Visited(str(want.parameters.get("word", "")))

    def on_disconnect(self, want: Want) -> None:
        self.seen.append("disconnect")

    def on_destroy(self) -> None:
        self.seen.append("destroy")


class Slow(Visited):
    """Its on_connect waits to be told."""

    def on_connect(self, want: Want) -> Any:
        self.entered.set()
        assert self.go_on.wait(PATIENCE)
        return super().on_connect(want)


class Raises(Visited):
    """Cannot be connected."""

    def on_connect(self, want: Want) -> Any:
        raise ValueError("not today")


class _Starter:
    """Hosts of abilities as "processes" of a device."""

    def __init__(self, phone: Phone) -> None:
        self._phone = phone
        self._running: dict[str, tuple[LoopbackProcess, AbilityHost]] = {}

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        permissions: Sequence[str] = (),
        bundle: str = "",
    ) -> int:
        process = self._phone.device.local.process()
        manager = self._phone.manager_for(process)
        host = AbilityHost(manager, load_bundle(environment[BUNDLE_VARIABLE]))
        self._running[name] = process, host
        process.submit(lambda: manager.attach_host(host))
        return process.identity.pid

    def stop(self, name: str) -> None:
        process, host = self._running.pop(name)
        host.close()
        process.kill()
        self._phone.manager.process_exited(name, process.identity.pid, 0)

    def kill(self, name: str) -> None:
        process, _ = self._running.pop(name)
        process.kill()
        self._phone.manager.process_exited(name, process.identity.pid, -9)

    def log_file(self, name: str) -> Path:
        return Path(name)


class Phone:
    """A device with an ability manager, a bundle, a scheduler and an app that may connect."""

    def __init__(self, device: Device, directory: Path) -> None:
        self.device = device
        self.bundle = directory / device.name / "bundles" / BUNDLE
        self.bundle.mkdir(parents=True, mode=0o700)
        (self.bundle / "bundle.toml").write_text(MANIFEST)
        (self.bundle / "visited.py").write_text(textwrap.dedent(CODE))
        self.daemon = device.local.process()
        self.starter = _Starter(self)
        self.manager = AbilityManagerService(
            cast(Any, self.starter),
            BundleDirectory(self.bundle.parent),
            TokenRegistry(directory / device.name),
            submit=self.daemon.submit,
            scheduler=lambda: device.softbus.offer(self.scheduler.as_object(), self.daemon),  # type: ignore[arg-type]
        )
        self.app = device.app()
        self.permitted = {self.app.identity.pid}
        self.begin()

    def begin(self) -> None:
        """Begin with what belongs to softbus."""
        self.network_id = self.device.calls.engine.info.network_id
        self.scheduler = DistributedScheduler(
            self.device.dbinder,
            self.network_id,
            lambda: self.manager_for(self.device.softbus),
            lambda caller: caller.pid in self.permitted,
        )
        self.device.abilities[codes.SCHEDULER_ID] = self.scheduler.peer_side.as_object()

    def manager_for(self, process: LoopbackProcess) -> IAbilityManager:
        return proxy(IAbilityManager, self.daemon.offer(self.manager.as_object(), process))  # type: ignore[arg-type]

    def scheduler_for(self, process: LoopbackProcess) -> IDistributedScheduler:
        return proxy(IDistributedScheduler, self.device.softbus.offer(self.scheduler.as_object(), process))  # type: ignore[arg-type]

    def client(self, app: LoopbackProcess | None = None) -> Client:
        return Client(self, app or self.app)

    def idle(self) -> bool:
        """Whether nobody is connected, and no ability lives."""
        quiet = not self.scheduler.connections() and not self.scheduler.peer_side.connections()
        return quiet and not self.manager.list_abilities()

    def close(self) -> None:
        self.manager.close()


class Client:
    """The connections of one app."""

    def __init__(self, phone: Phone, app: LoopbackProcess) -> None:
        self._connector = _Scheduler(phone.scheduler_for(app))
        self.connections = Connections(app.submit)

    def connect(self, other: Phone, ability: str = "Open", **parameters: str) -> tuple[int, Told]:
        told = Told()
        wanted = Want(BUNDLE, ability, device_id=other.network_id, parameters=dict(parameters))
        return self.connections.connect(self._connector, wanted, told), told

    def failure(self, other: Phone, ability: str) -> Any:
        _, told = self.connect(other, ability)
        kind, code = told.next()
        assert kind == "failed", code
        return code


class Told(ConnectOptions):
    """Callbacks that remember what they are told, in order."""

    def __init__(self) -> None:
        self._queue: queue.Queue[tuple[str, Any]] = queue.Queue()
        super().__init__(
            lambda element, remote: self._queue.put(("connect", (element, remote))),
            lambda element: self._queue.put(("disconnect", element)),
            lambda code: self._queue.put(("failed", code)),
        )

    def next(self) -> tuple[str, Any]:
        """Wait for the next call."""
        return self._queue.get(timeout=PATIENCE)

    def object(self) -> IVisited:
        kind, got = self.next()
        assert kind == "connect", got
        return proxy(IVisited, got[1])

    def nothing(self) -> bool:
        """Whether nothing more was told so far."""
        return self._queue.empty()


class Phones:
    """Two phones that trust each other."""

    def __init__(self, directory: Path) -> None:
        self.devices = Devices("anna", "bert")
        self.a, self.b = (Phone(device, directory) for device in self.devices.all)

    def all_idle(self) -> None:
        eventually(lambda: self.a.idle() and self.b.idle(), "nobody is connected any more")

    def close(self) -> None:
        for phone in (self.a, self.b):
            phone.close()
        self.devices.close()


@contextmanager
def phones(directory: Path) -> Iterator[Phones]:
    Visited.seen.clear()
    Visited.entered.clear()
    Visited.go_on.clear()
    both = Phones(directory)
    try:
        yield both
    finally:
        both.close()
