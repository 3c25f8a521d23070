"""Keys and certificates for the contenders that speak mutual TLS: made as binderkit makes its own (P-256, one CA)."""

from __future__ import annotations

import os
import time
from pathlib import Path

from binderkit.softbus import identity
from binderkit.softbus.circle import Authority

CA = "ca.pem"
SERVER = "server"
CLIENT = "client"


def make(folder: Path) -> None:
    """Put a CA's certificate into ``folder``, and a certificate and key of it for the server and for the client."""
    authority = Authority()
    (folder / CA).write_bytes(authority.ca_pem)
    for side in (SERVER, CLIENT):
        key = identity.new_key()
        spki = identity.spki_of(key.public_key())
        _write_private(folder / f"{side}.key", identity.private_pem(key))
        (folder / f"{side}.pem").write_bytes(authority.issue(spki, time.time()))
        (folder / f"{side}.name").write_text(f"{identity.udid_of_spki(spki)[:32]}.softbus")


def _write_private(path: Path, content: bytes) -> None:
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
        file.write(content)
