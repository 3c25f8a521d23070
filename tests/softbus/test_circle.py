"""binderkit.softbus.circle: the CA of a circle, its certificates and its signed list of members."""

from __future__ import annotations

import socket
import ssl
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import IpcError, NotTrustedError, ParamValueError, ProtocolError
from binderkit.softbus.circle import (
    Authority,
    Member,
    Roster,
    check_certificate,
    circle_of,
    read_member,
    read_roster,
    remaining_life,
    write_member,
)
from binderkit.softbus.fields import pack, unpack
from binderkit.softbus.identity import DeviceKey, load_certificate
from tests.softbus.certificates import Circle
from tests.softbus.stores import NOW

AUTHORITY = Authority()
OTHER = Authority()
OWNER = "0a" * 32


def roster(*udids: str, version: int = 7) -> Roster:
    members = {udid: Member(udid, f"device {udid[:2]}", "linux", 12) for udid in (OWNER, *udids)}
    return Roster(AUTHORITY.circle, version, OWNER, members)


def sign(authority: Authority, body: bytes) -> bytes:
    """Sign anything in the way of a list, with the key of the circle: what a faulty owner would."""
    return pack(body, authority._key.sign(b"binderkit roster 1\0" + body, ec.ECDSA(hashes.SHA256())))


def test_a_certificate_names_the_device_of_its_key(tmp_path: Path) -> None:
    key = DeviceKey(tmp_path / "key")
    pem = AUTHORITY.issue(key.spki, NOW)
    assert check_certificate(pem, AUTHORITY.ca_pem) == key.udid
    assert remaining_life(pem, NOW) == limits.CERTIFICATE_LIFE
    with pytest.raises(NotTrustedError):
        check_certificate(pem, OTHER.ca_pem)


def test_a_certificate_is_valid_with_the_clock_set_back_and_made_with_a_wrong_one(tmp_path: Path) -> None:
    pem = AUTHORITY.issue(DeviceKey(tmp_path / "key").spki, 0)  # no clock: 1970
    certificate = load_certificate(pem)
    assert certificate.not_valid_before_utc.year == 1970
    assert certificate.not_valid_after_utc.year >= 2027


def test_no_certificate_for_what_is_no_key() -> None:
    for spki in (b"", b"nonsense"):
        with pytest.raises(NotTrustedError):
            AUTHORITY.issue(spki, NOW)


def test_a_certificate_that_lies_about_its_key_is_refused(tmp_path: Path) -> None:
    circle = Circle(tmp_path)
    honest = circle.device()
    assert check_certificate(honest.certificate_pem, circle.ca_pem) == honest.udid
    liar = circle.device("ab" * 32)
    with pytest.raises(NotTrustedError, match="belongs to the key"):
        check_certificate(liar.certificate_pem, circle.ca_pem)


def test_the_ca_survives_its_file() -> None:
    again = Authority(AUTHORITY.private_pem(), AUTHORITY.ca_pem)
    assert again.circle == AUTHORITY.circle == circle_of(AUTHORITY.ca_pem)
    assert "PRIVATE" not in repr(again)
    with pytest.raises(NotTrustedError, match="not of the circle's key"):
        Authority(AUTHORITY.private_pem(), OTHER.ca_pem)


def test_a_device_certificate_is_no_ca(tmp_path: Path) -> None:
    # A member that presents its own certificate as a CA, to sign others with it.
    pem = AUTHORITY.issue(DeviceKey(tmp_path / "key").spki, NOW)
    with pytest.raises(NotTrustedError):
        circle_of(pem)


def handshake(
    server: tuple[bytes, Path, bytes], client: tuple[bytes, Path, bytes], tmp_path: Path
) -> tuple[bytes | None, bytes | None]:
    """Return what a mutual TLS handshake over a socket pair shows each side: (client's, server's certificate)."""
    contexts = []
    for (pem, key, ca), protocol in ((server, ssl.PROTOCOL_TLS_SERVER), (client, ssl.PROTOCOL_TLS_CLIENT)):
        context = ssl.SSLContext(protocol)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.check_hostname = False
        context.verify_mode = ssl.CERT_REQUIRED
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        context.load_verify_locations(cadata=ca.decode())
        path = tmp_path / f"{protocol}.pem"
        path.write_bytes(pem)
        context.load_cert_chain(path, key)
        contexts.append(context)
    ours, theirs = socket.socketpair()
    seen: list[bytes | None] = []

    def serve() -> None:
        try:
            with contexts[0].wrap_socket(ours, server_side=True) as stream:
                seen.append(stream.getpeercert(True))
                stream.sendall(b"!")
        except ssl.SSLError:
            ours.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        with contexts[1].wrap_socket(theirs) as stream:
            shown = stream.getpeercert(True)
            assert stream.recv(1) == b"!"
    finally:
        theirs.close()
        thread.join()
    return (seen[0] if seen else None), shown


def test_the_certificates_hold_in_real_mutual_tls_with_strict_checks(tmp_path: Path) -> None:
    one, two = DeviceKey(tmp_path / "one"), DeviceKey(tmp_path / "two")
    first, second = AUTHORITY.issue(one.spki, NOW), AUTHORITY.issue(two.spki, NOW)
    ca = AUTHORITY.ca_pem
    of_client, of_server = handshake((first, one.path, ca), (second, two.path, ca), tmp_path)
    assert of_client is not None and of_server is not None
    assert (check_certificate(of_server, ca), check_certificate(of_client, ca)) == (one.udid, two.udid)


