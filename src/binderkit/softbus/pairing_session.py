"""One pairing, from the first message to two devices that trust each other. Pure: messages in, messages out.

Owns: the messages, and both sides of their exchange as generators: each yields
what is to be sent and is sent what came. ``pairing`` carries them over TLS.

    joiner                                     offerer (shows the PIN)
    HELLO    version, SPAKE2 message    →
                                        ←      CHALLENGE  SPAKE2 message
    CONFIRM  proof of the key           →                 (a wrong PIN is counted here)
                                        ←      CONFIRM    proof of the key
    DEVICE   who I am, my circle, signed →
                                        ←      DEVICE     the same, and an admission if the offerer admits
    DONE     an admission if the joiner admits →
                                        ←      DONE

Why SPAKE2: a PIN has a million values. Whoever listens, or sits in between,
learns from one run whether one guess was right, and nothing else. The TLS
connection below is not authenticated by certificates; the hash of the server's
certificate is part of the PAKE, so that both keys are equal only if nobody
ended the connection in between.

Rules upheld:

- The joiner proves first: who does not know the PIN gets nothing to try guesses on.
- Who a device is, and that it owns its key, is said only after the PIN was proven.
- Nothing is changed on either side before that; an admission is checked like any
  other received byte.
- What is refused is refused with a number; texts of strangers are not shown.
"""

from __future__ import annotations

import hmac
from collections.abc import Callable, Generator
from dataclasses import dataclass
from enum import Enum, IntEnum
from hashlib import sha256
from typing import Final

from spake2 import SPAKE2_A, SPAKE2_B, SPAKEError
from spake2.ed25519_basic import NotOnCurve

from binderkit import limits
from binderkit.errors import (
    IpcError,
    NotTrustedError,
    PairingError,
    PairingLockedError,
    ParamValueError,
    ProtocolError,
    SoftBusError,
    WrongPinError,
)
from binderkit.softbus.circle import Member, Roster, read_roster
from binderkit.softbus.fields import pack, unpack
from binderkit.softbus.identity import public_key_from, verify_signature
from binderkit.softbus.trust import TrustedDevice, TrustStore
from binderkit.softbus.trust_state import read_request

__all__ = [
    "Admits",
    "Party",
    "Reason",
    "Steps",
    "decide",
    "join_steps",
    "offer_steps",
    "password_of_pin",
    "password_of_secret",
    "reason_of",
    "refusal",
]

_VERSION: Final = b"1"
_JOINER: Final = b"binderkit pairing 1 joiner"
_OFFERER: Final = b"binderkit pairing 1 offerer"
_PAKE: Final = 33
"""Bytes of a SPAKE2 message: the side and a point of Ed25519."""

Steps = Generator[bytes, bytes, tuple[TrustedDevice, bytes]]
"""Yields what to send (the offerer at first b"": nothing); returns the other device and a last message (b"": none)."""


class _Kind(IntEnum):
    HELLO = 1
    CHALLENGE = 2
    CONFIRM = 3
    DEVICE = 4
    DONE = 5
    REFUSED = 15


class Reason(IntEnum):
    """Why a device ends a pairing; all that the other one is told."""

    WRONG_PIN = 1
    LOCKED = 2
    VERSION = 3
    TWO_CIRCLES = 4
    NOT_OWNER = 5
    FULL = 6
    UNPROVEN = 7
    PROTOCOL = 8
    FAILED = 9
    ITSELF = 10


_TEXTS: Final = {
    Reason.WRONG_PIN: "the PINs (or secrets) of the two devices differ, or somebody sits in between: compare and retry",
    Reason.LOCKED: "the other device has locked pairing after too many wrong PINs: wait, then ask it for a new PIN",
    Reason.VERSION: "the two devices speak different versions of the pairing protocol: update the older one",
    Reason.TWO_CIRCLES: "both devices are in circles with others: let one of them leave its circle first",
    Reason.NOT_OWNER: "only the owner of a circle can admit a device: pair with the owner instead",
    Reason.FULL: f"the circle has its {limits.MAX_CIRCLE_DEVICES} devices: let its owner revoke one first",
    Reason.UNPROVEN: "a device could not prove that it is what it claims to be",
    Reason.PROTOCOL: "a message of the pairing made no sense",
    Reason.FAILED: "one of the devices failed; its log says why",
    Reason.ITSELF: "a device cannot be paired with itself",
}


class _Ended(PairingError):
    """A pairing that cannot go on, with the reason that the other side is told."""

    def __init__(self, reason: Reason) -> None:
        super().__init__(_TEXTS[reason])
        self.reason = reason


class Admits(Enum):
    """Who makes whom a member."""

    OFFERER = "offerer"
    JOINER = "joiner"
    NOBODY = "nobody"
    """Both are members of one circle already."""


@dataclass(frozen=True, slots=True)
class Party:
    """A device in a pairing: what it proved to be.

    Attributes:
        udid: its UDID.
        roster: the newest list of members it has; it is in it.
    """

    udid: str
    roster: Roster

    @property
    def owns(self) -> bool:
        """Whether it owns its circle."""
        return self.roster.owner == self.udid


