"""Making two devices trust each other: one shows a PIN, on the other it is typed.

Owns: ``Pairing`` (``offer`` and ``join``) and ``Offer``, with the threads that
serve one. What is said is in ``pairing_session``, how it travels in
``pairing_stream``, how wrong PINs are counted in ``pairing_lock``.

Two kinds of offers. With a PIN: for one device, for limits.PIN_LIFETIME seconds,
withdrawn after limits.WRONG_PINS wrong ones, which lock pairing for a while.
With a secret that was given to a fleet of devices beforehand: nobody need be
there, any number of devices, until it is closed; it is never locked, or a
stranger could keep the fleet from pairing by sending nonsense.

Rules upheld: the port is open only while there is an offer; everything that
strangers can make this device hold is bounded: when limits.MAX_PAIRING_SESSIONS
are at the door, the oldest one that has tried nothing must go, so that
connections which say nothing cannot shut the door; every failure is logged.
"""

from __future__ import annotations

import contextlib
import errno
import logging
import secrets
import threading
import time
from collections.abc import Callable
from typing import Final

from binderkit import limits
from binderkit.errors import IpcError, PairingError, PairingLockedError, ParamValueError, WrongPinError
from binderkit.softbus.pairing_lock import PairingLock
from binderkit.softbus.pairing_session import (
    Steps,
    join_steps,
    offer_steps,
    password_of_pin,
    password_of_secret,
    reason_of,
    refusal,
)
from binderkit.softbus.pairing_stream import Channel, Door, connect
from binderkit.softbus.trust import TrustedDevice, TrustStore

__all__ = ["Offer", "Pairing"]

_log: Final = logging.getLogger("binderkit.softbus")
_FILE: Final = "pairing.json"
_TIMED_OUT: Final = -425983980
_EXHAUSTED: Final = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)
_PAUSE: Final = 0.2
"""Seconds to wait when no descriptor is left for the next connection."""


class Pairing:
    """Offers pairing to other devices, and takes offers of theirs.

    Args:
        store: of this device.
        clock: seconds since 1970, for the lock after wrong PINs.

    Raises:
        SoftBusError: the file of the lock cannot be used (-426442749).
    """

    def __init__(self, store: TrustStore, *, clock: Callable[[], float] = time.time) -> None:
        self._store = store
        self._lock = PairingLock(store.directory / _FILE, clock)
        self._guard = threading.Lock()
        self._offers: set[Offer] = set()

    def locked(self) -> float:
        """Return for how many seconds pairing is locked because of wrong PINs; 0 when it is not."""
        return self._lock.remaining()

    def offer(
        self,
        *,
        secret: bytes | None = None,
        lifetime: float = limits.PIN_LIFETIME,
        host: str = "",
        port: int = 0,
        paired: Callable[[TrustedDevice], None] | None = None,
    ) -> Offer:
        """Open the door to another device.

        Args:
            secret: one that both sides were given (16 to 1024 random bytes), for unattended pairing; None makes a PIN.
            lifetime: seconds a PIN can be used; offers with a secret have no end.
            host: address to listen on; "" for all.
            port: 0 for a free one.
            paired: called with each device that was paired, in a thread of the offer; must not close the offer.

        Returns:
            The offer: show its ``pin``, announce its ``port``.

        Raises:
            PairingLockedError: too many wrong PINs lately (-425983984).
            ParamValueError: no usable secret or lifetime (401). OSError: the port cannot be had.
        """
        if not 0 < lifetime <= limits.PIN_LIFETIME:
            raise ParamValueError(f"a PIN cannot be good for {lifetime} s: above 0 and up to {limits.PIN_LIFETIME} s")
        if secret is not None:
            offer = Offer(self._store, password_of_secret(secret), None, Door(host, port), paired)
        else:
            self._lock.check()
            pin = f"{secrets.randbelow(10**limits.PIN_DIGITS):0{limits.PIN_DIGITS}d}"
            offer = Offer(self._store, password_of_pin(pin), self._lock, Door(host, port), paired, pin, lifetime)
        with self._guard:
            self._offers = {one for one in self._offers if not one.over} | {offer}
        offer.start()
        return offer

    def join(self, address: tuple[str, int], pin: str | bytes) -> TrustedDevice:
        """Take the offer of another device; blocks for at most about 20 s.

        Args:
            address: host and port of the offer.
            pin: the PIN it shows, or the secret (bytes) that both were given.

        Returns:
            The other device; it trusts this one as well now.

        Raises:
            WrongPinError: not the PIN of that device, or somebody sits in between (-425983984).
            PairingLockedError: too many wrong PINs, here or there (-425983984).
            PairingError: nobody there, too slow (-425983980), two circles, …: the text says what to do (-425983984).
            ParamValueError: no PIN or secret (401). OSError: what was agreed cannot be written.
        """
        by_pin = isinstance(pin, str)
        password = password_of_pin(pin) if isinstance(pin, str) else password_of_secret(pin)
        if by_pin:
            self._lock.check()
        channel, binding = connect(address)
        try:
            device = _run(join_steps(self._store, password, binding), channel)
        except WrongPinError:
            # Counted on this side too: a stranger who offers in another device's place gets as few tries.
            if by_pin:
                self._lock.judge(False)
            raise
        finally:
            channel.close()
        if by_pin:
            self._lock.forgive()
        return device

    def close(self) -> None:
        """Withdraw all offers."""
        with self._guard:
            offers, self._offers = self._offers, set()
        for offer in offers:
            offer.close()


