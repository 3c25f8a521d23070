"""What devices tell strangers near by, and how it is written in an mDNS record. Pure.

Owns: the vocabulary of publishing and looking (``PublishInfo``, ``SubscribeInfo``,
``Capability``, ``FoundDevice``, reference 4.5) and the TXT record: one key per
fact, the text of a capability in pieces, because a TXT string has 255 bytes.

    v=1   h=<hash of the UDID>   n=<name>   t=<type>   c=<capability bits, hexadecimal>   d0=, d1= … <text>

Rules upheld: everything in a found device is a stranger's word: checked for
length and for characters that could deceive a reader's terminal, and never the
reason to trust it. The UDID itself is not shown.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from binderkit import limits
from binderkit.errors import ParamValueError

__all__ = [
    "Announcement",
    "Capability",
    "FoundDevice",
    "Frequency",
    "Medium",
    "Mode",
    "PublishInfo",
    "SubscribeInfo",
    "read_announcement",
    "usable_addresses",
    "write_announcement",
]

_VERSION: Final = b"1"
_HASH: Final = re.compile(rb"[0-9a-f]{32}")
_BITS: Final = re.compile(rb"[0-9a-f]{1,8}")
_TYPE: Final = re.compile(rb"[A-Za-z0-9_.-]+")
_PIECE: Final = 200
"""Bytes of a piece of text in one TXT string."""
_NAME_BYTES: Final = 250
"""Bytes of a name in one TXT string: 64 characters may have 256, then the last ones are left out."""
_MAX_ADDRESSES: Final = 16


class Mode(IntEnum):
    """Whether one speaks first (reference 4.5). mDNS does both at once, whichever is asked for."""

    PASSIVE = 0x55
    ACTIVE = 0xAA


class Medium(IntEnum):
    """Over what (reference 4.5). There is one medium here, the local network: AUTO and COAP mean it."""

    AUTO = 0
    BLE = 1
    COAP = 2
    USB = 3
    COAP1 = 4
    NFC = 5


class Frequency(IntEnum):
    """How often (reference 4.5). Accepted and left to mDNS, which has its own rules for that (RFC 6762, 5.2)."""

    LOW = 0
    MID = 1
    HIGH = 2
    SUPER_HIGH = 3
    EXTREME_HIGH = 4
    SCREEN_ON_INSTANT = 5


class Capability(IntEnum):
    """What a device offers, or looks for (reference 4.5); ``DDMP`` is the one for applications' middleware."""

    HICALL = 0
    PROFILE = 1
    HOMEVISION_PIC = 2
    CAST_PLUS = 3
    AA_CAPABILITY = 4
    DV_KIT = 5
    DDMP = 6
    OSD = 7
    SHARE = 8
    APPROACH = 9
    VIRTUAL_LINK = 10
    TOUCH = 11
    OOP = 12
    OH_APPROACH = 13
    SD = 14
    RAISE_HAND = 15
    PC_COLLABORATION = 16
    NFC_SHARE = 17
    MEETING_2M = 18


_LAN: Final = frozenset({Medium.AUTO, Medium.COAP, Medium.COAP1})


@dataclass(frozen=True, slots=True)
class PublishInfo:
    """What to announce (reference 4.5).

    Attributes:
        id: number of the publication within its package; what ``stop_publish`` takes.
        capability: what this device offers.
        data: text for those who find it, at most limits.MAX_CAPABILITY_DATA bytes. A device announces one such text: of
            the latest publication that has one.
        mode, medium, frequency: see there.
    """

    id: int
    capability: Capability = Capability.DDMP
    data: str = ""
    mode: Mode = Mode.ACTIVE
    medium: Medium = Medium.AUTO
    frequency: Frequency = Frequency.MID

    def check(self) -> None:
        """Raise ParamValueError when it cannot be announced (401)."""
        _check_medium(self.medium)
        if len(self.data.encode()) > limits.MAX_CAPABILITY_DATA or not (self.data.isprintable()):
            raise ParamValueError(
                f"capability data of {len(self.data.encode())} bytes; at most {limits.MAX_CAPABILITY_DATA} printable "
                "ones can be announced: send more after the devices are paired"
            )


