"""A circle of devices that trust each other: its one CA, its certificates, its signed list of members. Pure.

Owns: ``Authority`` (the CA's key: makes certificates and signs lists),
``Roster`` (the list) and ``check_certificate``/``read_roster`` (what every
member checks of what it receives).

How it works: one device, the owner, holds the CA's key. It signs a certificate
for each member and, with every change, a new list of all members with a higher
version. The list may come from anybody (it is signed), so that members learn of
new and of revoked devices also from each other. Not in the newest list = not a
member.

Why one CA and one owner: several CAs could each issue any UDID; a CA key that
every member has would let each member be every other one.

Rules upheld:

- A certificate is issued only for the UDID that is the hash of the key in it.
- An old list never replaces a newer one.
- Certificates begin in 1970: a device whose clock was set back, or which has
  none, keeps working; what takes trust away is the list, not the calendar.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from binderkit import limits
from binderkit.errors import NotTrustedError, ParamValueError, ProtocolError
from binderkit.softbus.fields import pack, read_text, unpack, unpack_all
from binderkit.softbus.identity import (
    certificate_key,
    check_type,
    check_udid,
    load_certificate,
    load_key,
    new_key,
    private_pem,
    public_key_from,
    spki_of,
    udid_of_certificate,
    udid_of_spki,
    verify_signature,
)

__all__ = [
    "Authority",
    "Member",
    "Roster",
    "check_certificate",
    "circle_of",
    "read_member",
    "read_roster",
    "remaining_life",
    "write_member",
]

_ROSTER: Final = b"binderkit roster 1\0"
"""In front of what is signed: a signature of a list can be nothing else's."""
_BEGIN: Final = datetime.datetime(1970, 1, 2, tzinfo=datetime.UTC)
_END_OF_CA: Final = datetime.datetime(2120, 1, 1, tzinfo=datetime.UTC)
_BUILT: Final = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC).timestamp()
"""No clock that is right shows less: a certificate made with a wrong one must not be over once the clock is set."""
_MAX_VERSION: Final = 2**63 - 1
_MAX_ROSTER: Final = 48 * limits.KIB
"""Bytes of a signed list: fits a message of a pairing together with certificates."""


@dataclass(frozen=True, slots=True)
class Member:
    """A device of a circle.

    Attributes:
        udid: 64 hexadecimal digits.
        name, device_type: as they were when it was paired.
        since: when that was, in seconds since 1970 by the owner's clock.
    """

    udid: str
    name: str
    device_type: str
    since: int


@dataclass(frozen=True, slots=True)
class Roster:
    """The members of a circle.

    Attributes:
        circle: 64 hexadecimal digits: SHA-256 of the CA's public key.
        version: higher in every newer list.
        owner: UDID of the device that holds the CA's key.
        members: all of them, the owner too, by UDID.
    """

    circle: str
    version: int
    owner: str
    members: dict[str, Member]

    @property
    def alone(self) -> bool:
        """Whether the owner is the only member."""
        return len(self.members) == 1


class Authority:
    """The CA of a circle; only its owner has it.

    Args:
        key_pem: the CA's private key; None makes a new circle.
        ca_pem: the CA's certificate, when ``key_pem`` is given.
        source: the file they come from, for the text of errors.

    Raises:
        SoftBusError: the key is none (-426442749). NotTrustedError: the certificate is not of that key (-425983984).
    """

    def __init__(self, key_pem: bytes | None = None, ca_pem: bytes = b"", source: Path = Path("trust.json")) -> None:
        self._key = new_key() if key_pem is None else load_key(key_pem, source)
        self._name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, f"circle {udid_of_spki(spki_of(self._key.public_key()))[:16]}")]
        )
        self.ca_pem = self._certify_itself() if key_pem is None else ca_pem
        self.circle = circle_of(self.ca_pem)
        if self.circle != udid_of_spki(spki_of(self._key.public_key())):
            raise NotTrustedError(f"{source}: the circle's certificate is not of the circle's key")

    def __repr__(self) -> str:
        return f"<Authority of circle {self.circle[:8]}…>"

    def private_pem(self) -> bytes:
        """Return the CA's private key, for the owner's own file only."""
        return private_pem(self._key)

    def issue(self, spki: bytes, now: float) -> bytes:
        """Return a certificate (PEM) for the device that owns a public key.

        Args:
            spki: the key, DER; the common name becomes its UDID, so that no certificate can name another device.
            now: seconds since 1970; it is valid until limits.CERTIFICATE_LIFE later.

        Raises:
            NotTrustedError: no P-256 key (-425983984).
        """
        key = public_key_from(spki)
        udid = udid_of_spki(spki)
        end = datetime.datetime.fromtimestamp(max(now, _BUILT) + limits.CERTIFICATE_LIFE, datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, udid)]))
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_BEGIN)
            .not_valid_after(end)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_usage(signs_certificates=False), critical=True)
            .add_extension(
                x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]),
                critical=False,
            )
            # Addresses change, so none is named; some TLS libraries refuse a certificate that names nothing at all.
            .add_extension(x509.SubjectAlternativeName([x509.DNSName(f"{udid[:32]}.softbus")]), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)

    def sign_roster(self, roster: Roster) -> bytes:
        """Return a list of members with its signature.

        Raises:
            ParamValueError: of another circle, without its owner, or with too many members (401).
        """
        if roster.circle != self.circle or roster.owner not in roster.members:
            raise ParamValueError("a list of members must be of this circle and hold its owner")
        if len(roster.members) > limits.MAX_CIRCLE_DEVICES:
            raise ParamValueError(
                f"a circle has at most {limits.MAX_CIRCLE_DEVICES} devices: revoke one that is not used any more"
            )
        body = pack(
            roster.circle.encode(),
            str(roster.version).encode(),
            roster.owner.encode(),
            *(write_member(roster.members[udid]) for udid in sorted(roster.members)),
        )
        return pack(body, self._key.sign(_ROSTER + body, ec.ECDSA(hashes.SHA256())))

    def _certify_itself(self) -> bytes:
        public = self._key.public_key()
        builder = (
            x509.CertificateBuilder()
            .subject_name(self._name)
            .issuer_name(self._name)
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_BEGIN)
            .not_valid_after(_END_OF_CA)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )
        return builder.sign(self._key, hashes.SHA256()).public_bytes(Encoding.PEM)


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def circle_of(ca_pem: bytes) -> str:
    """Return the name of the circle whose CA certificate this is: SHA-256 of its public key, hexadecimal.

    Raises:
        NotTrustedError: not a CA certificate signed by its own key (-425983984).
    """
    certificate = load_certificate(ca_pem)
    key = certificate_key(certificate)
    _check_signed(certificate, key)
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except (ValueError, TypeError, x509.ExtensionNotFound, x509.DuplicateExtension) as error:
        raise NotTrustedError(f"the circle's certificate cannot be used: {error}") from None
    if not constraints.ca:
        raise NotTrustedError("the circle's certificate is no CA's")
    return udid_of_spki(spki_of(key))