class Offer:
    """An open door. Made by ``Pairing.offer``; close it, or use it in a ``with``.

    Attributes:
        pin: to show; "" when the offer is by a secret.
        port: where the others connect.
    """

    def __init__(
        self,
        store: TrustStore,
        password: bytes,
        lock: PairingLock | None,
        door: Door,
        paired: Callable[[TrustedDevice], None] | None,
        pin: str = "",
        lifetime: float | None = None,
    ) -> None:
        self.pin = pin
        self.port = door.port
        self._store = store
        self._password = password
        self._lock = lock
        self._door = door
        self._paired = paired
        self._end = None if lifetime is None else time.monotonic() + lifetime
        self._changed = threading.Condition()
        self._sessions: dict[Channel, threading.Thread] = {}  # in the order in which they came
        self._judged: set[Channel] = set()  # those that tried PIN or secret: they may finish, and hear the verdict
        self._user: Channel | None = None  # the one that used up the PIN
        self._devices: dict[str, TrustedDevice] = {}  # by UDID: the same one may come again
        self._failure: PairingError | None = None
        self._thread = threading.Thread(target=self._serve, name="binderkit-pairing", daemon=True)

    def __repr__(self) -> str:
        return f"<Offer at port {self.port}>"  # never the PIN: it would end up in logs

    def __enter__(self) -> Offer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def over(self) -> bool:
        """Whether nobody can pair through it any more."""
        with self._changed:
            return self._failure is not None

    def start(self) -> None:
        """Begin to let devices in; once."""
        self._thread.start()

    def devices(self) -> list[TrustedDevice]:
        """Return the devices that were paired through this offer."""
        with self._changed:
            return list(self._devices.values())

    def wait(self, timeout: float | None = None) -> TrustedDevice:
        """Wait until a device was paired, and return the first one.

        Args:
            timeout: seconds; None waits as long as the offer lasts.

        Raises:
            PairingError: the offer ended without: too late (-425983980), closed, or its one try failed (-425983984).
            PairingLockedError: too many wrong PINs (-425983984).
            TimeoutError: ``timeout`` passed; the offer still stands.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._devices or self._failure is not None, timeout):
                raise TimeoutError(f"no device was paired within {timeout} s; the offer still stands")
            if self._devices:
                return next(iter(self._devices.values()))
            assert self._failure is not None
            raise self._failure

    def close(self) -> None:
        """Withdraw the offer, and wait for its threads; not from the ``paired`` callback. May be called twice."""
        self._finish(PairingError("the offer was withdrawn"))
        self._thread.join()

    # --- the thread at the door -----------------------------------------------------------------

    def _serve(self) -> None:
        try:
            while not self.over:
                self._let_in()
        finally:
            self._door.close()
            self._end_sessions()

    def _end_sessions(self) -> None:
        with self._changed:
            threads = list(self._sessions.values())
            for channel in self._waiting():
                channel.abort()
        for thread in threads:
            thread.join()

    def _waiting(self) -> list[Channel]:
        """Return the connections that tried nothing yet, the oldest first."""
        return [channel for channel in self._sessions if channel not in self._judged]

    def _let_in(self) -> None:
        try:
            channel = self._door.accept(None if self._end is None else max(0.001, self._end - time.monotonic()))
        except TimeoutError:
            self._finish(
                PairingError("nobody came in time: the PIN is no longer good, make a new offer", code=_TIMED_OUT)
            )
            return
        except OSError as error:
            self._not_let_in(error)
            return
        thread = threading.Thread(target=self._session, args=(channel,), name="binderkit-pairing-one", daemon=True)
        with self._changed:
            if len(waiting := self._waiting()) >= limits.MAX_PAIRING_SESSIONS:
                waiting[0].abort()
                self._changed.wait_for(lambda: len(self._waiting()) < limits.MAX_PAIRING_SESSIONS)
            self._sessions[channel] = thread
            thread.start()

    def _not_let_in(self, error: OSError) -> None:
        with self._changed:
            if self._failure is not None:
                return  # the door was shut
            _log.warning("a device could not connect to port %d: %s", self.port, error)
            if error.errno in _EXHAUSTED:
                # Descriptors come back when a session ends; until then the same error would come at once again.
                self._changed.wait(_PAUSE)

    # --- the thread of one connection -----------------------------------------------------------

    def _session(self, channel: Channel) -> None:
        try:
            channel.handshake()
            steps = offer_steps(
                self._store, self._password, self._door.binding, lambda right: self._judge(channel, right)
            )
            device = _run(steps, channel)
        except PairingLockedError as error:
            self._failed(channel, error)
            self._finish(error)
        except (IpcError, OSError) as error:
            self._failed(channel, error)
        else:
            self._succeeded(device)
        finally:
            channel.close()
            with self._changed:
                del self._sessions[channel]
                self._judged.discard(channel)
                self._changed.notify_all()

    def _judge(self, channel: Channel, right: bool) -> None:
        """Judge a guess; with a PIN, the first right one uses it up."""
        with self._changed:
            self._judged.add(channel)
            if self._failure is not None or self._user is not None:
                raise PairingError("the PIN was used up, or the offer withdrawn: make a new one")
            self._count(right)
            if self._lock is not None:
                self._user = channel

    def _count(self, right: bool) -> None:
        if self._lock is None:
            if not right:
                raise WrongPinError("the secrets of the two devices differ, or somebody sits in between")
            return
        try:
            self._lock.judge(right)
        except WrongPinError:
            if self._lock.remaining() > 0:
                self._finish(PairingLockedError("too many wrong PINs: the offer was withdrawn, pairing is locked"))
            raise

    def _failed(self, channel: Channel, error: Exception) -> None:
        _log.warning("a device was not paired at port %d: %s", self.port, error)
        if self._user is channel:
            self._finish(PairingError(f"the PIN was used but the pairing failed ({error}): make a new offer"))

    def _succeeded(self, device: TrustedDevice) -> None:
        _log.info("paired with device %s (%s)", device.udid, device.name)
        if self._paired is not None:
            try:
                self._paired(device)
            except Exception:
                _log.exception("the callback for a paired device failed")
        with self._changed:
            self._devices[device.udid] = device
            self._changed.notify_all()
        if self._lock is not None:
            self._finish(PairingError("the PIN was used: make a new offer for the next device"))

    def _finish(self, failure: PairingError) -> None:
        """Let nobody in any more; what was first says why."""
        with self._changed:
            if self._failure is None:
                self._failure = failure
                self._door.shut()
            self._changed.notify_all()


def _run(steps: Steps, channel: Channel) -> TrustedDevice:
    """Carry one side of a pairing over a connection, and tell the other side when it fails here.

    Raises:
        PairingError and its kinds: what the steps or the connection raised, always as one of these.
    """
    try:
        message = next(steps)
        while True:
            if message:
                channel.send(message)
            message = steps.send(channel.receive())
    except StopIteration as end:
        device, last = end.value
        if last:
            channel.send(last)
        assert isinstance(device, TrustedDevice)
        return device
    except (IpcError, OSError) as error:
        reason = reason_of(error)
        with contextlib.suppress(PairingError):  # it may be gone; its own error says enough
            channel.send(refusal(reason))
        if isinstance(error, PairingError):
            raise
        raise PairingError(f"the devices were not paired: {error}") from error
    finally:
        steps.close()
