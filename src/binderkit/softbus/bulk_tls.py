"""Who is at the other end of a stream: TLS with certificates on both sides, and what they prove.

Owns: the two TLS contexts made of a trust snapshot, and the check of a peer's certificate.

Rules upheld here:

- TLS 1.3 only; both sides show a certificate of the circle's one CA.
- A UDID is the SHA-256 of the device's public key. So the name in the certificate is checked against the key that
  the handshake proved: even a CA that has gone bad cannot make one device pass for another.
- A device counts only while it is in the list of trusted devices: a certificate alone, valid or not, opens nothing.
- No resumed sessions: each stream shows its certificate anew, so that a device removed from the list stays out.
- Host names are not checked: addresses on a home network change, the UDID is the name.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from typing import TYPE_CHECKING

from binderkit.errors import NotTrustedError, ParamValueError
from binderkit.softbus.identity import udid_of_certificate

if TYPE_CHECKING:
    from binderkit.softbus.engine import TrustSnapshot

__all__ = ["Credentials", "credentials", "proven_udid"]


@dataclass(frozen=True, slots=True)
class Credentials:
    """A trust snapshot and the TLS contexts made of it: ``accepting`` for incoming streams, ``dialling`` for ours."""

    trust: TrustSnapshot
    accepting: ssl.SSLContext
    dialling: ssl.SSLContext


def credentials(trust: TrustSnapshot) -> Credentials:
    """Return the TLS contexts for a trust snapshot.

    Raises:
        ParamValueError: certificate, key and CA do not fit together, or cannot be read (401).
    """
    try:
        return Credentials(trust, _context(trust, ssl.PROTOCOL_TLS_SERVER), _context(trust, ssl.PROTOCOL_TLS_CLIENT))
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        raise ParamValueError(
            f"cannot use the certificate of device {trust.own} with the key {trust.key_file}: {error}; "
            "pair the device again to get a new certificate"
        ) from error


def _context(trust: TrustSnapshot, protocol: int) -> ssl.SSLContext:
    context = ssl.SSLContext(protocol)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(cadata=trust.ca_pem.decode("ascii"))
    _load_certificate(context, trust)
    if protocol == ssl.PROTOCOL_TLS_SERVER:
        context.num_tickets = 0
    return context


def _load_certificate(context: ssl.SSLContext, trust: TrustSnapshot) -> None:
    """Load the certificate from memory: the ssl module reads files only, and a memfd is one that leaves no trace."""
    fd = os.memfd_create("binderkit-certificate", os.MFD_CLOEXEC)
    with open(fd, "wb", buffering=0) as file:
        file.write(trust.certificate_pem)
        context.load_cert_chain(f"/proc/self/fd/{fd}", trust.key_file)


def proven_udid(certificate: bytes | None, expected: str = "") -> str:
    """Return the UDID that a peer's certificate proves after a handshake.

    Args:
        certificate: DER, as the handshake gave it.
        expected: the UDID of the device that was dialled; "" for an incoming stream.

    Raises:
        NotTrustedError: no certificate, a common name that is not the hash of its key, or not ``expected``
            (-425983984).
    """
    if not certificate:
        raise NotTrustedError("the other side showed no certificate; only paired devices may open a stream")
    udid = udid_of_certificate(certificate)
    if expected and udid != expected:
        raise NotTrustedError(f"device {udid} answered where {expected} was expected")
    return udid
