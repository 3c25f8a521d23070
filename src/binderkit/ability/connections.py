"""The client's side of connections: one per ability and process, however many callbacks share it (reference 3.2).

Owns: connection ids, which callbacks share which connection, and its state. The ability manager knows one callback
object for each connection: an ``_Entry``.

Rules upheld (reference 3.2): a second connect while the first is under way just waits with it; one to a connected
ability gets the object at once, without the manager; a callback that leaves while others stay is told at once; the
last one that leaves disconnects; a connect without an answer for 30 s is made anew. Callbacks are called on worker
threads, without a lock, in order. When the manager dies, everybody is told, as when the service does.

Locks: ``_lock`` guards everything here; nothing is called while it is held.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple, Protocol

from binderkit.ability import codes
from binderkit.ability.contracts import IAbilityConnection, Refusal
from binderkit.ability.options import ConnectOptions, FailureCode
from binderkit.ability.serial import Serial
from binderkit.errors import AbilityError, IpcError, ParamTypeError, ParamValueError, RefusedError
from binderkit.ipc.context import calling_identity, comes_from
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import IRemoteObject

if TYPE_CHECKING:
    from binderkit.ability.want import ElementName, Want

_log = logging.getLogger("binderkit.ability")


class _State(Enum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    LEAVING = "leaving"


class _Key(NamedTuple):
    device_id: str
    bundle_name: str
    module_name: str
    ability_name: str


class Connector(Protocol):
    """Who makes connections: the ability manager, for other devices the distributed scheduler."""

    def connect_ability(self, want: Want, callback: IAbilityConnection) -> None:
        """See IAbilityManager."""

    def disconnect_ability(self, callback: IAbilityConnection) -> None:
        """See IAbilityManager."""

    def as_object(self) -> IRemoteObject:
        """Return the object behind it."""


class Connections:
    """The ability connections of this process.

    Args:
        submit: runs a task soon on another thread.
        clock: seconds, for the age of a connect.
    """

    def __init__(
        self, submit: Callable[[Callable[[], None]], None], *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._submit = submit
        self._clock = clock
        self._lock = threading.Lock()
        self._next_id = 0
        self._entries: dict[_Key, _Entry] = {}
        self._by_id: dict[int, _Entry] = {}
        self._leaving: set[_Entry] = set()
        self._serial = Serial()

    def connect(self, manager: Connector, want: Want, options: ConnectOptions) -> int:
        """Connect; return the connection's id. See client.connect_service_extension_ability."""
        key = _Key(want.device_id, want.bundle_name, want.module_name, want.ability_name)
        with self._lock:
            number = self._next_id
            self._next_id += 1
            entry = self._entries.get(key)
            fresh = entry is None or self._is_stale(entry)
            stale = entry if fresh else None
            if entry is None or fresh:
                entry = self._entries[key] = _Entry(self, manager, key, want, self._clock())
            entry.callbacks[number] = options
            self._by_id[number] = entry
            if entry.state is _State.CONNECTED:
                self._post_connected(number, options, entry)
        if stale is not None:
            self._expire(stale)
        if not fresh:
            self._submit(lambda: self._serial.drain([number]))
            return number
        try:
            manager.connect_ability(want, entry)
        except Refusal as refusal:
            code, text = refusal.code, refusal.text
            self._submit(lambda: self.failed(entry, code, text))
        except BaseException as error:
            with self._lock:
                entry.callbacks.pop(number, None)
                self._by_id.pop(number, None)
            self.failed(entry, codes.INTERNAL, f"connecting to {want.element} failed: {error}")
            raise
        return number

    def disconnect(self, number: int) -> None:
        """End one callback's share of a connection; of one that is over already nothing is left to end.

        Raises:
            ParamTypeError, ParamValueError: no connection ever had this id (401).
        """
        if isinstance(number, bool) or not isinstance(number, int):
            raise ParamTypeError(f"a connection id is an int, got {type(number).__name__}")
        with self._lock:
            if not 0 <= number < self._next_id:
                raise ParamValueError(f"no connection has the id {number}; it is what connect… returned")
            entry = self._by_id.pop(number, None)
            if entry is None:
                return
            options = entry.callbacks.pop(number)
            if entry.callbacks:
                self._post_ended(number, options, entry.element, "disconnected")
                now = False
            else:
                entry.last = (number, options)
                now = self._leave(entry)
        if now:
            self._disconnect(entry)
        self._submit(lambda: self._serial.drain([number]))

    def open(self) -> set[int]:
        """Return the ids of the connections that were not disconnected and did not end."""
        with self._lock:
            return set(self._by_id)

    def __len__(self) -> int:
        """How many connections there are, those included whose end is under way."""
        with self._lock:
            return len({*self._entries.values(), *self._leaving})

    # --- what the manager tells ------------------------------------------------------------------

    def connected(self, entry: _Entry, element: ElementName, remote: IRemoteObject) -> None:
        """The object is there."""
        with self._lock:
            entry.element = element
            leaving = entry.state is _State.LEAVING
            if not leaving:
                entry.state, entry.remote = _State.CONNECTED, remote
                for number, options in entry.callbacks.items():
                    self._post_connected(number, options, entry)
            numbers = list(entry.callbacks)
        if leaving:
            self._disconnect(entry)  # its last callback left while it was being connected
        self._serial.drain(numbers)

    def failed(self, entry: _Entry, code: int, text: str) -> None:
        """There will be no connection."""
        failure = FailureCode(code, text)

        def tell(options: ConnectOptions) -> None:
            options.on_failed(failure)

        self._over(entry, tell, text)

    def ended(self, entry: _Entry, text: str) -> None:
        """The connection is over."""
        self._over(entry, lambda options: options.ended(entry.element, text), text)

    def manager_died(self, manager: Connector) -> None:
        """Nothing more will be heard from this manager."""
        with self._lock:
            lost = [known for known in {*self._entries.values(), *self._leaving} if known.manager == manager]
        for entry in lost:
            text = f"{entry.manager_name} ended"
            if entry.state is _State.CONNECTING:
                self.failed(entry, codes.INTERNAL, f"{text} before it connected {entry.want.element}")
            else:
                self.ended(entry, text)

    # --- inside ----------------------------------------------------------------------------------

    def _is_stale(self, entry: _Entry) -> bool:
        return entry.state is _State.CONNECTING and self._clock() - entry.since > codes.STALE_CONNECTING

    def _expire(self, entry: _Entry) -> None:
        with self._lock:
            left = list(entry.callbacks.items())
            entry.callbacks.clear()
            failure = FailureCode(codes.INTERNAL, f"no answer for {codes.STALE_CONNECTING:g} s: {entry.want.element}")
            for number, options in left:
                self._by_id.pop(number, None)
                self._serial.put(number, lambda options=options: options.on_failed(failure))  # type: ignore[misc]
            self._leave(entry)
        self._submit(lambda: self._serial.drain([number for number, _ in left]))

    def _leave(self, entry: _Entry) -> bool:
        """Take an entry without callbacks out (under the lock); return whether the manager is to be told now."""
        if self._entries.get(entry.key) is entry:
            del self._entries[entry.key]
        was, entry.state, entry.remote = entry.state, _State.LEAVING, None
        self._leaving.add(entry)
        return was is _State.CONNECTED

    def _disconnect(self, entry: _Entry) -> None:
        try:
            entry.manager.disconnect_ability(entry)
        except (Refusal, IpcError) as error:
            # It ended in this very moment, or the manager did: the same for who wanted to leave.
            self.ended(entry, str(error))

    def _over(self, entry: _Entry, tell: Callable[[ConnectOptions], None], text: str) -> None:
        with self._lock:
            if self._entries.get(entry.key) is entry:
                del self._entries[entry.key]
            self._leaving.discard(entry)
            numbers = list(entry.callbacks)
            for number, options in entry.callbacks.items():
                self._by_id.pop(number, None)
                self._serial.put(number, lambda options=options: tell(options))  # type: ignore[misc]
            entry.callbacks.clear()
            if entry.last is not None:
                number, options = entry.last
                entry.last = None
                numbers.append(number)
                self._post_ended(number, options, entry.element, text)
            entry.remote = None
        self._serial.drain(numbers)

    def _post_connected(self, number: int, options: ConnectOptions, entry: _Entry) -> None:
        element, remote = entry.element, entry.remote
        assert remote is not None  # connected entries have one
        self._serial.put(number, lambda: _call(options.on_connect, element, remote))

    def _post_ended(self, number: int, options: ConnectOptions, element: ElementName, text: str) -> None:
        self._serial.put(number, lambda: options.ended(element, text))


