"""What a device offers to others, as bytes: the answer to the control request ABILITIES. Pure.

On the wire, per ability: id (uint32), 1 if it runs else 0, the bytes of its name (uint8), the name in ASCII.

Rules upheld: hostile bytes: at most as many as a device can have, every id and name one that could be registered.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Final

from binderkit import limits
from binderkit.errors import ParamError, ProtocolError
from binderkit.samgr.ability import checked_key, checked_name
from binderkit.samgr.remote import RemoteAbility

__all__ = ["decode", "encode"]

_HEAD: Final = struct.Struct("<IBB")


def encode(abilities: Iterable[RemoteAbility]) -> bytes:
    """Return the bytes of a list."""
    encoded = bytearray()
    for one in abilities:
        name = one.name.encode("ascii")
        encoded += _HEAD.pack(one.id, one.running, len(name)) + name
    return bytes(encoded)


def decode(data: bytes) -> list[RemoteAbility]:
    """Return the list another device sent.

    Raises:
        ProtocolError: not what ``encode`` makes (601).
    """
    found: list[RemoteAbility] = []
    at = 0
    try:
        while at < len(data):
            ability, running, size = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            name = bytes(data[at : at + size]).decode("ascii")
            at += size
            if len(name) != size or running > 1 or len(found) == limits.MAX_ABILITIES:
                raise ValueError("cut off, or too many")
            checked_key(ability)
            found.append(RemoteAbility(ability, checked_name(name) if name else "", bool(running)))
    except (struct.error, ValueError, ParamError) as error:
        raise ProtocolError(f"{len(data)} bytes are no list of system abilities: {error}") from error
    return found