def decide(offerer: Party, joiner: Party) -> Admits:
    """Return who admits whom. Both sides come to the same answer, from the same signed lists.

    The device that is in a circle with others stays in it. When neither is, the one that shows the PIN keeps its own.

    Raises:
        PairingError: it cannot be done; the text says what to do first (-425983984).
    """
    if offerer.udid == joiner.udid:
        raise _Ended(Reason.ITSELF)
    if offerer.roster.circle == joiner.roster.circle:
        return _within(offerer, joiner)
    if joiner.roster.alone:
        if offerer.owns:
            return Admits.OFFERER
        raise _Ended(Reason.NOT_OWNER)
    if offerer.roster.alone:
        if joiner.owns:
            return Admits.JOINER
        raise _Ended(Reason.NOT_OWNER)
    raise _Ended(Reason.TWO_CIRCLES)


def _within(offerer: Party, joiner: Party) -> Admits:
    if offerer.owns:
        return Admits.OFFERER
    if joiner.owns:
        return Admits.JOINER
    newest = max(offerer.roster, joiner.roster, key=lambda roster: roster.version)
    if {offerer.udid, joiner.udid} <= set(newest.members):
        return Admits.NOBODY
    # One of them was revoked and does not know it yet.
    raise _Ended(Reason.NOT_OWNER)


def password_of_pin(pin: str) -> bytes:
    """Return what SPAKE2 takes for a PIN.

    Raises:
        ParamValueError: not limits.PIN_DIGITS digits (401).
    """
    if len(pin) != limits.PIN_DIGITS or not (pin.isascii() and pin.isdigit()):
        raise ParamValueError(f"a PIN has {limits.PIN_DIGITS} digits, as the other device shows them")
    return b"pin\0" + pin.encode()


def password_of_secret(secret: bytes) -> bytes:
    """Return what SPAKE2 takes for a secret that both devices were given beforehand.

    Raises:
        ParamValueError: shorter than limits.MIN_PAIRING_SECRET bytes, or longer than MAX_PAIRING_SECRET (401).
    """
    if not limits.MIN_PAIRING_SECRET <= len(secret) <= limits.MAX_PAIRING_SECRET:
        raise ParamValueError(
            f"a secret of {len(secret)} bytes; {limits.MIN_PAIRING_SECRET} to {limits.MAX_PAIRING_SECRET} random ones "
            "are expected, as secrets.token_bytes(32) makes them"
        )
    return b"secret\0" + secret


def offer_steps(store: TrustStore, password: bytes, binding: bytes, judge: Callable[[bool], None]) -> Steps:
    """Return the offerer's side.

    Args:
        store: of this device.
        password: ``password_of_pin`` or ``password_of_secret``.
        binding: SHA-256 of the TLS server's certificate (DER).
        judge: is told whether the other side knows the password, and raises when it does not, or must not go on.

    Raises (from the generator):
        PairingError, WrongPinError, PairingLockedError, NotTrustedError, ProtocolError, OSError: see ``reason_of``.
    """
    hello = yield b""
    version, theirs = _read(hello, _Kind.HELLO, 2)
    if version != _VERSION:
        raise _Ended(Reason.VERSION)
    pake = SPAKE2_B(password, idA=_JOINER, idB=_OFFERER + binding)
    challenge = _message(_Kind.CHALLENGE, pake.start())
    keys = _Keys(pake, theirs, binding, hello, challenge)
    (proof,) = _read((yield challenge), _Kind.CONFIRM, 1)
    judge(hmac.compare_digest(proof, keys.joiner))
    device = yield _message(_Kind.CONFIRM, keys.offerer)
    request, _, peer, roster = _read_device(device, keys.transcript, _JOINER)
    me = _myself(store)
    admits = decide(me, peer)
    admission = store.add(request) if admits is Admits.OFFERER else b""
    done = yield _device(store, keys.transcript, _OFFERER, admission)
    (theirs,) = _read(done, _Kind.DONE, 1)
    if admits is Admits.JOINER:
        store.join(theirs)
    elif admits is Admits.NOBODY:
        _recognise(store, peer, roster)
    return _trusted(store, peer.udid), _message(_Kind.DONE, b"")


def join_steps(store: TrustStore, password: bytes, binding: bytes) -> Steps:
    """Return the joiner's side; arguments and errors as for ``offer_steps``."""
    pake = SPAKE2_A(password, idA=_JOINER, idB=_OFFERER + binding)
    hello = _message(_Kind.HELLO, _VERSION, pake.start())
    challenge = yield hello
    (theirs,) = _read(challenge, _Kind.CHALLENGE, 1)
    keys = _Keys(pake, theirs, binding, hello, challenge)
    (proof,) = _read((yield _message(_Kind.CONFIRM, keys.joiner)), _Kind.CONFIRM, 1)
    if not hmac.compare_digest(proof, keys.offerer):
        raise WrongPinError(_TEXTS[Reason.WRONG_PIN])
    device = yield _device(store, keys.transcript, _JOINER, b"")
    request, admission, peer, roster = _read_device(device, keys.transcript, _OFFERER)
    admits = decide(peer, _myself(store))
    answer = b""
    if admits is Admits.OFFERER:
        store.join(admission)
    elif admits is Admits.JOINER:
        answer = store.add(request)
    else:
        _recognise(store, peer, roster)
    _read((yield _message(_Kind.DONE, answer)), _Kind.DONE, 1)
    return _trusted(store, peer.udid), b""


