"""One system ability in the process that hosts it: its object, its state, and the order of its callbacks.

Owns: start (dependencies, import, object, on_start), idle, active, stop, and what the ability registered while it ran.

Rules upheld (reference 2.5, 2.7): the callbacks of an ability run one at a time; it starts only when all it depends on
is registered; a start that fails leaves nothing registered and is reported; after a stop nothing of it is registered;
an ability that was told to stop while it starts publishes nothing any more; an answer of on_idle that makes no sense,
or an on_idle that raises, keeps the ability running: what cannot be asked must not be lost.
"""

from __future__ import annotations

import logging
import sys
import threading
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol, TypeVar, cast

from binderkit.errors import (
    DeadObjectError,
    IpcError,
    NoServiceManagerError,
    ServiceError,
    ServiceNotFoundError,
)
from binderkit.ipc.driver import current_driver
from binderkit.ipc.remote import IRemoteBroker, IRemoteObject, RemoteObject
from binderkit.samgr import codes
from binderkit.samgr.entries import load_entry, make_ability
from binderkit.samgr.listener import SystemAbilityListener
from binderkit.samgr.serial import SerialQueue
from binderkit.samgr.system_ability import SystemAbility, bind, overridden, unbind

if TYPE_CHECKING:
    from binderkit.samgr.ability import AbilityKey
    from binderkit.samgr.profile import AbilityProfile
    from binderkit.samgr.reason import OnDemandReason

_log = logging.getLogger("binderkit.samgr")

IMPORT_LIMIT: Final = 60.0
"""Seconds the import of an entry may take before the process is given up (reference 2.7)."""
START_NOTICE: Final = 10.0
"""Seconds after which the log shows where on_start stands."""
IDLE_LIMIT: Final = 3.0
"""Seconds on_idle may take; SAMgr waits for the answer."""
MANAGER_PATIENCE: Final = 10.0
"""Seconds for which an ability waits for a SAMgr that is being restarted."""
_PAUSE: Final = 0.05
REFUSES: Final = -1
T = TypeVar("T")


class HostedState(IntEnum):
    """Where an ability is in its life, as its own process sees it."""

    NOT_LOADED = 0
    STARTING = 1
    ACTIVE = 2
    IDLE = 3
    """it agreed to be unloaded"""
    STOPPING = 4


class Manager(Protocol):
    """What the framework asks of SAMgr; the module binderkit.samgr.client has it all."""

    def add_system_ability(
        self,
        key: AbilityKey,
        remote: IRemoteObject | IRemoteBroker,
        *,
        name: str = ...,
        distributed: bool = ...,
        dump_flags: int = ...,
        capability: str = ...,
        permission: str = ...,
    ) -> int: ...
    def remove_system_ability(self, key: AbilityKey) -> None: ...
    def get_system_ability(self, key: AbilityKey, timeout: float | None = ...) -> IRemoteObject: ...
    def subscribe_system_ability(
        self, key: AbilityKey, listener: SystemAbilityListener, device_id: str = ...
    ) -> None: ...
    def unsubscribe_system_ability(
        self, key: AbilityKey, listener: SystemAbilityListener, device_id: str = ...
    ) -> None: ...
    def add_system_process(self, name: str, local: IRemoteObject | IRemoteBroker) -> None: ...
    def unload_system_ability(self, key: AbilityKey) -> None: ...
    def cancel_unload_system_ability(self, key: AbilityKey) -> None: ...
    def report_start_failure(self, key: AbilityKey, text: str) -> None: ...


