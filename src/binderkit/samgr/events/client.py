"""How programs use common events and parameters: publish, subscribe, read and set.

Owns: the functions, and the subscription a caller holds. Subscriptions are made again when SAMgr was restarted.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Final, TypeAlias

from binderkit.errors import DeadObjectError
from binderkit.interface import proxy
from binderkit.samgr import client as manager
from binderkit.samgr import reconnect
from binderkit.samgr.events.contracts import (
    COMMON_EVENT_ID,
    PARAMETERS_ID,
    CommonEvent,
    EventFilter,
    ICommonEvents,
    ICommonEventSubscriber,
    IParameters,
    IParameterWatcher,
)

if TYPE_CHECKING:
    from binderkit.samgr.client import SystemAbilityManagerClient

_log = logging.getLogger("binderkit.samgr")
COME_BACK_WAIT: Final = 5.0
"""Seconds a service may take to be there again after SAMgr was restarted."""
_KIND: Final = "event subscription"

Leave: TypeAlias = Callable[[], object]
Join: TypeAlias = "Callable[[SystemAbilityManagerClient], Leave]"


class Subscription:
    """Somebody is told something; ``close``, or the end of a ``with`` block, ends it.

    Keep it: it holds the object that is told.

    Args:
        join: subscribes, with the client it is given, and returns what takes that back; called again after each
            restart of SAMgr.
    """

    def __init__(self, join: Join) -> None:
        self._lock = threading.Lock()
        self._join = join
        self._leave: Leave | None = None
        self._closed = False
        reconnect.remember(_KIND, self, self._subscribe)
        try:
            self._subscribe(manager.system_ability_manager())
        except BaseException:
            reconnect.forget(_KIND, self)
            raise

    def _subscribe(self, client: SystemAbilityManagerClient) -> None:
        leave = self._join(client)
        with self._lock:
            closed = self._closed
            if not closed:
                self._leave = leave
        if closed:  # while SAMgr's restart was being made up for
            _leave_quietly(leave)

    def close(self) -> None:
        """Be told nothing more. Idempotent."""
        reconnect.forget(_KIND, self)
        with self._lock:
            self._closed = True
            leave, self._leave = self._leave, None
        if leave is not None:
            _leave_quietly(leave)

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()


def _leave_quietly(leave: Leave) -> None:
    try:
        leave()
    except DeadObjectError as error:
        _log.debug("the service that told us is gone: %s", error)


class _Subscriber(ICommonEventSubscriber):
    def __init__(self, callback: Callable[[CommonEvent], object]) -> None:
        self._callback = callback

    def on_event(self, event: CommonEvent) -> None:
        self._callback(event)


class _Watcher(IParameterWatcher):
    def __init__(self, callback: Callable[[str, str], object]) -> None:
        self._callback = callback

    def on_changed(self, name: str, value: str) -> None:
        self._callback(name, value)


def common_events() -> ICommonEvents:
    """Return the common event service.

    Raises:
        ServiceNotFoundError: this device has none (1008). NoServiceManagerError: there is no SAMgr (1007).
    """
    return proxy(ICommonEvents, manager.get_system_ability(COMMON_EVENT_ID))


def parameters() -> IParameters:
    """Return the parameter service; raises as ``common_events`` does."""
    return proxy(IParameters, manager.get_system_ability(PARAMETERS_ID))


def publish_common_event(
    name: str, *, code: int = 0, data: str = "", parameters: dict[str, str] | None = None, sticky: bool = False
) -> None:
    """Tell a common event to everybody who subscribed, and start what waits for it.

    Args:
        name: 1 to 128 characters. code: of 32 bits.
        data, parameters: what it says, up to 16 Ki characters and 64 parameters.
        sticky: who subscribes later hears it too, until remove_sticky.

    Raises:
        ParamValueError, TooBigError: it cannot be sent (401, 1900009).
        RemoteError: the service refuses: a name of the system, another user's, too many sticky events (303, 29201).
    """
    common_events().publish(CommonEvent(name, code, data, dict(parameters or {}), sticky))


def subscribe_common_event(
    names: str | Iterable[str], callback: Callable[[CommonEvent], object], *, publisher_uid: int | None = None
) -> Subscription:
    """Have ``callback(event)`` called on a worker thread for every common event with one of these names.

    Args:
        names: one, or up to 64. publisher_uid: only what this user publishes.

    Returns:
        The subscription; keep it, close it. It goes on when SAMgr was restarted, without what was published meanwhile.
    """
    subscriber = _Subscriber(callback)
    wanted = EventFilter((names,) if isinstance(names, str) else tuple(names), publisher_uid)

    def join(client: SystemAbilityManagerClient) -> Leave:
        # The very service that was joined is left again: looking it up could find another one, or none.
        service = proxy(ICommonEvents, client.get_system_ability(COMMON_EVENT_ID, COME_BACK_WAIT))
        service.subscribe(wanted, subscriber)
        return lambda: service.unsubscribe(subscriber)

    return Subscription(join)


def get_parameter(name: str, default: str = "") -> str:
    """Return a system parameter, ``default`` when it was never set."""
    return parameters().get(name, default)


def set_parameter(name: str, value: str) -> None:
    """Set a system parameter: up to 96 characters; names of up to 128, words joined by dots.

    Raises:
        RemoteError: the service refuses: another user's, a constant, too many (303, 29201), or no such name (401).
    """
    parameters().set(name, value)


def watch_parameter(pattern: str, callback: Callable[[str, str], object]) -> Subscription:
    """Have ``callback(name, value)`` called on a worker thread for every change of a parameter, or of all "prefix*"."""
    watcher = _Watcher(callback)

    def join(client: SystemAbilityManagerClient) -> Leave:
        service = proxy(IParameters, client.get_system_ability(PARAMETERS_ID, COME_BACK_WAIT))
        service.watch(pattern, watcher)
        return lambda: service.unwatch(watcher)

    return Subscription(join)