class _Keys:
    """What both sides compute from the PAKE: equal on both only with one password and nobody in between."""

    __slots__ = ("joiner", "offerer", "transcript")

    def __init__(
        self, pake: SPAKE2_A | SPAKE2_B, theirs: bytes, binding: bytes, hello: bytes, challenge: bytes
    ) -> None:
        if len(theirs) != _PAKE:
            raise ProtocolError(f"a SPAKE2 message of {len(theirs)} bytes; it has {_PAKE}")
        try:
            key: bytes = pake.finish(theirs)
        except (SPAKEError, NotOnCurve, ValueError) as error:
            raise ProtocolError(f"a SPAKE2 message cannot be used: {error}") from None
        self.transcript = sha256(pack(binding, hello, challenge)).digest()
        self.joiner = hmac.digest(key, _JOINER + self.transcript, "sha256")
        self.offerer = hmac.digest(key, _OFFERER + self.transcript, "sha256")


def _message(kind: _Kind, *fields: bytes) -> bytes:
    return bytes([kind]) + pack(*fields)


def _read(message: bytes, kind: _Kind, count: int) -> tuple[bytes, ...]:
    if message[:1] == bytes([_Kind.REFUSED]):
        raise _refused(message)
    if message[:1] != bytes([kind]):
        raise ProtocolError(f"a pairing needs the message {kind.name} here, and another one came")
    return unpack(message[1:], count)


def _refused(message: bytes) -> PairingError:
    try:
        reason = Reason(unpack(message[1:], 1)[0][0])
    except (ValueError, IndexError):
        raise ProtocolError("a device ended the pairing for a reason that does not exist") from None
    if reason is Reason.WRONG_PIN:
        return WrongPinError(_TEXTS[reason])
    if reason is Reason.LOCKED:
        return PairingLockedError(_TEXTS[reason])
    return _Ended(reason)


def refusal(reason: Reason) -> bytes:
    """Return the message that ends a pairing."""
    return _message(_Kind.REFUSED, bytes([reason]))


def reason_of(error: Exception) -> Reason:
    """Return what the other side is told about an error that ended a pairing here."""
    if isinstance(error, _Ended):
        return error.reason
    return next((reason for kind, reason in _REASONS if isinstance(error, kind)), Reason.FAILED)


_REASONS: Final[tuple[tuple[type[IpcError], Reason], ...]] = (
    (WrongPinError, Reason.WRONG_PIN),
    (PairingLockedError, Reason.LOCKED),
    (NotTrustedError, Reason.UNPROVEN),
    (ProtocolError, Reason.PROTOCOL),
    (ParamValueError, Reason.FULL),
    (SoftBusError, Reason.FAILED),
)


def _device(store: TrustStore, transcript: bytes, role: bytes, admission: bytes) -> bytes:
    said = pack(store.request(), store.snapshot().ca_pem, store.roster(), admission)
    return _message(_Kind.DEVICE, said, store.key.sign(_signed(role, transcript, said)))


def _signed(role: bytes, transcript: bytes, said: bytes) -> bytes:
    # The role and the transcript: a signature cannot be sent back, nor used in another pairing.
    return pack(role, transcript, said)


def _read_device(message: bytes, transcript: bytes, role: bytes) -> tuple[bytes, bytes, Party, bytes]:
    """Return a device's request, its admission for us, what it proved to be, and its signed list of members."""
    said, signature = _read(message, _Kind.DEVICE, 2)
    request, ca_pem, signed, admission = unpack(said, 4)
    spki, member = read_request(request)
    verify_signature(public_key_from(spki), signature, _signed(role, transcript, said))
    roster = read_roster(signed, ca_pem)
    _check_member(member, roster)
    return request, admission, Party(member.udid, roster), signed


def _check_member(member: Member, roster: Roster) -> None:
    if member.udid not in roster.members:
        raise NotTrustedError("a device shows the list of a circle that it does not belong to")


def _myself(store: TrustStore) -> Party:
    return Party(store.udid, store.members())


def _recognise(store: TrustStore, peer: Party, roster: bytes) -> None:
    # In one circle already: whoever has the older list takes the newer, and a "remove" of the other one is taken back.
    store.accept_roster(roster)
    store.trust_again(peer.udid)


def _trusted(store: TrustStore, udid: str) -> TrustedDevice:
    device = store.trusted().get(udid)
    if device is None:
        raise NotTrustedError("the other device admitted this one to a circle it does not belong to itself")
    return device