def check_certificate(pem: bytes, ca_pem: bytes) -> str:
    """Return the UDID that a certificate proves, after checking it against the circle's CA (not its dates).

    Raises:
        NotTrustedError: another CA signed it, or its common name is not the hash of its key (-425983984).
    """
    certificate = load_certificate(pem)
    _check_signed(certificate, certificate_key(load_certificate(ca_pem)))
    return udid_of_certificate(pem)


def _check_signed(certificate: x509.Certificate, key: ec.EllipticCurvePublicKey) -> None:
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm as error:
        raise NotTrustedError(f"a certificate cannot be checked: {error}") from None
    if not isinstance(algorithm, hashes.SHA256):
        raise NotTrustedError("a certificate is signed with another hash than SHA-256")
    verify_signature(key, certificate.signature, certificate.tbs_certificate_bytes)


def remaining_life(pem: bytes, now: float) -> float:
    """Return for how many seconds a certificate is still valid at ``now``; below 0 when it is over."""
    return load_certificate(pem).not_valid_after_utc.timestamp() - now


def read_roster(data: bytes, ca_pem: bytes) -> Roster:
    """Return a signed list of members, checked against the circle's CA.

    Raises:
        ProtocolError: not such a list (601). NotTrustedError: not signed by this circle's CA (-425983984).
    """
    if len(data) > _MAX_ROSTER:
        raise ProtocolError(f"a list of members of {len(data)} bytes; at most {_MAX_ROSTER} are read")
    body, signature = unpack(data, 2)
    verify_signature(certificate_key(load_certificate(ca_pem)), signature, _ROSTER + body)
    fields = unpack_all(body, 3 + limits.MAX_CIRCLE_DEVICES)
    if len(fields) < 4:
        raise ProtocolError("a list of members names nobody")
    circle, version, owner, *rows = fields
    if circle != circle_of(ca_pem).encode():
        raise NotTrustedError("a list of members is of another circle")
    members = {member.udid: member for member in map(read_member, rows)}
    roster = Roster(circle.decode(), _number(version), _udid(owner), members)
    if roster.owner not in members or len(members) != len(rows):
        raise ProtocolError("a list of members lacks its owner or names a device twice")
    return roster


def write_member(member: Member) -> bytes:
    """Return a member as bytes."""
    return pack(member.udid.encode(), member.name.encode(), member.device_type.encode(), str(member.since).encode())


def read_member(data: bytes) -> Member:
    """Return a member from received bytes.

    Raises:
        ProtocolError: they are none (601).
    """
    udid, name, device_type, since = unpack(data, 4)
    kind = read_text(device_type, limits.MAX_DEVICE_TYPE)
    try:
        check_type(kind)
    except ParamValueError as error:
        raise ProtocolError(f"a member cannot be read: {error}") from None
    return Member(_udid(udid), read_text(name, limits.MAX_DEVICE_NAME), kind, _number(since))


def _udid(field: bytes) -> str:
    try:
        return check_udid(field.decode("ascii"))
    except (UnicodeDecodeError, ParamValueError):
        raise ProtocolError("a UDID must be 64 hexadecimal digits in lower case") from None


def _number(field: bytes) -> int:
    # isdigit() of bytes is ASCII only; the length keeps int() cheap.
    if not field.isdigit() or len(field) > len(str(_MAX_VERSION)) or int(field) > _MAX_VERSION:
        raise ProtocolError("a number in a list of members is none, or too large")
    return int(field)
