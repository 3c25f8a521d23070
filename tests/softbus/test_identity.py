"""binderkit.softbus.identity: the device's key, and what a certificate proves of another."""

from __future__ import annotations

import os
import stat
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import NotTrustedError, ParamValueError, SoftBusError
from binderkit.softbus.circle import Authority
from binderkit.softbus.identity import (
    DeviceKey,
    check_type,
    check_udid,
    device_hash,
    load_certificate,
    public_key_from,
    read_private,
    udid_of_certificate,
    verify_signature,
    write_private,
)
from tests.softbus.certificates import Circle


def test_a_key_is_made_once_and_kept_with_mode_0600(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    key = DeviceKey(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert DeviceKey(path).udid == key.udid == sha256(key.spki).hexdigest()
    assert DeviceKey(tmp_path / "other.key").udid != key.udid


def test_a_umask_does_not_open_the_key(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        DeviceKey(tmp_path / "device.key")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "device.key").stat().st_mode) == 0o600


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o666])
def test_a_key_that_others_can_read_is_not_used(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "device.key"
    DeviceKey(path)
    path.chmod(mode)
    with pytest.raises(SoftBusError, match="chmod 600"):
        DeviceKey(path)


def test_a_key_of_another_user_a_link_and_a_huge_file_are_not_used(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    DeviceKey(path)
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(OSError, match="symbolic"):
        DeviceKey(tmp_path / "link")
    write_private(path, bytes(limits.MIB + 1))
    with pytest.raises(SoftBusError, match="more than"):
        read_private(path)
    os.mkfifo(tmp_path / "fifo", 0o600)
    keep = os.open(tmp_path / "fifo", os.O_RDWR)  # else opening it would wait for a writer
    try:
        with pytest.raises(SoftBusError, match="no ordinary file"):
            read_private(tmp_path / "fifo")
    finally:
        os.close(keep)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")
def test_a_key_that_belongs_to_another_user_is_not_used(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    DeviceKey(path)
    os.chown(path, 12345, -1)
    with pytest.raises(SoftBusError, match="user 12345"):
        DeviceKey(path)


def test_no_key_and_a_key_of_another_kind_are_refused_and_not_overwritten(tmp_path: Path) -> None:
    path = tmp_path / "device.key"
    other = ed25519.Ed25519PrivateKey.generate()
    curve = ec.generate_private_key(ec.SECP384R1())
    form = (Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"nonsense", other.private_bytes(*form), curve.private_bytes(*form)):
        write_private(path, content)
        with pytest.raises(SoftBusError, match="pair again"):
            DeviceKey(path)
        assert path.read_bytes() == content


def test_the_key_shows_in_no_repr(tmp_path: Path) -> None:
    key = DeviceKey(tmp_path / "device.key")
    assert repr(key) == f"<DeviceKey {key.udid[:8]}…>"


def test_a_signature_is_checked(tmp_path: Path) -> None:
    key = DeviceKey(tmp_path / "device.key")
    signature = key.sign(b"data")
    verify_signature(public_key_from(key.spki), signature, b"data")
    for wrong, data in ((signature, b"date"), (b"", b"data"), (bytes(70), b"data")):
        with pytest.raises(NotTrustedError):
            verify_signature(public_key_from(key.spki), wrong, data)


def test_a_public_key_has_one_spelling() -> None:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    assert public_key_from(der).public_numbers() == key.public_numbers()
    point = key.public_bytes(Encoding.X962, PublicFormat.CompressedPoint)
    # The same key with its point compressed: another hash, so another UDID.
    head = bytearray(der[:26])
    head[1] -= 32
    head[24] -= 32
    for wrong in (bytes(head) + point, der + b"\0", der[:-1], b"", b"x" * 2000):
        with pytest.raises(NotTrustedError):
            public_key_from(wrong)


def test_a_certificate_proves_the_udid_of_its_key_only(tmp_path: Path) -> None:
    key = DeviceKey(tmp_path / "device.key")
    pem = Authority().issue(key.spki, 0)
    assert udid_of_certificate(pem) == key.udid
    assert udid_of_certificate(load_certificate(pem).public_bytes(Encoding.DER)) == key.udid
    # Signed by a CA, but in another device's name.
    with pytest.raises(NotTrustedError, match="belongs to the key of device"):
        udid_of_certificate(Circle(tmp_path).device(key.udid).certificate_pem)


_DER = load_certificate(Authority().ca_pem).public_bytes(Encoding.DER)


@given(st.data())
def test_a_damaged_certificate_is_refused_or_harmless(data: st.DataObject) -> None:
    damaged = bytearray(_DER)
    for _ in range(data.draw(st.integers(1, 4))):
        damaged[data.draw(st.integers(0, len(damaged) - 1))] = data.draw(st.integers(0, 255))
    with pytest.raises(NotTrustedError):  # a CA's certificate names no device, damaged or not
        udid_of_certificate(bytes(damaged))


def test_a_name_of_the_wrong_type_is_refused() -> None:
    name = _DER.rindex(b"\x55\x04\x03") + 3  # behind the object identifier of the subject's common name
    with pytest.raises(NotTrustedError):
        udid_of_certificate(_DER[:name] + b"\x03" + _DER[name + 1 :])


@given(st.binary(max_size=200))
def test_any_bytes_are_no_certificate(data: bytes) -> None:
    for start in (b"", b"-----BEGIN CERTIFICATE-----\n"):
        with pytest.raises(NotTrustedError):
            udid_of_certificate(start + data)


def test_names_that_cannot_be_are_refused() -> None:
    for udid in ("", "a" * 63, "A" * 64, "g" * 64, "a" * 64 + "\n"):
        with pytest.raises(ParamValueError):
            check_udid(udid)
    for kind in ("", "a b", "tv\n", "x" * (limits.MAX_DEVICE_TYPE + 1)):
        with pytest.raises(ParamValueError):
            check_type(kind)
    assert check_type("smart-tv_2.0")


def test_the_hash_shown_to_strangers_is_not_the_udid() -> None:
    udid = "ab" * 32
    assert len(device_hash(udid)) == 32
    assert device_hash(udid) not in (udid[:32], sha256(udid.encode()).hexdigest()[:32])


def test_a_file_is_replaced_whole_also_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_private(path, b"old")
    left = tmp_path / "file.new"  # a crash left it behind, readable for all
    left.write_bytes(b"half")
    left.chmod(0o644)
    write_private(path, b"new")
    assert read_private(path) == b"new"
    assert not left.exists()
