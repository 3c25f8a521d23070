"""Who a device is: its key, the UDID that follows from it, and what a certificate proves of another.

Owns: the device's private key on disk (``DeviceKey``), the arithmetic of UDIDs,
and the checks of a certificate that decide which device is at the other end
(``udid_of_certificate``).

Why the UDID is the hash of the public key: then a certificate whose common name
is not the hash of its own key is a lie that anybody can see, whoever signed it.

Rules upheld:

- The key file has mode 0600 and belongs to this user, or it is not used.
- The key never leaves this process: not in a message, not in a log, not in a ``repr``.
- Received certificates are parsed by ``cryptography``; whatever it says about
  them, callers see ``NotTrustedError``.
"""

from __future__ import annotations

import os
import re
import stat
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_der_public_key,
    load_pem_private_key,
)
from cryptography.x509.oid import NameOID

from binderkit import limits
from binderkit.errors import NotTrustedError, ParamValueError, SoftBusError

__all__ = [
    "DeviceKey",
    "Identity",
    "certificate_key",
    "check_type",
    "check_udid",
    "common_name",
    "device_hash",
    "load_certificate",
    "load_key",
    "new_key",
    "private_pem",
    "public_key_from",
    "read_private",
    "spki_of",
    "udid_of_certificate",
    "udid_of_spki",
    "verify_signature",
    "write_private",
]

_UDID: Final = re.compile(r"[0-9a-f]{64}")
_TYPE: Final = re.compile(r"[A-Za-z0-9_.-]+")
_MAX_PRIVATE_FILE: Final = limits.MIB
_MAX_SPKI: Final = 1024


@dataclass(frozen=True, slots=True)
class Identity:
    """What this device is.

    Attributes:
        udid: 64 hexadecimal digits, SHA-256 of its public key (DER SubjectPublicKeyInfo); never changes.
        name: for people, at most limits.MAX_DEVICE_NAME characters.
        device_type: "linux", "phone" …, at most limits.MAX_DEVICE_TYPE letters, digits, "_", "." and "-".
        key_file: its private key, PEM, mode 0600.
        certificate: PEM; common name = ``udid``, signed by the circle's CA.
    """

    udid: str
    name: str
    device_type: str
    key_file: Path
    certificate: bytes


class DeviceKey:
    """The device's private key (ECDSA, P-256), made when the file is not there.

    Args:
        path: the file; its directory must exist.

    Raises:
        SoftBusError: others can read the file, it is not this user's, or it holds no such key (-426442749).
        OSError: the file cannot be read or written.
    """

    def __init__(self, path: Path) -> None:
        try:
            pem = read_private(path)
        except FileNotFoundError:
            pem = private_pem(new_key())
            write_private(path, pem)
        self.path = path
        self._key = load_key(pem, path)
        self.spki = spki_of(self._key.public_key())
        self.udid = udid_of_spki(self.spki)

    def __repr__(self) -> str:
        return f"<DeviceKey {self.udid[:8]}…>"

    def sign(self, data: bytes) -> bytes:
        """Return the ECDSA signature (SHA-256, DER) of ``data``."""
        return self._key.sign(data, ec.ECDSA(hashes.SHA256()))


def new_key() -> ec.EllipticCurvePrivateKey:
    """Return a fresh P-256 key."""
    return ec.generate_private_key(ec.SECP256R1())