class HostedAbility:
    """The life of one ability.

    Args:
        profile: what the profile says of it.
        directory: where a relative entry starts.
        manager: SAMgr.
        hung: called with a text when the entry's import takes longer than IMPORT_LIMIT.
    """

    def __init__(self, profile: AbilityProfile, directory: Path, manager: Manager, hung: Callable[[str], None]) -> None:
        self.profile = profile
        self._directory = directory
        self._manager = manager
        self._hung = hung
        self._queue = SerialQueue(f"ability-{profile.id}")
        self._state = HostedState.NOT_LOADED
        self._ability: SystemAbility | None = None
        self._asked = self._current = self._dropped = 0
        self._published = False
        self._object: IRemoteObject | None = None
        self._disowned = False
        self._listener: _Ears | None = None
        self._listening: list[tuple[AbilityKey, str]] = []

    @property
    def state(self) -> HostedState:
        """Where it is in its life."""
        return self._state

    @property
    def title(self) -> str:
        """What texts call it."""
        name = f" {self.profile.name!r}" if self.profile.name else ""
        return f"system ability {self.profile.id}{name}"

    # --- what SAMgr and the host ask ----------------------------------------------------------------

    def start(self, reason: OnDemandReason) -> Future[bool]:
        """Start it; the future says whether it runs afterwards. One that runs already is left alone."""
        if not self._disowned:
            self._asked += 1
        number = self._asked
        return self._queue.post(lambda: self._start(number, reason))

    def stop(self, reason: OnDemandReason) -> Future[None]:
        """Stop it, after what it is doing now."""
        self._dropped = self._asked
        return self._queue.post(lambda: self._stop(reason))

    def idle(self, reason: OnDemandReason) -> int:
        """Return what on_idle says: 0 unload now, n in n ms, negative not.

        One that is published but still in on_start is asked when it is out of it.
        """
        if self._state not in (HostedState.STARTING, HostedState.ACTIVE, HostedState.IDLE):
            return REFUSES
        asked = self._queue.post(lambda: self._idle(reason))
        try:
            return asked.result(IDLE_LIMIT)
        except TimeoutError:
            asked.cancel()
            _log.warning("%s did not answer on_idle within %g s, so it stays", self.title, IDLE_LIMIT)
            return REFUSES

    def active(self, reason: OnDemandReason) -> bool:
        """Tell it that it is needed again; return whether it runs."""
        if self._state not in (HostedState.ACTIVE, HostedState.IDLE):
            return False
        self._queue.post(lambda: self._active(reason))
        return True

    def extension(self, name: str, data: bytes) -> bytes:
        """Return what on_extension answers.

        Raises:
            ServiceError: the profile names no such extension (1001), or the ability does not run (1008).
        """
        if name not in self.profile.extensions:
            known = ", ".join(self.profile.extensions) or "none"
            raise ServiceError(f"{self.title} has no extension {name!r}; its profile names: {known}")
        ability = self._ability
        if ability is None or self._state not in (HostedState.ACTIVE, HostedState.IDLE):
            raise ServiceError(f"{self.title} does not run; load it first", code=codes.ABILITY_NOT_FOUND)
        answer = _run(ability.on_extension(name, data))
        if not isinstance(answer, bytes):
            raise ServiceError(f"on_extension of {self.title} returned {type(answer).__name__}; bytes were expected")
        return answer

    def references(self) -> int:
        """Return how many other processes hold its object; SAMgr, which gives it to everybody, is one of them.

        Raises:
            ServiceError: it is not registered (1008), or its object lives in another process, which counts (1001).
        """
        target = self._object
        if target is None:
            raise ServiceError(
                f"{self.title} is not registered, so nobody holds it; load it first", code=codes.ABILITY_NOT_FOUND
            )
        if not isinstance(target, RemoteObject):
            raise ServiceError(
                f"{self.title} published an object of another process, and only that one knows who holds it; publish "
                "an object of this process, or take unreferenced-unload out of the profile",
                code=codes.INVALID_INPUT,
            )
        return current_driver().holders(target)

    def disown(self) -> None:
        """Leave SAMgr alone from now on: the id belongs to another process, whose registration must stay."""
        self._disowned = True
        self._dropped = self._asked

    # --- on its own thread ----------------------------------------------------------------------------

    @property
    def _unwanted(self) -> bool:
        """Whether it was told to stop since it was told to start."""
        return self._current <= self._dropped

    def _start(self, number: int, reason: OnDemandReason) -> bool:
        if self._state is not HostedState.NOT_LOADED:
            self._current = number
            return True
        self._current = number
        if self._unwanted:
            return False
        self._state = HostedState.STARTING
        try:
            self._await_dependencies()
            ability = self._ability = self._made()
            bind(ability, self.profile.id, reason, self)
            with _noticing(START_NOTICE, lambda: self._notice("on_start")):
                _run(ability.on_start(reason))
        except (Exception, SystemExit) as error:
            self._failed(error)
            return False
        self._state = HostedState.ACTIVE
        _log.info("%s started (%s)", self.title, reason.id.name.lower())
        if not self._published:
            _log.warning("%s started, but on_start did not publish anything; nobody can get it yet", self.title)
        return True

    def _made(self) -> SystemAbility:
        entry = self.profile.entry
        with _noticing(IMPORT_LIMIT, lambda: self._hung(self._where(f"the import of {entry!r}", IMPORT_LIMIT))):
            maker = load_entry(entry, self._directory)
        return make_ability(entry, maker)

    def _await_dependencies(self) -> None:
        """Wait until all it depends on is registered (reference 2.6).

        Raises:
            ServiceError: not within depend_timeout.
        """
        end = time.monotonic() + self.profile.depend_timeout
        for needed in self.profile.depend:
            try:
                _patiently(lambda: self._manager.get_system_ability(needed, max(0.001, end - time.monotonic())))  # noqa: B023
            except IpcError as error:
                raise ServiceError(
                    f"{self.title} depends on system ability {needed}, which was not there within "
                    f"{self.profile.depend_timeout:g} s: {error}",
                    code=codes.ABILITY_NOT_FOUND,
                ) from error

    def _failed(self, error: BaseException) -> None:
        text = f"{type(error).__name__}: {error.args[0] if isinstance(error, IpcError) and error.args else error}"
        _log.error("%s did not start: %s", self.title, text, exc_info=error)
        self._release()
        if self._unwanted:
            return
        try:
            _patiently(lambda: self._manager.report_start_failure(self.profile.id, text))
        except IpcError as unheard:
            _log.warning("SAMgr could not be told that %s did not start: %s", self.title, unheard)

    def _stop(self, reason: OnDemandReason) -> None:
        ability = self._ability
        if ability is None:
            return
        self._state = HostedState.STOPPING
        try:
            _run(ability.on_stop(reason))
        except (Exception, SystemExit):
            _log.exception("on_stop of %s failed; it is taken out all the same", self.title)
        self._release()
        _log.info("%s stopped (%s)", self.title, reason.id.name.lower())

    def _release(self) -> None:
        """Take out whatever of the ability is registered; it is not loaded any more."""
        ability, self._ability = self._ability, None
        if ability is not None:
            unbind(ability)
        listener, self._listener = self._listener, None
        keys, self._listening = self._listening, []
        if listener is not None:
            for key, device in keys:
                self._quietly(
                    lambda key=key, device=device: self._manager.unsubscribe_system_ability(key, listener, device)  # type: ignore[misc]
                )
        published, self._published, self._object = self._published, False, None
        if published and not self._disowned:
            self._quietly(lambda: self._manager.remove_system_ability(self.profile.id))
        self._state = HostedState.NOT_LOADED

    def _quietly(self, withdraw: Callable[[], None]) -> None:
        """Withdraw something that may be gone already, or whose SAMgr is: both are as good."""
        try:
            withdraw()
        except ServiceNotFoundError:
            return
        except IpcError as error:
            _log.info("%s: %s", self.title, error)

    def _idle(self, reason: OnDemandReason) -> int:
        ability = self._ability
        if ability is None:
            return REFUSES
        try:
            delay = _run(ability.on_idle(reason))
            if isinstance(delay, bool) or not isinstance(delay, int) or delay > 0x7FFFFFFF:
                raise TypeError(f"on_idle returned {delay!r}; milliseconds (0: now, negative: not) were expected")
        except (Exception, SystemExit):
            _log.exception("on_idle of %s failed, so it stays", self.title)
            return REFUSES
        if delay >= 0:
            self._state = HostedState.IDLE
        return max(delay, REFUSES)

    def _active(self, reason: OnDemandReason) -> None:
        ability = self._ability
        if ability is None or self._state is not HostedState.IDLE:
            return
        self._state = HostedState.ACTIVE
        try:
            _run(ability.on_active(reason))
        except (Exception, SystemExit):
            _log.exception("on_active of %s failed; it goes on", self.title)

    def heard(self, ability_id: int, device_id: str, *, there: bool) -> None:
        """Tell it of another ability (from its listener)."""
        self._queue.post(lambda: self._heard(ability_id, device_id, there))

    def _heard(self, ability_id: int, device_id: str, there: bool) -> None:
        ability = self._ability
        if ability is None:
            return
        told = ability.on_add_system_ability if there else ability.on_remove_system_ability
        try:
            _run(told(ability_id, device_id))
        except (Exception, SystemExit):
            _log.exception("%s of %s failed; it goes on", told.__name__, self.title)

    # --- what the ability asks (Services) ---------------------------------------------------------------

    def publish(self, remote: IRemoteObject | IRemoteBroker) -> int:
        """Register the ability's object; see SystemAbility.publish."""
        target = remote.as_object() if isinstance(remote, IRemoteBroker) else remote
        if not isinstance(target, IRemoteObject):
            raise ServiceError(
                f"{self.title} published {remote!r}; pass a RemoteObject, or an object that implements an interface",
                code=codes.ABILITY_OBJECT_NULL,
            )
        if self._unwanted:
            raise ServiceError(f"{self.title} was told to stop, so it cannot publish anything any more")
        self._attach_dump(target)
        profile = self.profile
        self._published = True  # before the request: if its reply is lost, the ability is still taken out at the end
        self._object = target

        def add() -> int:
            return self._manager.add_system_ability(
                profile.id,
                target,
                name=profile.name,
                distributed=profile.distributed,
                dump_flags=profile.dump_level or codes.DUMP_FLAG_PRIORITY_DEFAULT,
                permission=profile.permission,
            )

        return _patiently(add)

    def _attach_dump(self, target: IRemoteObject) -> None:
        """Have a dump of the object answered by the ability, if only the ability knows how."""
        ability = self._ability
        if ability is None or not isinstance(target, RemoteObject) or not overridden(ability, ["on_dump"]):
            return
        if target is not cast("object", ability) and type(target).on_dump is not RemoteObject.on_dump:
            return
        own = ability.on_dump

        def on_dump(descriptor: int, arguments: list[str]) -> None:
            _run(own(descriptor, arguments))

        vars(target)["on_dump"] = on_dump

    def listen(self, key: AbilityKey, device_id: str = "") -> None:
        """Have the ability told of another one until it stops."""
        if self._listener is None:
            self._listener = _Ears(self)
        listener = self._listener
        _patiently(lambda: self._manager.subscribe_system_ability(key, listener, device_id))
        if (key, device_id) not in self._listening:
            self._listening.append((key, device_id))

    def cancel_idle(self) -> None:
        """Take a pending unload back."""
        self._manager.cancel_unload_system_ability(self.profile.id)

    def stop_requested(self) -> None:
        """Ask SAMgr to unload the ability."""
        self._manager.unload_system_ability(self.profile.id)

    # --- hanging ------------------------------------------------------------------------------------------

    def _notice(self, what: str) -> None:
        _log.warning("%s", self._where(f"{what} of {self.title}", START_NOTICE))

    def _where(self, what: str, seconds: float) -> str:
        """Say that something takes long, and where its thread stands."""
        thread = self._queue.thread
        frame = sys._current_frames().get(thread) if thread is not None else None
        stack = "".join(traceback.format_stack(frame)[-8:]) if frame is not None else "  (its thread ended)\n"
        return f"{what} takes longer than {seconds:g} s; it stands here:\n{stack}"


