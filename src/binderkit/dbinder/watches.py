"""Which programs of this device hear of which system abilities of other devices.

Owns: their subscriptions, and keeping them up at the other devices (peer_abilities.py), which forget them when the
connection breaks or either end starts anew.

Rules upheld: for each ability a program hears Added and Removed in turn, in the order in which things happened; when a
device leaves, its abilities are removed, and added again when it is back and says so; only the device that was asked
says what becomes of its abilities; a program that cannot be told is forgotten, never told half; what a program asked
for ends with it; a process has at most 256 subscriptions (reference 2.2); a device that hangs holds up one thread.

Locks: ``_lock`` guards the table, and what is present; nothing is called while it is held. What programs are to hear is
queued under it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.ability.serial import Serial
from binderkit.dbinder.peer_abilities import IPeerAbilities
from binderkit.dbinder.peer_scheduler import Watcher
from binderkit.errors import IpcError, RefusedError, ServiceError
from binderkit.interface import proxy
from binderkit.ipc.context import calling_identity
from binderkit.ipc.proxy import RemoteProxy
from binderkit.samgr import codes
from binderkit.samgr.remote import SOFTBUS_ID, IAbilityWatcher, Problem
from binderkit.samgr.serial import SerialQueue
from binderkit.softbus.engine import PresenceEvent

if TYPE_CHECKING:
    from concurrent.futures import Future

    from binderkit.dbinder.service import DBinderService
    from binderkit.ipc.remote import IRemoteObject
    from binderkit.samgr.ability import AbilityKey
    from binderkit.softbus.engine import Presence

__all__ = ["Watches"]

_log = logging.getLogger("binderkit.dbinder")
_PAUSES: Final = (0.05, 0.2, 0.8, 3.2)
"""Seconds after each time a device was asked in vain; when it leaves, or comes back, that begins anew."""


class Watches:
    """The subscriptions.

    Args:
        dbinder: the objects of other devices.
        declared: whether this device declares an ability as distributed, by any of these words.
    """

    def __init__(self, dbinder: DBinderService, declared: Callable[..., bool]) -> None:
        self._dbinder = dbinder
        self._declared = declared
        self._lock = threading.Lock()
        self._serial = Serial()
        self._targets: dict[tuple[str, AbilityKey], _Target] = {}
        self._programs: dict[IRemoteObject, _Program] = {}
        # One per device that was ever asked: as many as this one trusts.
        self._queues: dict[str, SerialQueue] = {}
        dbinder.on_device_lost(self._device_lost)

    # --- for programs ----------------------------------------------------------------------------

    def add(self, pid: int, device: str, key: AbilityKey, watcher: IAbilityWatcher) -> None:
        """Have a program told of an ability of a device (a UDID), which may be offline.

        Raises:
            ServiceError: the object is in use (1001), or the process has 256 subscriptions (1010).
            DeadObjectError: it ended (-32).
        """
        remote = watcher.as_object()
        program = _Program(self, pid, watcher)
        with self._lock:
            self._check(pid, remote)
            target = self._targets.get((device, key))
            fresh = target is None
            if target is None:
                target = self._targets[device, key] = _Target(device, key)
            program.target = target
            self._programs[remote] = program
            for ability in sorted(target.present):
                self._put(program, ability, there=True)
        try:
            program.watch_life()
        except BaseException:
            self.remove(watcher)
            raise
        self._serial.drain([program])
        if fresh:
            self._post(device, lambda: self._connect(target))

    def remove(self, watcher: IAbilityWatcher) -> bool:
        """Tell a program nothing more; return whether it was to be told of something."""
        with self._lock:
            program = self._programs.pop(watcher.as_object(), None)
            if program is None or program.target is None:
                return False
            target = program.target
            link = None
            if not any(one.target is target for one in self._programs.values()):
                del self._targets[target.device, target.key]
                link, target.link = target.link, None
        program.forget_life()
        if link is not None:
            self._post(target.device, lambda: _leave(link))
        return True

    def close(self) -> None:
        """Forget all; nobody is told anything."""
        with self._lock:
            programs, self._programs = list(self._programs.values()), {}
            self._targets.clear()
        for program in programs:
            program.forget_life()

    def _check(self, pid: int, remote: IRemoteObject) -> None:
        if remote in self._programs:
            raise ServiceError("this object hears of an ability already; use a new one for each subscription")
        number = sum(program.pid == pid for program in self._programs.values())
        if number >= limits.MAX_SUBSCRIPTIONS_PER_PID:
            raise ServiceError(
                f"process {pid} has {number} subscriptions to abilities of other devices, which is the limit; "
                "unsubscribe some first",
                code=codes.SUBSCRIBE_LIMIT,
            )

    def _put(self, program: _Program, ability: int, *, there: bool) -> None:
        """Under the lock."""
        target = program.target
        assert target is not None
        self._serial.put(program, lambda: program.tell(target.device, ability, there=there))

    # --- from and to other devices ------------------------------------------------------------------

    def presence(self, presence: Presence) -> None:
        """A device came: ask it for everything that is subscribed; it does not block."""
        if presence.event is PresenceEvent.ONLINE:
            self._reconnect(presence.device.udid)

    def changed(self, link: _Link, ability: int, *, there: bool) -> None:
        """A device tells of an ability."""
        target = link.target
        if there and not self._declared(target.key, ability):
            return  # asked for by a name; only now we know which it is
        with self._lock:
            if target.link is not link or (ability in target.present) == there:
                return
            if there:
                target.present.add(ability)
            else:
                target.present.remove(ability)
            told = self._tell_all(target, [ability], there=there)
        self._serial.drain(told)

    def _tell_all(self, target: _Target, abilities: list[int], *, there: bool) -> list[_Program]:
        """Under the lock: queue it; return who is to be told."""
        programs = [program for program in self._programs.values() if program.target is target]
        for program in programs:
            for ability in abilities:
                self._put(program, ability, there=there)
        return programs

    def _device_lost(self, udid: str, why: str) -> None:
        """A device left or began anew (dbinder): what it had is gone, and what it was asked forgotten."""
        told: list[_Program] = []
        with self._lock:
            for target in self._targets.values():
                if target.device == udid:
                    told += self._tell_all(target, sorted(target.present), there=False)
                    target.present.clear()
                    target.link = None
        if told:
            self._dbinder.driver.submit(lambda: self._serial.drain(told))
        self._reconnect(udid)

    def _reconnect(self, udid: str) -> None:
        with self._lock:
            targets = [target for target in self._targets.values() if target.device == udid]
        for target in targets:
            self._post(udid, lambda target=target: self._connect(target))  # type: ignore[misc]

    def _post(self, udid: str, work: Callable[[], None]) -> None:
        """Have a device asked, after what it is asked already."""
        with self._lock:
            queue = self._queues.setdefault(udid, SerialQueue(f"binderkit-watch-{udid[:8]}"))
        queue.post(work).add_done_callback(_look_at)

    def _connect(self, target: _Target) -> None:
        """Ask a device that is there to tell us; nothing happens if it was asked already, or nobody wants to know."""
        if not self._is_online(target.device):
            return
        link = _Link(self, target)
        with self._lock:
            if target.link is not None or self._targets.get((target.device, target.key)) is not target:
                return
            target.link = link
        for pause in _PAUSES:
            try:
                self._ask(link)
                return
            except Problem as problem:
                why = problem.text
                break
            except IpcError as error:
                why = str(error)
            # It may have come a moment ago, and not serve others yet.
            if self._dbinder.closing.wait(pause) or target.link is not link or not self._is_online(target.device):
                return
        _log.warning("device %s does not tell of ability %r: %s", target.device[:8], target.key, why)
        with self._lock:
            if target.link is link:
                target.link = None

    def _ask(self, link: _Link) -> None:
        target = link.target
        peer = proxy(IPeerAbilities, self._dbinder.get(target.device, SOFTBUS_ID))
        peer.watch(target.key, link)
        with self._lock:
            link.peer = peer
            wanted = target.link is link
        if not wanted:
            _leave(link)

    def _is_online(self, udid: str) -> bool:
        try:
            return self._dbinder.resolve(udid) == udid
        except ServiceError:
            return False


def _look_at(done: Future[None]) -> None:
    error = done.exception()
    if error is not None:
        _log.error("asking another device failed", exc_info=error)


def _leave(link: _Link) -> None:
    """Have the other device tell no more; when it was not asked yet, whoever is about to ask it sees to that."""
    if link.peer is None:
        return
    try:
        link.peer.unwatch(link.target.key, link)
    except IpcError as error:
        _log.debug("device %s is gone, and the subscription with it: %s", link.target.device[:8], error)


class _Target:
    """An ability of a device that somebody wants to hear of.

    Attributes:
        present: ids that are there now: one, but for a name that an ability of another id takes over.
        link: what the device tells now; None while it is not asked.
    """

    def __init__(self, device: str, key: AbilityKey) -> None:
        self.device = device
        self.key = key
        self.present: set[int] = set()
        self.link: _Link | None = None


class _Link(IAbilityWatcher):
    """What a device was given to tell us, one per time it is asked."""

    def __init__(self, watches: Watches, target: _Target) -> None:
        self._watches = watches
        self.target = target
        self.peer: IPeerAbilities | None = None

    def ability_changed(self, device: str, ability: int, there: bool) -> None:
        """An ability of the calling device came or went."""
        caller = calling_identity()
        if caller.device_id != self.target.device:
            raise RefusedError(f"only device {self.target.device[:8]} tells of its abilities, not {caller!r}")
        self._watches.changed(self, ability, there=there)


class _Program:
    """One subscription of a program of this device."""

    def __init__(self, watches: Watches, pid: int, watcher: IAbilityWatcher) -> None:
        self._watches = watches
        self._recipient = Watcher(lambda: self._end())
        self._over = False
        self.pid = pid
        self.watcher = watcher
        self.target: _Target | None = None

    def tell(self, device: str, ability: int, *, there: bool) -> None:
        """Tell it; one that cannot be told is forgotten."""
        if self._over:
            return
        try:
            self.watcher.ability_changed(device, ability, there)
        except IpcError as error:
            _log.warning("process %d is told nothing more of device %s: %s", self.pid, device[:8], error)
            self._end()

    def _end(self) -> None:
        self._over = True
        self._watches.remove(self.watcher)

    def watch_life(self) -> None:
        """End the subscription with its process (DeadObjectError: it did)."""
        remote = self.watcher.as_object()
        if isinstance(remote, RemoteProxy):
            remote.register_death_recipient(self._recipient)

    def forget_life(self) -> None:
        """It is over."""
        remote = self.watcher.as_object()
        if isinstance(remote, RemoteProxy):
            remote.unregister_death_recipient(self._recipient)
