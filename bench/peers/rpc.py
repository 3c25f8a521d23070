"""binderkit between two devices, as its users use it: a system ability of the other device, plain calls on its proxy.

This process is an application of device "a"; the service is one of device "b". A call goes through four processes:
this one, the softbus of each device, and the service's.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from threading import Event
from time import monotonic_ns

import binderkit as bk
from bench import devices, far, measure, meeting, services
from bench.peers.base import Peer
from bench.services import Obituary, call_echo
from binderkit import samgr
from binderkit.softbus.contracts import ONLINE

SERVICE, *VICTIMS = devices.ABILITIES
"""Ids of the service, and of processes that are killed."""
DEATH_WAIT = 20.0
"""Seconds a death notice may take before the measurement fails."""


class Rpc(Peer):
    """The client; see the module head."""

    name = "binderkit RPC"
    offers = frozenset({"echo", "payload", "crowd", "death", "silent", "strangers", "trusted"})

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._group = devices.free_group()
        self._devices: list[devices.Device] = []
        os.environ.update(devices.environment(folder / "a", self._group))

    def start(self) -> None:
        """Start both devices, pair them and get the service."""
        try:
            for name in ("a", "b"):
                self._devices.append(devices.Device(self.folder / name, self._group))
            self._service = self._devices[1].program()
            self.connect()
        except BaseException:
            self.close()
            raise

    def connect(self) -> None:
        """Pair the devices, which run, and get the service."""
        self._softbus = far.softbus()
        self._watch()
        self._udid = far.pair(self._softbus, self._service.ask("offer"))
        self._service.ask("register", SERVICE)
        self._get()
        self._far_softbus = self._service.ask("own")[2]

    def _watch(self) -> None:
        self._watcher = far.Watcher()
        self._softbus.watch(self._watcher)

    def _get(self) -> None:
        """Get the service, once its device is online since the last ``_watch``."""
        self._watcher.times.wait(f"{ONLINE} {self._udid}")
        self._remote = samgr.get_system_ability(SERVICE, device_id=self._udid)

    def pids(self) -> list[int]:
        """Return both softbus processes, the service's and both daemons."""
        own = far.softbus_pid(self._softbus)
        return [own, self._far_softbus, self._service.pid, *(device.pid for device in self._devices)]

    def echo(self, value: int) -> int:
        """Send an int and get it back."""
        return call_echo(self._remote, value)

    def put(self, data: bytes) -> int:
        """Send bytes as raw data, as a typed call sends an argument of bytes."""
        size = len(data)
        request = bk.MessageSequence()
        reply = bk.MessageSequence()
        request.write_int(size)
        request.write_raw_data_buffer(data, size)
        self._remote.send_request(services.PUT, request, reply)
        request.reclaim()
        return reply.read_int()

    def special(self, action: str, seconds: float, number: int) -> dict[str, float]:
        """Measure what the other packages do not offer."""
        specials: dict[str, Callable[[], dict[str, float]]] = {
            "death": lambda: self._death(number),
            "silent": self._silent,
            "strangers": lambda: meeting.strangers(self.folder),
            "trusted": lambda: meeting.trusted(self.folder),
        }
        return specials[action]()

    def close(self) -> None:
        """End both devices."""
        for device in self._devices:
            device.close()

    def _death(self, number: int) -> dict[str, float]:
        """From kill -9 of a process on the other device to the recipient's first line, ``number`` times."""
        samples = []
        for ability in VICTIMS[:number]:
            with closing(self._devices[1].program()) as victim:
                victim.ask("register", ability)
                remote = samgr.get_system_ability(ability, device_id=self._udid)
                samples.append(_time_of_death(remote, lambda pid=victim.pid: os.kill(pid, signal.SIGKILL)))  # type: ignore[misc]
        return measure.summary(samples)

    def _silent(self) -> dict[str, float]:
        """From the stop of the other device's softbus, which says nothing any more, to the recipient's first line."""
        try:
            taken = _time_of_death(self._remote, lambda: os.kill(self._far_softbus, signal.SIGSTOP))
            self._watch()  # what it told before is old
        finally:
            os.kill(self._far_softbus, signal.SIGCONT)
        self._get()
        return measure.summary([taken])


def _time_of_death(remote: bk.IRemoteObject, end: Callable[[], None]) -> int:
    """Return the nanoseconds from ``end`` until a recipient is told; one call is made before."""
    told = Event()
    recipient = Obituary(told.set)
    remote.register_death_recipient(recipient)
    call_echo(remote, 1)
    ended_ns = monotonic_ns()
    end()
    if not told.wait(DEATH_WAIT):
        raise AssertionError(f"no death notice within {DEATH_WAIT:g} s")
    return recipient.at_ns - ended_ns
