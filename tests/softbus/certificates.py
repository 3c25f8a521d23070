"""Circles and devices for the tests of the engine: a CA, keys and certificates made with ``cryptography``."""

from __future__ import annotations

import datetime
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from binderkit.softbus.engine import TrustSnapshot


@dataclass(frozen=True)
class Device:
    """A device's key and certificate."""

    udid: str
    certificate_pem: bytes
    key_file: Path
    ca_pem: bytes

    def trust(self, *others: Device | str) -> TrustSnapshot:
        """Return what this device's engine needs to speak with the ``others``."""
        udids = frozenset(other if isinstance(other, str) else other.udid for other in others)
        return TrustSnapshot(self.udid, udids, self.ca_pem, self.certificate_pem, self.key_file)


class Circle:
    """One CA; ``device`` issues certificates, also for a UDID that is not the key's."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "circle")])
        builder = self._builder(self._name, self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self._certificate = builder.sign(self._key, hashes.SHA256())
        self.ca_pem = self._certificate.public_bytes(serialization.Encoding.PEM)

    def device(self, udid: str = "") -> Device:
        key = ec.generate_private_key(ec.SECP256R1())
        spki = key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        udid = udid or hashlib.sha256(spki).hexdigest()
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, udid)])
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self._builder(name, key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        builder = builder.add_extension(usage, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(udid[:32])]), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        path = self._directory / f"{hashlib.sha256(spki).hexdigest()}.key"
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(
                key.private_bytes(
                    serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
                )
            )
        return Device(udid, certificate.public_bytes(serialization.Encoding.PEM), path, self.ca_pem)

    def nameless(self, device: Device) -> bytes:
        """Return a certificate for a device's key that names nobody."""
        key = serialization.load_pem_private_key(device.key_file.read_bytes(), None)
        assert isinstance(key, ec.EllipticCurvePrivateKey)
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = self._builder(x509.Name([]), key.public_key()).add_extension(usage, critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("nobody")]), critical=True)
        return builder.sign(self._key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    def _builder(self, subject: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=2))
        )
