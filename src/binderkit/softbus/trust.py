"""Whom this device trusts: its identity, its circle, and every change to both.

Owns: ``TrustStore``, the one writer of ``device.key`` (the key, never changed)
and ``trust.json`` (everything about the circle), both mode 0600.

How it works: a fresh device founds a circle of its own, so that there is always
a CA, a certificate and a list of members, and nothing asks "is there a circle?".
Two devices become trusted when the owner of a circle admits the other one
(``request`` → ``add`` → ``join``; ``pairing`` carries the three over the
network). All members of a circle trust each other: they learn of each other from
the list that its owner signs (``roster`` → ``accept_roster``), whoever brings it.

Three ways to end it: ``remove`` (this device no longer trusts that one; others
are not concerned), ``revoke`` (the owner puts a device out of the circle, for
everybody), ``leave`` (this device goes, and is alone again).

Rules upheld:

- A change is on disk before anybody hears of it, whole or not at all.
- Listeners are called outside the lock, in the thread that made the change; they
  look at ``snapshot()`` for what is true now.
- Only what the CA signed is believed; the owner's list outranks what came before
  only when it is newer.
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import platform
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Final

from binderkit import limits
from binderkit.errors import NotTrustedError, ParamValueError, SoftBusError
from binderkit.softbus.circle import Member, Roster, check_certificate, read_roster, remaining_life, write_member
from binderkit.softbus.engine import TrustSnapshot
from binderkit.softbus.fields import pack, unpack
from binderkit.softbus.identity import DeviceKey, Identity, check_type, check_udid, udid_of_spki
from binderkit.softbus.trust_file import load_document, save_document
from binderkit.softbus.trust_state import (
    TrustChange,
    TrustedDevice,
    TrustState,
    difference,
    founded,
    read_request,
    read_state,
)
from binderkit.softbus.zenoh_config import check_name

__all__ = ["TrustChange", "TrustStore", "TrustedDevice"]

_log: Final = logging.getLogger("binderkit.softbus")
_KEY: Final = "device.key"
_FILE: Final = "trust.json"
_LOCK: Final = "trust.lock"
_RENEW_AT: Final = limits.CERTIFICATE_LIFE / 3


class TrustStore:
    """The identity of this device and the devices it trusts.

    Args:
        directory: where the two files are; made with mode 0700 when it is not there.
        name: of this device, when it has none yet; default: the host's name.
        device_type: the same for its type.
        clock: seconds since 1970; for the dates of certificates only.

    Raises:
        SoftBusError: a file cannot be used; the text says which and what to do (-426442749).
        NotTrustedError: the files do not belong together (-425983984).
        OSError: the directory cannot be written.
    """

    def __init__(
        self, directory: Path, *, name: str = "", device_type: str = "linux", clock: Callable[[], float] = time.time
    ) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._listeners: dict[object, Callable[[TrustChange], None]] = {}
        directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory = directory
        self._file = directory / _FILE
        with _only_one(directory):
            self._key = DeviceKey(directory / _KEY)
            try:
                self._state = read_state(load_document(self._file), self._key, self._file)
            except FileNotFoundError:
                host = "".join(character for character in platform.node() if character.isprintable())
                self._state = self._alone(
                    check_name(name or host[: limits.MAX_DEVICE_NAME] or "device"), check_type(device_type), frozenset()
                )
                save_document(self._file, self._state.document)

    # --- what is ------------------------------------------------------------------------------

    @property
    def udid(self) -> str:
        """This device's UDID."""
        return self._key.udid

    @property
    def key(self) -> DeviceKey:
        """This device's key, to sign with."""
        return self._key

    @property
    def identity(self) -> Identity:
        """What this device is now."""
        document = self._state.document
        return Identity(self.udid, document.name, document.device_type, self._key.path, document.certificate_pem)

    @property
    def circle(self) -> str:
        """The circle this device belongs to (64 hexadecimal digits)."""
        return self._state.roster.circle

    @property
    def owns_circle(self) -> bool:
        """Whether this device holds the CA's key: it alone can admit and revoke."""
        return self._state.authority is not None

    @property
    def alone(self) -> bool:
        """Whether this device's circle has no other member."""
        return self._state.roster.alone

    def trusted(self) -> dict[str, TrustedDevice]:
        """Return the devices this one trusts, by UDID; itself is not among them."""
        return self._state.devices(self.udid)

    def members(self) -> Roster:
        """Return the members of the circle, also those this device was told not to trust."""
        return self._state.roster

    def snapshot(self) -> TrustSnapshot:
        """Return what an engine needs: always usable, also when no other device is trusted."""
        state = self._state
        return TrustSnapshot(
            own=self.udid,
            trusted=state.trusted(self.udid),
            ca_pem=state.document.ca_pem,
            certificate_pem=state.document.certificate_pem,
            key_file=self._key.path,
        )

    def listen(self, callback: Callable[[TrustChange], None]) -> Callable[[], None]:
        """Be told of every change, after it is on disk.

        Returns:
            What ends it; may be called twice.
        """
        mark = object()
        with self._lock:
            self._listeners[mark] = callback

        def end() -> None:
            with self._lock:
                self._listeners.pop(mark, None)

        return end

    def set_name(self, name: str) -> None:
        """Give this device another name.

        The owner's list of members says so, too; the lists of others keep the name a device was paired with.

        Raises:
            ParamValueError: no usable name (401). OSError: it cannot be written; nothing changed.
        """
        checked = check_name(name)
        with self._changing() as state:
            fresh = replace(state, document=replace(state.document, name=checked))
            if state.authority is not None:
                members = dict(state.roster.members)
                members[self.udid] = replace(members[self.udid], name=checked)
                fresh = fresh.with_members(self.udid, members, self._clock())
            self._put(fresh)

    # --- more trust ---------------------------------------------------------------------------

    def request(self) -> bytes:
        """Return what the owner of a circle needs to admit this device: its public key, name and type."""
        document = self._state.document
        me = Member(self.udid, document.name, document.device_type, 0)
        return pack(self._key.spki, write_member(me))

    def add(self, request: bytes) -> bytes:
        """Admit a device to this one's circle; only its owner can. Admitting a member again renews its certificate.

        Args:
            request: its ``request()``. That it came from a device the user means must have been proven (``pairing``).

        Returns:
            What the other device's ``join`` takes.

        Raises:
            SoftBusError: this device does not own its circle (-426442749). ParamValueError: the circle is full (401).
            ProtocolError, NotTrustedError: no such request, or a key that is not the UDID's (601, -425983984).
            OSError: it cannot be written; nothing changed.
        """
        spki, member = read_request(request)
        now = self._clock()
        with self._changing() as state:
            authority = state.signer("admit")
            certificate = authority.issue(spki, now)
            members = {**state.roster.members, member.udid: replace(member, since=max(0, int(now)))}
            if member.udid == self.udid:
                raise ParamValueError("this device is the owner of the circle: it cannot be admitted to it")
            fresh = state.unblocked(member.udid).with_members(self.udid, members, now)
            self._put(fresh)
            return pack(fresh.document.ca_pem, certificate, fresh.document.roster)

    def join(self, admission: bytes) -> None:
        """Become a member of the circle whose owner admitted this device.

        Args:
            admission: what its ``add`` returned. That it is the circle the user means must have been proven.

        Raises:
            SoftBusError: this device's circle has other members: ``leave`` it first (-426442749).
            ProtocolError, NotTrustedError: no admission of this device (601, -425983984).
            OSError: it cannot be written; nothing changed.
        """
        ca_pem, certificate, signed = unpack(admission, 3)
        roster = read_roster(signed, ca_pem)
        if check_certificate(certificate, ca_pem) != self.udid or self.udid not in roster.members:
            raise NotTrustedError("an admission to a circle is of another device")
        with self._changing() as state:
            if roster.circle == state.roster.circle:
                self._rejoin(state, certificate, roster, signed)
                return
            if not state.roster.alone:
                raise SoftBusError(
                    f"this device is in a circle with {len(state.roster.members) - 1} other devices: leave it first"
                )
            document = replace(
                state.document,
                ca_pem=ca_pem,
                certificate_pem=certificate,
                roster=signed,
                authority_pem=b"",
                blocked=state.document.blocked - {roster.owner},
            )
            self._put(TrustState(document, roster, None))

    def trust_again(self, udid: str) -> None:
        """Take back a ``remove``; nothing happens when there was none."""
        with self._changing() as state:
            self._put(state.unblocked(udid))

    def roster(self) -> bytes:
        """Return the newest signed list of members, for the other members."""
        return self._state.document.roster

    def accept_roster(self, signed: bytes) -> bool:
        """Take a list of members, when it is newer than the one that is known.

        A list without this device means that it was put out of the circle: it is alone again then.

        Returns:
            Whether it was newer.

        Raises:
            ProtocolError, NotTrustedError: no list, or not signed by this circle's CA (601, -425983984).
            OSError: it cannot be written; nothing changed.
        """
        with self._changing() as state:
            roster = read_roster(signed, state.document.ca_pem)
            if roster.version <= state.roster.version:
                return False
            if self.udid not in roster.members:
                _log.warning("device %s was put out of its circle by the owner %s", self.udid, roster.owner)
                document = state.document
                self._put(self._alone(document.name, document.device_type, document.blocked))
                return True
            self._put(replace(state, document=replace(state.document, roster=signed), roster=roster))
            return True

    # --- less trust ---------------------------------------------------------------------------

    def remove(self, udid: str) -> bool:
        """Trust a device no more (unpair). Only this device is concerned; pairing again takes it back.

        Returns:
            Whether it was trusted.

        Raises:
            ParamValueError: not a UDID (401). OSError: it cannot be written; nothing changed.
        """
        check_udid(udid)
        with self._changing() as state:
            if udid not in state.trusted(self.udid):
                return False
            self._put(replace(state, document=replace(state.document, blocked=state.document.blocked | {udid})))
            return True

    def revoke(self, udid: str) -> bool:
        """Put a device out of the circle, for every member; only the owner can. Send them ``roster()`` then.

        Returns:
            Whether it was a member.

        Raises:
            SoftBusError: this device does not own its circle (-426442749).
            ParamValueError: not a UDID, or this device's own (401). OSError: it cannot be written; nothing changed.
        """
        if check_udid(udid) == self.udid:
            raise ParamValueError("the owner cannot be put out of its own circle: use leave()")
        with self._changing() as state:
            state.signer("put out")
            if udid not in state.roster.members:
                return False
            members = {one: member for one, member in state.roster.members.items() if one != udid}
            self._put(state.with_members(self.udid, members, self._clock()))
            return True

    def leave(self) -> None:
        """Leave the circle: this device founds a new one and trusts nobody. The others learn nothing from it.

        When the owner leaves, nobody can be admitted to the old circle or revoked from it any more.

        Raises:
            OSError: it cannot be written; nothing changed.
        """
        with self._changing() as state:
            document = state.document
            self._put(self._alone(document.name, document.device_type, document.blocked))

    # --- certificates -------------------------------------------------------------------------

    def renewal_due(self) -> bool:
        """Return whether less than a third of the life of this device's certificate is left."""
        return remaining_life(self._state.document.certificate_pem, self._clock()) < _RENEW_AT

    def renew_own(self) -> None:
        """Give this device a fresh certificate; the owner of a circle does so itself.

        Raises:
            SoftBusError: this device does not own its circle: ask the owner with ``renewal_request`` (-426442749).
            OSError: it cannot be written; nothing changed.
        """
        with self._changing() as state:
            certificate = state.signer("renew certificates").issue(self._key.spki, self._clock())
            self._put(replace(state, document=replace(state.document, certificate_pem=certificate)))

    def renewal_request(self) -> bytes:
        """Return what the owner's ``renew`` takes."""
        return self._key.spki

    def renew(self, source: str, request: bytes) -> bytes:
        """Return a fresh certificate (PEM) for a device this one trusts; only the owner of the circle can.

        Args:
            source: the device that asks, proven by the engine.
            request: its ``renewal_request()``.

        Raises:
            NotTrustedError: not trusted, or the key of another device (-425983984).
            SoftBusError: this device does not own its circle (-426442749).
        """
        with self._lock:
            state = self._state
            authority = state.signer("renew certificates")
            if source not in state.trusted(self.udid) or udid_of_spki(request) != source:
                raise NotTrustedError(f"device {source} cannot have a certificate renewed that is not its own")
            return authority.issue(request, self._clock())

    def accept_certificate(self, pem: bytes) -> None:
        """Take a fresh certificate of this device, signed by its circle's CA.

        Raises:
            NotTrustedError: of another device or circle, or valid for less long than the one there is (-425983984).
            OSError: it cannot be written; nothing changed.
        """
        with self._changing() as state:
            if check_certificate(pem, state.document.ca_pem) != self.udid:
                raise NotTrustedError("a certificate that was to renew this device's is of another device")
            if remaining_life(pem, 0) < remaining_life(state.document.certificate_pem, 0):
                raise NotTrustedError("a certificate that was to renew this device's ends sooner than the present one")
            self._put(replace(state, document=replace(state.document, certificate_pem=pem)))

    # --- within -------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _changing(self) -> Iterator[TrustState]:
        """Hold the lock for one change, and tell the listeners after it was let go."""
        with self._lock:
            before = self._state
            yield before
            after = self._state
            listeners = list(self._listeners.values())
        change = difference(before, after, self.udid)
        if change is None:
            return
        for callback in listeners:
            try:
                callback(change)
            except Exception:
                _log.exception("a listener for changes of trust failed")

    def _alone(self, name: str, device_type: str, blocked: frozenset[str]) -> TrustState:
        return founded(self._key, name, device_type, blocked, self._clock())

    def _put(self, state: TrustState) -> None:
        if state.document == self._state.document:
            return
        save_document(self._file, state.document)
        self._state = state

    def _rejoin(self, state: TrustState, certificate: bytes, roster: Roster, signed: bytes) -> None:
        if state.authority is not None:
            raise NotTrustedError("this device owns the circle it was admitted to: somebody else has its CA's key")
        document = replace(state.document, certificate_pem=certificate, blocked=state.document.blocked - {roster.owner})
        if roster.version <= state.roster.version:
            self._put(replace(state, document=document))
            return
        self._put(TrustState(replace(document, roster=signed), roster, None))


@contextlib.contextmanager
def _only_one(directory: Path) -> Iterator[None]:
    """Let one process at a time look for the files and make them: two fresh starts must not mix their halves."""
    lock = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield
    finally:
        os.close(lock)