def test_tls_refuses_a_device_of_another_circle(tmp_path: Path) -> None:
    one, two = DeviceKey(tmp_path / "one"), DeviceKey(tmp_path / "two")
    mine, foreign = AUTHORITY.issue(one.spki, NOW), OTHER.issue(two.spki, NOW)
    with pytest.raises(ssl.SSLError):
        handshake((mine, one.path, AUTHORITY.ca_pem), (foreign, two.path, AUTHORITY.ca_pem), tmp_path)
    with pytest.raises(ssl.SSLError):
        handshake((mine, one.path, AUTHORITY.ca_pem), (foreign, two.path, OTHER.ca_pem), tmp_path)


def test_tls_refuses_a_certificate_that_a_member_signed_for_another(tmp_path: Path) -> None:
    """A trusted device uses its own certificate as a CA; the chain must not be followed."""
    member, victim = DeviceKey(tmp_path / "member"), DeviceKey(tmp_path / "victim")
    rogue = Authority()
    rogue._key = member._key
    rogue._name = load_certificate(AUTHORITY.issue(member.spki, NOW)).subject
    chain = rogue.issue(victim.spki, NOW) + AUTHORITY.issue(member.spki, NOW)
    mine = AUTHORITY.issue(member.spki, NOW)
    ca = AUTHORITY.ca_pem
    with pytest.raises(ssl.SSLError):
        handshake((mine, member.path, ca), (chain, victim.path, ca), tmp_path)


def test_a_list_of_members_is_read_back() -> None:
    signed = AUTHORITY.sign_roster(roster("0b" * 32, "0c" * 32))
    assert read_roster(signed, AUTHORITY.ca_pem) == roster("0b" * 32, "0c" * 32)
    assert roster().alone and not roster("0b" * 32).alone


def test_a_list_signed_by_another_circle_is_refused() -> None:
    theirs = replace(roster(), circle=OTHER.circle)
    with pytest.raises(NotTrustedError):
        read_roster(OTHER.sign_roster(theirs), AUTHORITY.ca_pem)
    with pytest.raises(ParamValueError):
        OTHER.sign_roster(roster())


def test_a_list_has_room_for_a_full_circle_of_the_longest_names_and_no_more() -> None:
    members = {}
    for number in range(limits.MAX_CIRCLE_DEVICES - 1):
        udid = f"{number:064x}"
        members[udid] = Member(udid, "𝒳" * limits.MAX_DEVICE_NAME, "x" * limits.MAX_DEVICE_TYPE, 2**63 - 1)
    full = replace(roster(), members={**roster().members, **members})
    assert read_roster(AUTHORITY.sign_roster(full), AUTHORITY.ca_pem) == full
    over = replace(full, members={**full.members, "ff" * 32: Member("ff" * 32, "x", "x", 0)})
    with pytest.raises(ParamValueError, match="revoke one"):
        AUTHORITY.sign_roster(over)


SIGNED = AUTHORITY.sign_roster(roster("0b" * 32))


@given(st.integers(0, len(SIGNED) - 1), st.integers(1, 255))
def test_a_list_with_one_changed_byte_is_refused(place: int, change: int) -> None:
    damaged = bytearray(SIGNED)
    damaged[place] ^= change
    with pytest.raises((ProtocolError, NotTrustedError)):
        read_roster(bytes(damaged), AUTHORITY.ca_pem)


@given(st.lists(st.binary(max_size=70) | st.just(AUTHORITY.circle.encode()) | st.just(OWNER.encode()), max_size=6))
def test_a_list_that_makes_no_sense_is_refused_although_it_is_signed(fields: list[bytes]) -> None:
    with pytest.raises((ProtocolError, NotTrustedError)):
        read_roster(sign(AUTHORITY, pack(*fields)), AUTHORITY.ca_pem)


def test_a_list_without_its_owner_or_with_a_device_twice_is_refused() -> None:
    owner, other = (write_member(Member(udid, "n", "t", 1)) for udid in (OWNER, "0b" * 32))
    head = (AUTHORITY.circle.encode(), b"1", OWNER.encode())
    assert read_roster(sign(AUTHORITY, pack(*head, owner, other)), AUTHORITY.ca_pem).version == 1
    for rows in ((other,), (owner, other, other)):
        with pytest.raises(ProtocolError):
            read_roster(sign(AUTHORITY, pack(*head, *rows)), AUTHORITY.ca_pem)
    with pytest.raises(ProtocolError):
        read_roster(bytes(100_000), AUTHORITY.ca_pem)


@given(st.text(min_size=1, max_size=64), st.text(min_size=1, max_size=32), st.integers(0, 2**63 - 1))
def test_a_member_is_read_back_or_refused(name: str, kind: str, since: int) -> None:
    member = Member(OWNER, name, kind, since)
    try:
        written = write_member(member)
    except UnicodeEncodeError:
        return  # half a surrogate pair: not a text at all
    try:
        assert read_member(written) == member
    except ProtocolError:
        assert not name.isprintable() or not kind.isascii() or not kind.replace(".", "").replace("-", "").isalnum()


@given(st.binary(max_size=300))
def test_any_bytes_are_a_member_or_refused(data: bytes) -> None:
    try:
        read_member(data)
    except IpcError as error:
        assert isinstance(error, ProtocolError)


@pytest.mark.parametrize("number", [b"", b"-1", b"+1", b" 1", b"1_0", "١".encode(), b"9" * 19, b"9" * 5000])
def test_a_number_is_plain_digits_within_63_bits(number: bytes) -> None:
    udid, name, kind, _ = unpack(write_member(Member(OWNER, "n", "t", 1)), 4)
    if number == b"9" * 19:
        number = str(2**63).encode()
    with pytest.raises(ProtocolError):
        read_member(pack(udid, name, kind, number))
