"""Where the other devices' ports for streams are: asked once, over the messages that devices have anyway.

Owns: the addresses that were learnt, and their form in a message.

An address is another device's word. It is worth a connection attempt and no more: what answers there must prove the
device's key. Only numeric addresses are taken, and few.
"""

from __future__ import annotations

import ipaddress
import struct
import threading
from collections.abc import Callable, Sequence
from typing import Final

from binderkit import limits
from binderkit.errors import ProtocolError
from binderkit.softbus.bulk_stream import Address

__all__ = ["Places", "decode_addresses", "encode_addresses"]

_PORT: Final = struct.Struct("<HB")
"""Port, and 4 or 16: the bytes of the address that follow."""


def encode_addresses(addresses: Sequence[Address]) -> bytes:
    """Return the addresses of this device's port, for the answer to a device that asks."""
    encoded = bytearray()
    for host, port in addresses[: limits.MAX_STREAM_ADDRESSES]:
        packed = ipaddress.ip_address(host).packed
        encoded += _PORT.pack(port, len(packed)) + packed
    return bytes(encoded)


def decode_addresses(data: bytes) -> tuple[Address, ...]:
    """Return received addresses.

    Raises:
        ProtocolError: not what ``encode_addresses`` makes (601).
    """
    found: list[Address] = []
    at = 0
    while at < len(data):
        if at + _PORT.size > len(data) or len(found) == limits.MAX_STREAM_ADDRESSES:
            raise ProtocolError(f"{len(data)} bytes are no list of at most {limits.MAX_STREAM_ADDRESSES} addresses")
        port, size = _PORT.unpack_from(data, at)
        at += _PORT.size
        packed = bytes(data[at : at + size])
        at += size
        if size not in (4, 16) or len(packed) != size or not port:
            raise ProtocolError(f"an address with {size} bytes and port {port} in the answer of a device")
        found.append((str(ipaddress.ip_address(packed)), port))
    return tuple(found)


class Places:
    """Returns where a device's port is: the ``locate`` of a StreamPort. Any thread."""

    def __init__(self, ask: Callable[[str], bytes]) -> None:
        """Learn by ``ask``, which returns a device's answer; it may block and raise (DeadObjectError …)."""
        self._ask = ask
        self._lock = threading.Lock()
        self._known: dict[str, tuple[Address, ...]] = {}

    def __call__(self, udid: str) -> tuple[Address, ...]:
        """Return the addresses of a device.

        Raises:
            ProtocolError: its answer makes no sense (601). Whatever ``ask`` raises.
        """
        with self._lock:
            known = self._known.get(udid)
        if known is None:
            known = decode_addresses(self._ask(udid))
            with self._lock:
                self._known[udid] = known
        return known

    def learn(self, udid: str, addresses: tuple[Address, ...]) -> None:
        """Take what a device says by itself: its addresses changed."""
        with self._lock:
            self._known[udid] = addresses

    def forget(self, udid: str) -> None:
        """Ask again the next time: the device went, came or changed."""
        with self._lock:
            self._known.pop(udid, None)