def private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """Return a private key as PEM (PKCS 8, not encrypted: the file's mode protects it)."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def load_key(pem: bytes, path: Path) -> ec.EllipticCurvePrivateKey:
    """Return the key that ``pem`` holds; ``path`` is for the text of the error.

    Raises:
        SoftBusError: no P-256 key (-426442749).
    """
    try:
        key = load_pem_private_key(pem, None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise SoftBusError(f"{path} holds no private key ({error}): restore it, or remove it and pair again") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or not isinstance(key.curve, ec.SECP256R1):
        raise SoftBusError(f"{path} holds a key of another kind than P-256: restore it, or remove it and pair again")
    return key


def spki_of(key: ec.EllipticCurvePublicKey) -> bytes:
    """Return a public key as DER SubjectPublicKeyInfo."""
    return key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def udid_of_spki(spki: bytes) -> str:
    """Return the UDID of the device whose public key (DER) this is."""
    return sha256(spki).hexdigest()


def public_key_from(spki: bytes) -> ec.EllipticCurvePublicKey:
    """Return a received public key, after checking that it is one and that it has this one spelling.

    Raises:
        NotTrustedError: not a P-256 key in DER (-425983984).
    """
    if len(spki) > _MAX_SPKI:
        raise NotTrustedError(f"a public key of {len(spki)} bytes; a P-256 key in DER is expected")
    try:
        key = load_der_public_key(spki)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise NotTrustedError(f"the other device sent no public key: {error}") from None
    return _checked(key, spki)


def _checked(key: object, spki: bytes | None) -> ec.EllipticCurvePublicKey:
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise NotTrustedError("the other device's key is of another kind than P-256")
    # Two spellings of one key would be two UDIDs of one device.
    if spki is not None and spki_of(key) != spki:
        raise NotTrustedError("the other device's public key is not in its one DER form")
    return key


def verify_signature(key: ec.EllipticCurvePublicKey, signature: bytes, data: bytes) -> None:
    """Check an ECDSA signature (SHA-256, DER).

    Raises:
        NotTrustedError: it is not the signature of ``data`` by ``key`` (-425983984).
    """
    try:
        key.verify(signature, data, ec.ECDSA(hashes.SHA256()))
    except InvalidSignature:
        raise NotTrustedError("a signature is wrong: the sender does not own the key it claims") from None


def load_certificate(data: bytes) -> x509.Certificate:
    """Return a received certificate, PEM or DER.

    Raises:
        NotTrustedError: not a certificate (-425983984).
    """
    try:
        if data.startswith(b"-----BEGIN"):
            return x509.load_pem_x509_certificate(data)
        return x509.load_der_x509_certificate(data)
    except (ValueError, TypeError, x509.InvalidVersion) as error:
        raise NotTrustedError(f"the other device sent no certificate: {error}") from None


def certificate_key(certificate: x509.Certificate) -> ec.EllipticCurvePublicKey:
    """Return the public key in a certificate.

    Raises:
        NotTrustedError: no P-256 key (-425983984).
    """
    try:
        key = certificate.public_key()
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise NotTrustedError(f"the certificate holds no usable key: {error}") from None
    return _checked(key, None)


def common_name(certificate: x509.Certificate) -> str:
    """Return the one common name of a certificate's subject.

    Raises:
        NotTrustedError: none, several, or unreadable (-425983984).
    """
    try:
        names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    except (ValueError, TypeError) as error:  # a name that is a bit string is a TypeError
        raise NotTrustedError(f"the certificate's subject cannot be read: {error}") from None
    if len(names) != 1:
        raise NotTrustedError(f"the certificate has {len(names)} common names; exactly one, the UDID, is expected")
    return str(names[0].value)


def udid_of_certificate(data: bytes) -> str:
    """Return whose certificate this is.

    For users of TLS: the handshake proves that the peer owns the key and that the circle's CA signed it; this proves
    that the UDID in it is that key's and nobody else's, even when the CA signed a lie.

    Args:
        data: DER, as ``SSLSocket.getpeercert(True)`` gives it, or PEM.

    Raises:
        NotTrustedError: not a certificate, or its common name is not the hash of its key (-425983984).
    """
    certificate = load_certificate(data)
    claimed = common_name(certificate)
    udid = udid_of_spki(spki_of(certificate_key(certificate)))
    if claimed != udid:
        raise NotTrustedError(f"a certificate in the name of {claimed[:64]!r} belongs to the key of device {udid}")
    return udid


def device_hash(udid: str) -> str:
    """Return what a device shows of its UDID to strangers: 32 hexadecimal digits (reference 4.5: a hash of it)."""
    return sha256(b"softbus device\0" + udid.encode()).hexdigest()[:32]


def check_udid(udid: str) -> str:
    """Return ``udid`` when it is one.

    Raises:
        ParamValueError: not 64 hexadecimal digits in lower case (401).
    """
    if not _UDID.fullmatch(udid):
        raise ParamValueError(f"{udid!r} is not a UDID: 64 hexadecimal digits in lower case are expected")
    return udid


def check_type(device_type: str) -> str:
    """Return ``device_type`` when it can be a device's type.

    Raises:
        ParamValueError: empty, longer than limits.MAX_DEVICE_TYPE, or other characters than ASCII letters, digits, "_",
            "." and "-" (401).
    """
    if len(device_type) > limits.MAX_DEVICE_TYPE or not _TYPE.fullmatch(device_type):
        raise ParamValueError(
            f"{device_type!r} cannot be a device's type: use 1 to {limits.MAX_DEVICE_TYPE} letters, digits, _ . -"
        )
    return device_type


def read_private(path: Path) -> bytes:
    """Return a file that only this user may read.

    Raises:
        SoftBusError: it belongs to another user, others may read or write it, or it is far too large (-426442749).
        OSError: it cannot be read; FileNotFoundError when there is none.
    """
    # O_NOFOLLOW: a link could lead to a file that somebody else writes.
    with open(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb") as file:
        facts = os.fstat(file.fileno())
        if not stat.S_ISREG(facts.st_mode):
            raise SoftBusError(f"{path} is no ordinary file: move it away")
        if facts.st_uid != os.geteuid():
            raise SoftBusError(f"{path} belongs to user {facts.st_uid}: a key somebody else can change proves nothing")
        if facts.st_mode & 0o077:
            mode = stat.S_IMODE(facts.st_mode)
            raise SoftBusError(
                f"{path} has mode {mode:04o}, others may have read the keys in it: chmod 600 it if you are sure that "
                "nobody did, else remove it and pair again"
            )
        if facts.st_size > _MAX_PRIVATE_FILE:
            raise SoftBusError(f"{path} has {facts.st_size} bytes, more than the {_MAX_PRIVATE_FILE} it may have")
        return file.read()


def write_private(path: Path, data: bytes) -> None:
    """Replace a file by one with mode 0600, whole or not at all, also when the power fails.

    Raises:
        OSError: it cannot be written; the old one is still there.
    """
    fresh = path.with_name(path.name + ".new")
    # One left by a crash may have any mode: made anew, never reused.
    fresh.unlink(missing_ok=True)
    with open(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600), "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    os.replace(fresh, path)
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