def _call(
    on_connect: Callable[[ElementName, IRemoteObject], object], element: ElementName, remote: IRemoteObject
) -> None:
    on_connect(element, remote)


class _Entry(IAbilityConnection):
    """One connection; the manager's calls arrive here."""

    def __init__(self, connections: Connections, manager: Connector, key: _Key, want: Want, since: float) -> None:
        self._connections = connections
        self.manager = manager
        self.manager_name = "the distributed scheduler" if key.device_id else "the ability manager"
        self.key = key
        self.want = want
        self.element = want.element
        self.since = since
        self.state = _State.CONNECTING
        self.remote: IRemoteObject | None = None
        self.callbacks: dict[int, ConnectOptions] = {}
        self.last: tuple[int, ConnectOptions] | None = None

    def connect_done(self, element: ElementName, remote: IRemoteObject) -> None:
        """The ability's object is there."""
        self._check_caller()
        self._connections.connected(self, element, remote)

    def connect_failed(self, element: ElementName, code: int, text: str) -> None:
        """There will be no connection."""
        self._check_caller()
        self._connections.failed(self, code, text)

    def disconnect_done(self, element: ElementName, result: int, text: str) -> None:
        """The connection is over."""
        self._check_caller()
        self._connections.ended(self, text)

    def _check_caller(self) -> None:
        """Raise RefusedError (303) unless the manager calls: nobody else may say what became of a connection."""
        remote = self.manager.as_object()
        caller = calling_identity()
        if isinstance(remote, RemoteProxy) and not comes_from(caller, remote.owner):
            raise RefusedError(f"only {self.manager_name} (pid {remote.owner.pid}) calls this, not {caller!r}")


def unwrapped(error: Refusal) -> AbilityError:
    """Return a refusal of the manager as what users catch."""
    return AbilityError(error.text, code=error.code)
