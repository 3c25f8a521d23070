"""Keeping the members of a circle of one mind: who belongs to it, and that their certificates do not run out.

Owns: ``TrustSync`` and its two messages between trusted devices (over the
engine's control requests):

    1 ROSTER   the sender's signed list of members   →   the receiver's, when it is newer, else nothing
    2 RENEW    the sender's public key               →   a fresh certificate; only the owner answers

How it works: a device shows its list to every device that comes online, and to
all that are online when its own list changed. So a new or revoked device is
known to everybody within one message, and to a device that was off as soon as
it meets any member that knows.

Why it need not trust the messenger: the list is signed by the circle's CA and
has a version; the sender of a renewal is proven by the engine.

Rules upheld: the engine's threads are never blocked (one thread here asks);
which devices wait to be asked is a set, so that a device that comes and goes
cannot make it grow; a device that answers nonsense harms only itself.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from typing import Final

from binderkit.errors import IpcError, ProtocolError
from binderkit.softbus.trust import TrustChange, TrustStore

__all__ = ["TARGET", "TrustSync"]

TARGET: Final = 0x5452555354  # "TRUST"
"""The target of these control requests."""
_ROSTER: Final = 1
_RENEW: Final = 2
_RENEWAL_CHECK: Final = 6 * 3600.0
"""Seconds between two looks at the date of this device's certificate: it is renewed months before its end."""
_log: Final = logging.getLogger("binderkit.softbus")


class TrustSync:
    """Tells other members what this device knows of the circle, and asks them.

    Args:
        store: of this device.
        ask: sends a control request to a device (its UDID, the payload) and returns the answer; raises IpcError.
            ``lambda udid, payload: calls.control(udid, TARGET, payload)``.
    """

    def __init__(self, store: TrustStore, ask: Callable[[str, bytes], bytes]) -> None:
        self._store = store
        self._ask = ask
        self._changed = threading.Condition()
        self._online: set[str] = set()
        self._waiting: set[str] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._run, name="binderkit-trust", daemon=True)
        self._end_listening = store.listen(self._trust_changed)
        self._thread.start()

    def online(self, udid: str) -> None:
        """Take note that a trusted device came; never blocks."""
        with self._changed:
            self._online.add(udid)
            self._waiting.add(udid)
            self._changed.notify_all()

    def offline(self, udid: str) -> None:
        """Take note that a device went; never blocks."""
        with self._changed:
            self._online.discard(udid)
            self._waiting.discard(udid)

    def answer(self, source: str, payload: bytes) -> bytes:
        """Return the answer to a control request of another member.

        Args:
            source: its UDID, proven by the engine.
            payload: hostile.

        Raises:
            ProtocolError: no such request (601).
            NotTrustedError: a list that the circle's CA did not sign, or a renewal it may not have (-425983984).
            SoftBusError: a renewal, but this device is not the owner (-426442749).
        """
        kind, content = payload[:1], payload[1:]
        if kind == bytes([_ROSTER]):
            ours = self._store.roster()
            if content == ours or self._store.accept_roster(content):
                return b""
            return ours
        if kind == bytes([_RENEW]):
            return self._store.renew(source, content)
        raise ProtocolError(f"{kind!r} is no message about trust")

    def close(self) -> None:
        """Stop; waits for a request under way. May be called twice; not from a listener of the store."""
        self._end_listening()
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        self._thread.join()

    def _trust_changed(self, change: TrustChange) -> None:
        with self._changed:
            self._online -= change.removed
            self._waiting |= self._online
            self._waiting -= change.removed
            self._changed.notify_all()

    def _run(self) -> None:
        self._renew_own()
        while True:
            with self._changed:
                due = not self._changed.wait_for(lambda: self._closed or self._waiting, _RENEWAL_CHECK)
                if self._closed:
                    return
                if due:
                    self._waiting |= self._online
                udids, self._waiting = self._waiting, set()
            if due:
                self._renew_own()
            for udid in sorted(udids):
                self._speak_with(udid)

    def _speak_with(self, udid: str) -> None:
        try:
            newer = self._ask(udid, bytes([_ROSTER]) + self._store.roster())
            if newer:
                self._store.accept_roster(newer)
            owner = self._store.members().owner
            if udid == owner and not self._store.owns_circle and self._store.renewal_due():
                self._store.accept_certificate(self._ask(udid, bytes([_RENEW]) + self._store.renewal_request()))
        except (IpcError, OSError) as error:
            # It may be gone, or busy; it is asked again when it comes back or something changes.
            _log.warning("device %s could not be spoken with about the circle: %s", udid, error)

    def _renew_own(self) -> None:
        if not (self._store.owns_circle and self._store.renewal_due()):
            return
        try:
            self._store.renew_own()
        except OSError as error:
            _log.error("the certificate of this device cannot be renewed: %s", error)
