"""What this process registered with SAMgr, made again when SAMgr died and is back.

Owns: the list of registrations (abilities, the process, subscriptions), the watch on SAMgr's life, and the thread that
exists only between SAMgr's death and the moment when everything is registered again.

Why here and not in SAMgr: the objects live in the processes that offer them. SAMgr keeps nothing that could go stale,
and proxies that clients hold already are direct, so nobody notices a restart who does not ask SAMgr something.

Rules upheld: the process is registered before its abilities, and these before subscriptions; a registration that is
withdrawn is never made again; nothing here starts SAMgr; the search slows down to one look a second and ends after
RECONNECT_FOR; a listener hears Removed for every ability that was there before and did not come back within
COME_BACK_WAIT, and Removed, then Added for one that did: whether it is the same object nobody can know any more.

Locks: ``_lock`` guards the records of this process; nothing is called while it is held.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from binderkit.errors import DeadObjectError, IpcError, NoServiceManagerError
from binderkit.ipc.driver import Driver, current_driver, peek_driver
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.samgr.listener import SystemAbilityListener

if TYPE_CHECKING:
    from binderkit.samgr.client import SystemAbilityManagerClient

_log = logging.getLogger("binderkit.samgr")

PROCESS: Final = "process"
ABILITY: Final = "ability"
SUBSCRIPTION: Final = "subscription"
_ORDER: Final = {PROCESS: 0, ABILITY: 1}
"""Kinds that come first; all others follow in the order in which they were remembered."""

FIRST_PAUSE: Final = 0.02
"""Seconds between the first two looks for SAMgr; each pause is twice the one before."""
LONGEST_PAUSE: Final = 1.0
RECONNECT_FOR: Final = 600.0
"""Seconds after which the search ends; the next registration of this process starts it again."""
COME_BACK_WAIT: Final = 5.0
"""Seconds that abilities may take to come back after SAMgr did, before listeners hear that they are gone."""
ATTEMPTS: Final = 3
"""How often a registration that is refused is tried with one SAMgr."""

Redo = Callable[["SystemAbilityManagerClient"], None]


@dataclass
class _Record:
    """One registration: how it is made, and the SAMgr that knows it (by the order in which they were found)."""

    redo: Redo
    generation: int


@dataclass
class _Memory:
    """What the process has at SAMgr, as long as it uses ``driver``."""

    driver: Driver
    records: dict[tuple[str, Hashable], _Record] = field(default_factory=dict)
    manager: RemoteProxy | None = None
    watcher: _Watcher | None = None
    generation: int = 0
    searching: bool = False
    died: threading.Event = field(default_factory=threading.Event)


_lock = threading.Lock()
_memory: _Memory | None = None


def remember(kind: str, key: Hashable, redo: Redo) -> None:
    """Have a registration made again whenever SAMgr was restarted.

    Call it before the request is sent, and ``forget`` when it was refused: a SAMgr that dies in between then loses
    nothing. A registration of the same kind and key is replaced.

    Args:
        kind: PROCESS, ABILITY, SUBSCRIPTION or another word; says the order.
        key: what tells it from others of its kind. A SystemAbilityListener in it (or in a tuple) is told what changed.
        redo: makes it again with the client it is given.

    Raises:
        NoServiceManagerError, RefusedError: no SAMgr can be watched; nothing is remembered then (1007, 303).
    """
    memory = _current()
    name, record = (kind, key), _Record(redo, memory.generation)
    with _lock:
        before = memory.records.get(name)
        memory.records[name] = record
    try:
        _watch(memory)
    except IpcError:
        with _lock:
            if before is not None:
                memory.records[name] = before
            else:
                memory.records.pop(name, None)
        raise
    with _lock:
        # The caller's own request goes to the SAMgr that is watched now.
        record.generation = memory.generation


def forget(kind: str, key: Hashable) -> bool:
    """Never make a registration again; return whether it was remembered."""
    memory = _memory
    if memory is None:
        return False
    with _lock:
        return memory.records.pop((kind, key), None) is not None


def remembered() -> list[tuple[str, Hashable]]:
    """Return (kind, key) of all registrations of this process, in the order in which they are made again."""
    memory = _memory
    if memory is None or memory.driver is not peek_driver():
        return []
    with _lock:
        return [name for name, _ in _ordered(memory)]


def _current() -> _Memory:
    """Return the memory for the driver in use: registrations made through one that was closed are gone with it."""
    global _memory
    driver = current_driver()
    with _lock:
        if _memory is None or _memory.driver is not driver:
            _memory = _Memory(driver)
        return _memory


def _ordered(memory: _Memory) -> list[tuple[tuple[str, Hashable], _Record]]:
    return sorted(memory.records.items(), key=lambda item: _ORDER.get(item[0][0], len(_ORDER)))


# --- the watch on SAMgr ------------------------------------------------------------------------------


class _Watcher(DeathRecipient):
    """Is told of SAMgr's end."""

    def __init__(self, memory: _Memory, manager_pid: int) -> None:
        self._memory = memory
        self.pid = manager_pid
        self.told = False

    def on_remote_died(self) -> None:
        memory = self._memory
        if memory.driver is not peek_driver():
            return  # this process closed its driver; SAMgr may be well
        _log.info("SAMgr (pid %d) is gone; what this process registered is made again when it is back", self.pid)
        _lost(memory, self)
        memory.died.set()
        _search(memory)


