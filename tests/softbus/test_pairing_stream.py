"""binderkit.softbus.pairing_stream: the TLS connection two devices pair over."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Iterator

import pytest

from binderkit import limits
from binderkit.errors import PairingError, ProtocolError
from binderkit.softbus.pairing_stream import Channel, Door, connect

HOST = "127.0.0.1"
TIMED_OUT = -425983980


@pytest.fixture
def door() -> Iterator[Door]:
    door = Door(HOST, 0)
    try:
        yield door
    finally:
        door.close()


@contextlib.contextmanager
def pair(door: Door) -> Iterator[tuple[Channel, Channel, bytes]]:
    """Yield the server's channel, the client's, and the binding the client sees."""
    accepted: list[Channel] = []

    def serve() -> None:
        channel = door.accept(10)
        accepted.append(channel)
        channel.handshake()

    thread = threading.Thread(target=serve)
    thread.start()
    channel, binding = connect((HOST, door.port))
    thread.join()
    try:
        yield accepted[0], channel, binding
    finally:
        channel.close()
        accepted[0].close()


def test_frames_cross_and_both_know_the_same_certificate(door: Door) -> None:
    with pair(door) as (server, client, binding):
        assert binding == door.binding
        for frame in (b"", b"x", bytes(limits.MAX_PAIRING_FRAME)):
            client.send(frame)
            assert server.receive() == frame
            server.send(frame)
            assert client.receive() == frame


def test_each_offer_has_another_certificate() -> None:
    one, two = Door(HOST, 0), Door(HOST, 0)
    assert one.binding != two.binding
    one.close()
    two.close()


def test_a_frame_that_is_too_long_is_refused_before_it_is_read(door: Door) -> None:
    with pair(door) as (server, client, _):
        client._stream.sendall(struct.pack("<I", limits.MAX_PAIRING_FRAME + 1))
        with pytest.raises(ProtocolError, match="65537 bytes"):
            server.receive()


def test_the_end_of_the_connection_is_an_error(door: Door) -> None:
    with pair(door) as (server, client, _):
        client._stream.sendall(b"\x05\0")
        client.close()
        with pytest.raises(PairingError, match="try again"):
            server.receive()
        with pytest.raises(PairingError):
            for _ in range(3):  # the first may still fit a buffer
                server.send(bytes(limits.MAX_PAIRING_FRAME))


def test_a_drip_of_bytes_does_not_move_the_deadline(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAIRING_TIMEOUT", 0.3)
    with pair(door) as (server, client, _):
        stop = threading.Event()

        def drip() -> None:
            with contextlib.suppress(PairingError, OSError):
                client._stream.sendall(struct.pack("<I", 1000))
                while not stop.wait(0.05):
                    client._stream.sendall(b".")

        thread = threading.Thread(target=drip)
        thread.start()
        try:
            with pytest.raises(PairingError) as caught:
                server.receive()
        finally:
            stop.set()
            thread.join()
        assert caught.value.code == TIMED_OUT


def test_a_handshake_that_says_nothing_ends_at_the_deadline(door: Door, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "PAIRING_TIMEOUT", 0.1)
    with socket.create_connection((HOST, door.port)):
        channel = door.accept(10)
        with pytest.raises(PairingError) as caught:
            channel.handshake()
        assert caught.value.code == TIMED_OUT
        channel.close()


@pytest.mark.parametrize("hello", [b"GET / HTTP/1.1\r\n\r\n", bytes(100), b"\x16\x03\x01\xff\xff" + bytes(50)])
def test_what_is_not_tls_is_refused(door: Door, hello: bytes) -> None:
    with socket.create_connection((HOST, door.port)) as plain:
        plain.sendall(hello)
        plain.shutdown(socket.SHUT_WR)
        channel = door.accept(10)
        with pytest.raises(PairingError, match="no TLS connection"):
            channel.handshake()
        channel.close()


def test_older_tls_is_refused(door: Door) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    failed: list[PairingError] = []

    def serve() -> None:
        channel = door.accept(10)
        try:
            channel.handshake()
        except PairingError as error:
            failed.append(error)
        channel.close()

    thread = threading.Thread(target=serve)
    thread.start()
    with socket.create_connection((HOST, door.port)) as plain, pytest.raises(ssl.SSLError):
        context.wrap_socket(plain)
    thread.join()
    assert failed


def test_an_abort_wakes_who_waits_and_nothing_is_sent_in_the_clear(door: Door) -> None:
    with pair(door) as (server, _client, _):
        ended: list[PairingError] = []

        def wait() -> None:
            try:
                server.receive()
            except PairingError as error:
                ended.append(error)

        thread = threading.Thread(target=wait)
        thread.start()
        server.abort()
        thread.join(10)
        assert ended
        with pytest.raises(PairingError):
            server.send(b"secret")
        assert isinstance(server._stream, ssl.SSLSocket) and server._stream._sslobj is not None  # type: ignore[attr-defined]
        server.abort()


def test_shutting_the_door_wakes_who_waits_at_it(door: Door) -> None:
    ended: list[OSError] = []

    def wait() -> None:
        try:
            door.accept(None)
        except OSError as error:
            ended.append(error)

    thread = threading.Thread(target=wait)
    thread.start()
    door.shut()
    thread.join(10)
    door.shut()
    assert ended and not isinstance(ended[0], TimeoutError)
    with pytest.raises(TimeoutError):
        second = Door(HOST, 0)
        try:
            second.accept(0.001)
        finally:
            second.close()


def test_nobody_there_is_said_with_words() -> None:
    with socket.create_server((HOST, 0)) as server:
        port = server.getsockname()[1]
    with pytest.raises(PairingError, match="does not offer pairing"):
        connect((HOST, port))


@pytest.mark.parametrize("host", ["", "::1", HOST])
def test_a_door_is_open_at_the_addresses_it_was_told(host: str) -> None:
    if host == "::1" and not _has_ipv6():
        with pytest.raises(OSError):
            Door(host, 0)
        return
    door = Door(host, 0)
    try:
        with socket.create_connection((host or HOST, door.port)):
            door.accept(10).close()
    finally:
        door.close()


def _has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False
