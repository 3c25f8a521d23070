"""What is true of a device's circle at one moment, and what follows from a change. Pure.

Owns: ``TrustState`` (the document on disk and what was read from it) and the making of new ones: founding a circle,
reading one, signing another list of members; ``TrustedDevice`` and ``TrustChange``, which others see of it.

Why apart from the store: it decides, the store keeps. Nothing here reads a clock, a file or a lock.

Rules upheld: a state is whole or there is none: one that does not belong together is refused when it is read.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from binderkit.errors import NotTrustedError, ParamValueError, ProtocolError, SoftBusError
from binderkit.softbus.circle import Authority, Member, Roster, check_certificate, read_member, read_roster
from binderkit.softbus.fields import unpack
from binderkit.softbus.identity import DeviceKey, check_type, udid_of_spki
from binderkit.softbus.trust_file import TrustDocument
from binderkit.softbus.zenoh_config import check_name

__all__ = ["TrustChange", "TrustState", "TrustedDevice", "difference", "founded", "read_request", "read_state"]


@dataclass(frozen=True, slots=True)
class TrustedDevice:
    """A device that this one trusts.

    There is no certificate in it: ``udid`` is the hash of the device's key, so it pins the key, and certificates of
    that key come and go.

    Attributes:
        udid: 64 hexadecimal digits.
        name, device_type: as they were when it was paired.
        since: when that was, seconds since 1970 by the owner's clock.
        owner: whether it is the owner of the circle.
    """

    udid: str
    name: str
    device_type: str
    since: int
    owner: bool


@dataclass(frozen=True, slots=True)
class TrustChange:
    """What a change did; what is true now is in ``snapshot()``.

    Attributes:
        added, removed: UDIDs of the devices that are trusted now, or not any more.
        credentials: whether CA or certificate of this device are others now.
    """

    added: frozenset[str]
    removed: frozenset[str]
    credentials: bool


@dataclass(frozen=True, slots=True)
class TrustState:
    """One consistent moment: the document, and what was read from it.

    Attributes:
        authority: what signs for the circle, on its owner; None on the other members.
    """

    document: TrustDocument
    roster: Roster
    authority: Authority | None

    def trusted(self, own: str) -> frozenset[str]:
        """Return the UDIDs that the device ``own`` trusts; its own is not among them."""
        return frozenset(self.roster.members) - self.document.blocked - {own}

    def devices(self, own: str) -> dict[str, TrustedDevice]:
        """Return the same devices with what is known of them, by UDID."""
        found = (self.roster.members[udid] for udid in sorted(self.trusted(own)))
        return {
            one.udid: TrustedDevice(one.udid, one.name, one.device_type, one.since, one.udid == self.roster.owner)
            for one in found
        }

    def signer(self, what: str) -> Authority:
        """Return what signs for the circle.

        Raises:
            SoftBusError: this device does not own it; ``what`` is what only the owner can do (-426442749).
        """
        if self.authority is not None:
            return self.authority
        owner = self.roster.members[self.roster.owner]
        raise SoftBusError(f"only the owner of the circle can {what}: do it on {owner.name!r} ({owner.udid[:8]}…)")

    def with_members(self, own: str, members: dict[str, Member], now: float) -> TrustState:
        """Return the state after the owner signed another list of members; ``now``: seconds since 1970.

        Raises:
            SoftBusError: see ``signer``. ParamValueError: the circle is full (401).
        """
        authority = self.signer("change its members")
        # Not only +1: an owner restored from an old backup must not sign a second list of a version that is out.
        roster = Roster(authority.circle, max(self.roster.version + 1, int(now)), own, members)
        return replace(self, document=replace(self.document, roster=authority.sign_roster(roster)), roster=roster)

    def unblocked(self, udid: str) -> TrustState:
        """Return the state in which a device is not refused (any more)."""
        return replace(self, document=replace(self.document, blocked=self.document.blocked - {udid}))


def founded(key: DeviceKey, name: str, device_type: str, blocked: frozenset[str], now: float) -> TrustState:
    """Return a new circle with one member; ``now``: seconds since 1970."""
    authority = Authority()
    me = Member(key.udid, name, device_type, max(0, int(now)))
    roster = Roster(authority.circle, 1, key.udid, {key.udid: me})
    document = TrustDocument(
        name=name,
        device_type=device_type,
        ca_pem=authority.ca_pem,
        certificate_pem=authority.issue(key.spki, now),
        roster=authority.sign_roster(roster),
        authority_pem=authority.private_pem(),
        blocked=blocked,
    )
    return TrustState(document, roster, authority)


def read_state(document: TrustDocument, key: DeviceKey, file: Path) -> TrustState:
    """Return the state a document describes; ``file`` is for the texts of errors.

    Raises:
        SoftBusError: it cannot be understood (-426442749). NotTrustedError: it is not this key's (-425983984).
    """
    try:
        check_name(document.name)
        check_type(document.device_type)
        roster = read_roster(document.roster, document.ca_pem)
    except (ProtocolError, ParamValueError) as error:
        raise SoftBusError(
            f"{file} cannot be understood ({error}): restore it, or remove it and pair this device again"
        ) from None
    if check_certificate(document.certificate_pem, document.ca_pem) != key.udid:
        raise NotTrustedError(
            f"{file} is not of this {key.path.name}: restore the key, or remove the file and pair this device again"
        )
    if not document.authority_pem:
        return TrustState(document, roster, None)
    return TrustState(document, roster, Authority(document.authority_pem, document.ca_pem, file))


def read_request(request: bytes) -> tuple[bytes, Member]:
    """Return the public key (DER) of a device that wants to be admitted, and what it says of itself.

    Raises:
        ProtocolError: no such request (601). NotTrustedError: the UDID is not the hash of the key (-425983984).
    """
    spki, said = unpack(request, 2)
    member = read_member(said)
    if udid_of_spki(spki) != member.udid:
        raise NotTrustedError(f"a device claims the UDID {member.udid}, which is not that of its key")
    return spki, member


def difference(before: TrustState, after: TrustState, own: str) -> TrustChange | None:
    """Return what a change did to the device ``own``; None when nothing that concerns others."""
    if before is after:
        return None
    was, now = before.trusted(own), after.trusted(own)
    old, new = before.document, after.document
    credentials = (old.ca_pem, old.certificate_pem) != (new.ca_pem, new.certificate_pem)
    if was == now and not credentials:
        return None
    return TrustChange(now - was, was - now, credentials)