def _lost(memory: _Memory, watcher: _Watcher) -> None:
    """Tell listeners, once for each SAMgr, that what it said is not sure any more."""
    with _lock:
        if watcher.told:
            return
        watcher.told = True
        listeners = _listeners(memory)
    for listener in listeners:
        listener.manager_lost(watcher.pid)


def _watch(memory: _Memory) -> None:
    """Watch the SAMgr in use; one that is another than before gets everything that was registered before.

    Raises:
        NoServiceManagerError, RefusedError: there is none (1007, 303).
    """
    manager = memory.driver.context_object(start=False)
    with _lock:
        if memory.manager is manager:
            return
    watcher = _Watcher(memory, manager.owner.pid)
    manager.register_death_recipient(watcher)
    with _lock:
        if memory.manager is manager:
            before, rival = None, watcher
        else:
            before, rival = memory.watcher, None
            memory.manager, memory.watcher = manager, watcher
            memory.generation += 1
    if rival is not None:
        manager.unregister_death_recipient(rival)
    elif before is not None:
        _lost(memory, before)
        _search(memory)


def _search(memory: _Memory) -> None:
    """See to it that a thread looks for SAMgr and registers everything anew."""
    with _lock:
        if memory.searching:
            return
        memory.searching = True
    threading.Thread(target=_reconnect, args=(memory,), name="binderkit-reconnect", daemon=True).start()


def _reconnect(memory: _Memory) -> None:
    """Find SAMgr, register everything, tell listeners what is gone; all over again when it dies meanwhile."""
    try:
        while True:
            memory.died.clear()
            if not _look_for_manager(memory):
                return
            if not _register_all(memory):
                continue
            if not memory.died.wait(COME_BACK_WAIT) and _in_use(memory):
                _settle(memory)
            with _lock:
                if not memory.died.is_set() and not _pending(memory):
                    memory.searching = False
                    return
    except BaseException:
        _log.exception("the registrations of this process could not be made again")
        raise
    finally:
        with _lock:
            memory.searching = False


def _look_for_manager(memory: _Memory) -> bool:
    """Wait until a SAMgr runs and is watched; False when this process does not use it any more, or after long."""
    end = time.monotonic() + RECONNECT_FOR
    pause = FIRST_PAUSE
    rest = threading.Event()
    while _in_use(memory):
        try:
            _watch(memory)
        except NoServiceManagerError:
            pass  # none runs yet: that is what we wait for
        except IpcError as error:
            _log.warning("SAMgr cannot be reached: %s", error)
        with _lock:
            manager = memory.manager
        if manager is not None and not manager.is_object_dead():
            return True
        if time.monotonic() > end:
            _log.error("no SAMgr came back within %d s; the next registration looks again", RECONNECT_FOR)
            return False
        rest.wait(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    return False


def _in_use(memory: _Memory) -> bool:
    return memory.driver is peek_driver() and bool(memory.records)


def _pending(memory: _Memory) -> list[tuple[tuple[str, Hashable], _Record]]:
    """What the SAMgr in use was not told yet (under the lock)."""
    return [item for item in _ordered(memory) if item[1].generation != memory.generation]


def _register_all(memory: _Memory) -> bool:
    """Make every registration with the SAMgr in use; False when it died meanwhile."""
    from binderkit.samgr.client import SystemAbilityManagerClient

    made = 0
    while True:
        with _lock:
            waiting, generation, manager = _pending(memory), memory.generation, memory.manager
        if not waiting or manager is None:
            _log.info("SAMgr is back: %d registrations made again", made)
            return True
        client = SystemAbilityManagerClient(manager)
        for name, record in waiting:
            with _lock:
                if memory.records.get(name) is not record:
                    continue  # withdrawn, or made anew, meanwhile
            try:
                _redo(record.redo, client, manager, name)
            except DeadObjectError:
                return False
            made += 1
            with _lock:
                record.generation = generation


def _redo(redo: Redo, client: SystemAbilityManagerClient, manager: RemoteProxy, name: tuple[str, Hashable]) -> None:
    """Make one registration; one that is refused ATTEMPTS times is told in the log.

    Raises:
        DeadObjectError: SAMgr is gone.
    """
    rest = threading.Event()
    for attempt in range(1, ATTEMPTS + 1):
        try:
            redo(client)
            return
        except Exception as error:
            if manager.is_object_dead():
                raise DeadObjectError(f"SAMgr died while {name} was registered again") from error
            if attempt == ATTEMPTS:
                _log.exception("the %s %r could not be registered again with the new SAMgr", *name)
                return
        rest.wait(FIRST_PAUSE * 2**attempt)


def _listeners(memory: _Memory) -> list[SystemAbilityListener]:
    """Return the listeners among the keys, each once (under the lock)."""
    found: dict[int, SystemAbilityListener] = {}
    for _, key in memory.records:
        for part in key if isinstance(key, tuple) else (key,):
            if isinstance(part, SystemAbilityListener):
                found[id(part)] = part
    return list(found.values())


def _settle(memory: _Memory) -> None:
    """Tell listeners what did not come back, on worker threads: a listener may take its time."""
    with _lock:
        listeners = _listeners(memory)
    for listener in listeners:
        memory.driver.submit(listener.manager_settled)


def _after_fork() -> None:
    """A forked child has registered nothing."""
    global _lock, _memory
    _lock = threading.Lock()
    _memory = None


os.register_at_fork(after_in_child=_after_fork)
