"""The file in which a device keeps its circle: one JSON document, replaced whole. Pure but for reading and writing it.

Owns: ``TrustDocument`` and its form on disk.

Why one file with the CA's key in it: joining another circle changes the CA, the
certificate, the list of members and who owns the CA's key, together or not at
all. One file replaced by another is the only thing a disk does in one step.

Rules upheld: mode 0600; a file that cannot be understood is never overwritten
by an empty beginning, it is an error that says what to do.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final

from binderkit.errors import SoftBusError
from binderkit.softbus.identity import read_private, write_private

__all__ = ["TrustDocument", "load_document", "save_document"]

_FORMAT: Final = 1


@dataclass(frozen=True, slots=True)
class TrustDocument:
    """What a device keeps of its circle.

    Attributes:
        name, device_type: of this device.
        ca_pem: the circle's CA certificate.
        certificate_pem: this device's certificate.
        roster: the newest signed list of members that was seen.
        authority_pem: the CA's private key on the circle's owner, else empty.
        blocked: UDIDs of members that this device was told not to trust.
    """

    name: str
    device_type: str
    ca_pem: bytes
    certificate_pem: bytes
    roster: bytes = field(repr=False)
    authority_pem: bytes = field(repr=False)
    blocked: frozenset[str]


_BYTES: Final = ("ca_pem", "certificate_pem", "roster", "authority_pem")
_TEXTS: Final = ("name", "device_type")


def save_document(path: Path, document: TrustDocument) -> None:
    """Replace the file by ``document``.

    Raises:
        OSError: it cannot be written; the old one is still there.
    """
    row: dict[str, Any] = {one: getattr(document, one) for one in _TEXTS}
    row.update({one: getattr(document, one).hex() for one in _BYTES})
    row.update(format=_FORMAT, blocked=sorted(document.blocked))
    write_private(path, json.dumps(row, indent=1).encode())


def load_document(path: Path) -> TrustDocument:
    """Return what the file holds.

    Raises:
        SoftBusError: others can read it, or it cannot be understood (-426442749).
        OSError: it cannot be read; FileNotFoundError when there is none.
    """
    text = read_private(path)
    try:
        return _document(json.loads(text))
    except (ValueError, RecursionError) as error:
        raise SoftBusError(
            f"{path} cannot be understood ({error}): restore it, or remove it and pair this device again"
        ) from None


def _document(row: Any) -> TrustDocument:
    if not isinstance(row, dict) or row.get("format") != _FORMAT:
        raise ValueError(f"it is not of format {_FORMAT}")
    if set(row) != {one.name for one in fields(TrustDocument)} | {"format"}:
        raise ValueError("fields are missing, or there are unknown ones")
    if not all(isinstance(row[one], str) for one in (*_TEXTS, *_BYTES)):
        raise ValueError("a field is not text")
    blocked = row["blocked"]
    if not isinstance(blocked, list) or not all(isinstance(one, str) for one in blocked):
        raise ValueError("blocked is not a list of texts")
    values = {one: bytes.fromhex(row[one]) for one in _BYTES}
    return TrustDocument(name=row["name"], device_type=row["device_type"], blocked=frozenset(blocked), **values)
