"""The callbacks that programs gave the softbus process, and what ends with them.

Owns: a table of callback objects. Rules upheld: telling one never waits for its program (its methods are one-way); one
that cannot be told is passed over; when a program ends, its callbacks go, and whoever keeps them is told once.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

from binderkit.errors import DeadObjectError, IpcError, QuotaError
from binderkit.interface import Interface
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.ipc.remote import IRemoteObject

__all__ = ["Listeners", "tell"]

_log = logging.getLogger("binderkit.softbus")
MOST = 1000
"""Callback objects of one kind."""
T = TypeVar("T", bound=Interface)


class _Dead(DeathRecipient):
    def __init__(self, gone: Callable[[], None]) -> None:
        self._gone = gone

    def on_remote_died(self) -> None:
        """The program ended."""
        self._gone()


class Listeners(Generic[T]):
    """Callback objects of one kind.

    Args:
        gone: called with one whose program ended, after it was taken out; on a worker.
    """

    def __init__(self, gone: Callable[[T], object] = lambda _: None) -> None:
        self._gone = gone
        self._lock = threading.Lock()
        self._known: dict[IRemoteObject, tuple[T, DeathRecipient]] = {}

    def add(self, listener: T) -> None:
        """Take one; again changes nothing.

        Raises:
            QuotaError: there are MOST already (29201). DeadObjectError: its program ended (-32).
        """
        remote = listener.as_object()
        recipient = _Dead(lambda: self._died(remote))
        with self._lock:
            if remote in self._known:
                return
            if len(self._known) >= MOST:
                raise QuotaError(f"{MOST} listeners are told already; end some of them")
            self._known[remote] = listener, recipient
        if isinstance(remote, RemoteProxy):
            try:
                remote.register_death_recipient(recipient)
            except BaseException:
                with self._lock:
                    self._known.pop(remote, None)
                raise

    def remove(self, listener: T) -> bool:
        """Take one out; return whether it was there."""
        remote = listener.as_object()
        with self._lock:
            found = self._known.pop(remote, None)
        if found is None:
            return False
        if isinstance(remote, RemoteProxy):
            remote.unregister_death_recipient(found[1])
        return True

    def tell(self, call: Callable[[T], None]) -> None:
        """Call ``call`` with each."""
        with self._lock:
            listeners = [listener for listener, _ in self._known.values()]
        for listener in listeners:
            tell(lambda one=listener: call(one))  # type: ignore[misc]

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            listeners = [listener for listener, _ in self._known.values()]
        for listener in listeners:
            self.remove(listener)

    def _died(self, remote: IRemoteObject) -> None:
        with self._lock:
            found = self._known.pop(remote, None)
        if found is not None:
            self._gone(found[0])


def tell(call: Callable[[], None]) -> None:
    """Make a one-way call to a program, which may have ended or take no more."""
    try:
        call()
    except DeadObjectError as error:
        _log.debug("a program ended before it was told: %s", error)
    except IpcError as error:
        _log.warning("a program could not be told: %s", error)