class _Ears(SystemAbilityListener):
    """Hears for one ability; what it hears waits in the ability's queue."""

    def __init__(self, hosted: HostedAbility) -> None:
        super().__init__()
        self._hosted = hosted

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self._hosted.heard(ability_id, device_id, there=True)

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self._hosted.heard(ability_id, device_id, there=False)


def _run(result: Any) -> Any:
    """Return what a callback answered, awaited on the handlers' event loop if it is a coroutine."""
    if not isinstance(result, Awaitable):
        return result
    from binderkit.ipc import loop  # asyncio costs as much as half of the rest; only abilities with coroutines pay

    return loop.run(result, None)


def _patiently(ask: Callable[[], T]) -> T:
    """Return what SAMgr answers; one that is being restarted is asked again, for MANAGER_PATIENCE seconds.

    What is asked here may be asked twice: registering the same object again, subscribing the same listener again.
    """
    end = time.monotonic() + MANAGER_PATIENCE
    rest = threading.Event()
    while True:
        try:
            return ask()
        except (DeadObjectError, NoServiceManagerError):
            if time.monotonic() > end:
                raise
        rest.wait(_PAUSE)


@contextmanager
def _noticing(seconds: float, action: Callable[[], None]) -> Iterator[None]:
    """Call ``action`` once, on another thread, when the block takes longer than ``seconds``."""
    timer = threading.Timer(seconds, action)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
        timer.join()