@dataclass(frozen=True, slots=True)
class SubscribeInfo:
    """What to look for (reference 4.5).

    Attributes:
        id: number of the subscription within its package; what ``stop_refresh`` takes.
        capability: only devices that announce it are reported.
        mode, medium, frequency: see there.
    """

    id: int
    capability: Capability = Capability.DDMP
    mode: Mode = Mode.ACTIVE
    medium: Medium = Medium.AUTO
    frequency: Frequency = Frequency.MID

    def check(self) -> None:
        """Raise ParamValueError when it cannot be looked for (401)."""
        _check_medium(self.medium)


def _check_medium(medium: Medium) -> None:
    if medium not in _LAN:
        raise ParamValueError(f"the medium {medium.name} is not supported here (reason 1): use AUTO or COAP")


@dataclass(frozen=True, slots=True)
class Announcement:
    """What one device says of itself in its TXT record; strangers' words when received.

    Attributes:
        device_id: hash of its UDID, 32 hexadecimal digits.
        name, device_type: for people.
        capabilities: bit n stands for ``Capability(n)``.
        data: the text that a publication carries.
    """

    device_id: str
    name: str
    device_type: str
    capabilities: int
    data: str = ""


@dataclass(frozen=True, slots=True)
class FoundDevice:
    """A device near by (reference 4.5, DeviceInfo). Nothing in it is proven.

    Attributes:
        device_id, name, device_type, capabilities, data: as it announces them.
        addresses: of its, IPv4 and IPv6 as text.
        pairing_port: where it offers pairing; 0 when it does not now.
        known: whether ``device_id`` is that of a device this one trusts; anybody can say so.
    """

    device_id: str
    name: str
    device_type: str
    capabilities: int
    data: str
    addresses: tuple[str, ...]
    pairing_port: int
    known: bool

    def offers(self, capability: Capability) -> bool:
        """Return whether it announces a capability."""
        return bool(self.capabilities >> capability & 1)


def write_announcement(announcement: Announcement) -> dict[str, bytes]:
    """Return the TXT record of this device."""
    name = announcement.name.encode()[:_NAME_BYTES].decode(errors="ignore")
    data = announcement.data.encode()
    pieces = range(0, len(data), _PIECE)
    return {
        "v": _VERSION,
        "h": announcement.device_id.encode(),
        "n": name.encode(),
        "t": announcement.device_type.encode(),
        "c": f"{announcement.capabilities:x}".encode(),
        **{f"d{number}": data[start : start + _PIECE] for number, start in enumerate(pieces)},
    }


def read_announcement(record: Mapping[bytes, bytes | None]) -> Announcement | None:
    """Return what a received TXT record says; None when it is not one of ours, or breaks a rule."""
    device, name, kind, bits = (record.get(key) or b"" for key in (b"h", b"n", b"t", b"c"))
    if record.get(b"v") != _VERSION or not _HASH.fullmatch(device) or not _BITS.fullmatch(bits):
        return None
    if len(kind) > limits.MAX_DEVICE_TYPE or not _TYPE.fullmatch(kind):
        return None
    pieces = -(-limits.MAX_CAPABILITY_DATA // _PIECE)
    data = b"".join(record.get(b"d%d" % number) or b"" for number in range(pieces))
    try:
        shown, text = name.decode(), data.decode()
    except UnicodeDecodeError:
        return None
    if not 0 < len(shown) <= limits.MAX_DEVICE_NAME or not shown.isprintable():
        return None
    if len(data) > limits.MAX_CAPABILITY_DATA or not text.isprintable():
        return None
    return Announcement(device.decode(), shown, kind.decode(), int(bits, 16), text)


def usable_addresses(addresses: list[str]) -> tuple[str, ...]:
    """Return the addresses one could connect to, sorted, at most 16."""
    found = set()
    for text in addresses:
        try:
            address = ipaddress.ip_address(text)
        except ValueError:
            continue
        if not (address.is_multicast or address.is_unspecified):
            found.add(text)
    return tuple(sorted(found)[:_MAX_ADDRESSES])
