"""bulk_tls.py: what a certificate proves."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import NotTrustedError, ParamValueError
from binderkit.softbus.bulk_tls import credentials, proven_udid
from tests.softbus.certificates import Circle


def _der(pem: bytes) -> bytes:
    return x509.load_pem_x509_certificate(pem).public_bytes(Encoding.DER)


def test_a_certificate_proves_the_udid_that_is_the_hash_of_its_key(tmp_path: Path) -> None:
    device = Circle(tmp_path).device()

    assert proven_udid(_der(device.certificate_pem)) == device.udid
    assert proven_udid(_der(device.certificate_pem), expected=device.udid) == device.udid


def test_another_name_in_the_certificate_is_refused_even_when_the_ca_signed_it(tmp_path: Path) -> None:
    circle = Circle(tmp_path)
    victim = circle.device()
    impostor = circle.device(victim.udid)

    with pytest.raises(NotTrustedError, match="belongs to the key of device " + impostor.key_file.stem):
        proven_udid(_der(impostor.certificate_pem))


def test_a_genuine_device_is_refused_where_another_was_expected(tmp_path: Path) -> None:
    circle = Circle(tmp_path)
    one, two = circle.device(), circle.device()

    with pytest.raises(NotTrustedError, match=f"{one.udid} answered where {two.udid} was expected"):
        proven_udid(_der(one.certificate_pem), expected=two.udid)


def test_no_certificate_is_refused() -> None:
    with pytest.raises(NotTrustedError, match="no certificate"):
        proven_udid(None)


@given(st.binary(min_size=1, max_size=600))
def test_any_bytes_as_certificate_are_refused(certificate: bytes) -> None:
    with pytest.raises(NotTrustedError, match="certificate"):
        proven_udid(certificate)


def test_only_tls_1_3_with_certificates_on_both_sides_and_no_resumption(tmp_path: Path) -> None:
    made = credentials(Circle(tmp_path).device().trust())

    for context in (made.accepting, made.dialling):
        assert context.minimum_version is ssl.TLSVersion.TLSv1_3
        assert context.verify_mode is ssl.CERT_REQUIRED
    assert made.accepting.num_tickets == 0


def test_a_key_that_does_not_fit_its_certificate_is_refused_with_words(tmp_path: Path) -> None:
    circle = Circle(tmp_path)
    one, two = circle.device(), circle.device()
    one.key_file.write_bytes(two.key_file.read_bytes())

    with pytest.raises(ParamValueError, match=f"certificate of device {one.udid}"):
        credentials(one.trust())


def test_a_missing_key_is_refused_with_its_path(tmp_path: Path) -> None:
    device = Circle(tmp_path).device()
    device.key_file.unlink()

    with pytest.raises(ParamValueError, match=str(device.key_file)):
        credentials(device.trust())
