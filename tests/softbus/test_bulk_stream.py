"""bulk_stream.py: whole buffers over real TLS, both ways at once, and every way in which a stream ends."""

from __future__ import annotations

import os
import select
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binderkit.errors import CallTimeoutError, DeadObjectError
from binderkit.softbus.bulk_stream import Stream, connected, secured, tuned
from binderkit.softbus.bulk_tls import credentials
from tests.softbus.certificates import Circle

Contexts = tuple[ssl.SSLContext, ssl.SSLContext]
"""For the side that dials, and the one that accepts."""


@pytest.fixture(scope="module")
def contexts(tmp_path_factory: pytest.TempPathFactory) -> Contexts:
    circle = Circle(tmp_path_factory.mktemp("circle"))
    one, two = circle.device(), circle.device()
    return credentials(one.trust(two)).dialling, credentials(two.trust(one)).accepting


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        near = socket.create_connection(listening.getsockname())
        far, _ = listening.accept()
    return near, far


def _streams(contexts: Contexts) -> tuple[Stream, Stream]:
    near, far = _connected()
    tuned(near)
    deadline = time.monotonic() + 5
    with ThreadPoolExecutor(1) as pool:
        accepted = pool.submit(secured, far, contexts[1], accepting=True, deadline=deadline, wake=-1)
        dialled = secured(near, contexts[0], accepting=False, deadline=deadline, wake=-1)
        return Stream(dialled, "two", ("127.0.0.1", 1)), Stream(accepted.result(), "one", ("127.0.0.1", 2))


@pytest.fixture
def pair(contexts: Contexts) -> Iterator[tuple[Stream, Stream]]:
    streams = _streams(contexts)
    yield streams
    for stream in streams:
        stream.close()


@given(
    sent=st.lists(st.lists(st.binary(max_size=40_000), min_size=1, max_size=3), max_size=5),
    cut=st.integers(1, 30_000),
)
@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_bytes_arrive_as_sent_however_they_are_cut(
    pair: tuple[Stream, Stream], sent: list[list[bytes]], cut: int
) -> None:
    near, far = pair
    whole = b"".join(b"".join(buffers) for buffers in sent)
    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(_send_all, near, sent)
        got = b"".join(far.receive(min(cut, len(whole) - at), stall=5) for at in range(0, len(whole), cut))
        sending.result()

    assert got == whole


def _send_all(stream: Stream, sent: list[list[bytes]]) -> None:
    for buffers in sent:
        stream.send(*buffers, stall=5)


def test_both_directions_at_once_with_several_senders(pair: tuple[Stream, Stream]) -> None:
    count, size = 60, 70_000

    def send(stream: Stream, mark: int) -> None:
        for _ in range(count):
            stream.send(bytes([mark]) * 5, memoryview(bytes([mark]) * size), stall=5)

    def receive(stream: Stream) -> list[int]:
        marks = []
        for _ in range(2 * count):
            block = stream.receive(size + 5, stall=5)
            assert block == bytes([block[0]]) * (size + 5)  # no other sender's bytes in between
            marks.append(block[0])
        return marks

    with ThreadPoolExecutor(6) as pool:
        senders = [pool.submit(send, stream, mark) for mark, stream in enumerate((*pair, *pair))]
        received = [pool.submit(receive, stream) for stream in pair]
        for sender in senders:
            sender.result()
        near, far = (sorted(future.result()) for future in received)
    assert near == [1] * count + [3] * count
    assert far == [0] * count + [2] * count


def test_a_connection_cut_in_the_middle_is_an_error_not_an_end(pair: tuple[Stream, Stream]) -> None:
    near, far = pair
    near.send(b"half", stall=5)
    socket.socket.shutdown(near._tls, socket.SHUT_RDWR)  # the link goes, without TLS saying good-bye

    with pytest.raises(DeadObjectError, match="the stream to device one has ended"):
        far.receive(8, stall=5)
    assert far.ended
    with pytest.raises(DeadObjectError):
        far.send(b"x", stall=5)


def test_a_closed_stream_is_an_error_for_who_waits_on_the_other_side(pair: tuple[Stream, Stream]) -> None:
    near, far = pair
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(far.receive, 1, stall=30)
        near.close()
        with pytest.raises(DeadObjectError):
            waiting.result(10)


def test_abort_wakes_who_receives_and_who_sends(pair: tuple[Stream, Stream]) -> None:
    near, _ = pair
    begun = threading.Event()

    def fill() -> None:
        begun.set()
        near.send(memoryview(bytes(64 << 20)), stall=30)  # far more than the socket buffers hold

    with ThreadPoolExecutor(2) as pool:
        sending = pool.submit(fill)
        receiving = pool.submit(near.receive, 1, stall=30)
        begun.wait(5)
        near.abort("told so by the test")
        for waiting in (sending, receiving):
            with pytest.raises(DeadObjectError, match="told so by the test"):
                waiting.result(10)


def test_no_byte_leaves_in_the_clear_when_a_stream_is_aborted_while_it_sends(contexts: Contexts) -> None:
    """A shutdown that drops the TLS state first would let a sender go on without encryption."""
    secret = os.urandom(32) * 512
    for _ in range(5):
        near, far = _streams(contexts)
        raw = socket.socket(fileno=os.dup(far._tls.fileno()))
        raw.settimeout(5)
        with ThreadPoolExecutor(1) as pool, raw:
            sending = pool.submit(_send_until_it_ends, near, secret)
            seen = raw.recv(1 << 16)
            near.abort("now")
            while more := raw.recv(1 << 16):
                seen += more
            sending.result(10)
        assert secret[:32] not in seen and len(seen) > 1000
        near.close()
        far.close()


def _send_until_it_ends(stream: Stream, data: bytes) -> None:
    with pytest.raises(DeadObjectError):
        while True:
            stream.send(data, stall=5)


def test_a_receiver_gives_up_when_nothing_comes_and_the_stream_is_not_used_again(pair: tuple[Stream, Stream]) -> None:
    near, _ = pair
    with pytest.raises(CallTimeoutError):
        near.receive(1, stall=0.05)
    with pytest.raises(DeadObjectError, match="stood still"):
        near.send(b"x", stall=5)


def test_a_sender_gives_up_when_nothing_is_taken(pair: tuple[Stream, Stream]) -> None:
    near, _ = pair
    with pytest.raises(CallTimeoutError):
        near.send(memoryview(bytes(64 << 20)), stall=0.2)


def test_a_dribble_does_not_outlast_the_deadline(pair: tuple[Stream, Stream]) -> None:
    near, far = pair
    stop = threading.Event()

    def dribble() -> None:
        while not stop.wait(0.02):
            try:
                near.send(b".", stall=5)
            except DeadObjectError:
                return

    with ThreadPoolExecutor(1) as pool:
        pool.submit(dribble)
        begun = time.monotonic()
        with pytest.raises(CallTimeoutError):
            far.receive(1 << 20, stall=5, deadline=begun + 0.3)
        stop.set()
    assert time.monotonic() - begun < 3


def test_readable_says_whether_something_came(pair: tuple[Stream, Stream]) -> None:
    near, far = pair
    assert not far.readable(0)
    near.send(b"two", stall=5)
    assert far.readable(5)
    assert far.receive(1, stall=5) == b"t"
    assert far.readable(0)  # the rest lies in the TLS layer, where poll does not see it
    assert far.receive(2, stall=5) == b"wo"
    near.close()
    assert far.readable(None)


def test_close_may_be_called_twice_and_forgets_once(contexts: Contexts) -> None:
    near, far = _streams(contexts)
    forgotten: list[Stream] = []
    near._forget = forgotten.append
    near.close()
    near.close()
    far.close()
    assert forgotten == [near]


def test_a_handshake_ends_at_its_deadline_and_when_it_is_woken(contexts: Contexts) -> None:
    near, far = _connected()
    with near, pytest.raises(CallTimeoutError):
        secured(far, contexts[1], accepting=True, deadline=time.monotonic() + 0.05, wake=-1)
    near, far = _connected()
    wake = os.eventfd(1)
    try:
        with near, pytest.raises(DeadObjectError, match="closed"):
            secured(far, contexts[1], accepting=True, deadline=time.monotonic() + 5, wake=wake)
    finally:
        os.close(wake)


def test_garbage_instead_of_a_handshake_is_an_error(contexts: Contexts) -> None:
    near, far = _connected()
    with near:
        near.sendall(b"GET / HTTP/1.1\r\n\r\n")
        with pytest.raises(OSError):
            secured(far, contexts[1], accepting=True, deadline=time.monotonic() + 5, wake=-1)


def test_options_notice_a_silent_device() -> None:
    near, far = _connected()
    with near, far:
        tuned(near)
        assert near.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 4000
        assert near.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        idle = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
        probes = near.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT)
        assert idle + probes * near.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL) <= 5
        assert select.select([near], [], [], 0) == ([], [], [])


def test_connecting_ends_at_its_deadline_and_when_it_is_woken() -> None:
    wake = os.eventfd(0)
    try:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as full:
            address = full.getsockname()
            waiting = [connected(address, time.monotonic() + 5, wake)]  # the backlog has room for one
            with pytest.raises(CallTimeoutError):
                while True:
                    waiting.append(connected(address, time.monotonic() + 0.2, wake))
            os.eventfd_write(wake, 1)
            with pytest.raises(DeadObjectError, match="closed"):
                connected(address, time.monotonic() + 5, wake)
            for connection in waiting:
                connection.close()
        with pytest.raises(OSError, match="refused"):
            connected(address, time.monotonic() + 5, -1)
    finally:
        os.close(wake)


def test_finish_sends_a_last_word_and_drain_waits_for_the_other_side(pair: tuple[Stream, Stream]) -> None:
    near, far = pair
    far.send(bytes(200_000), stall=5)  # nobody receives this
    assert near.finish(b"bye", wait=5)
    assert far.receive(3, stall=5) == b"bye"
    with ThreadPoolExecutor(1) as pool:
        draining = pool.submit(near.drain, time.monotonic() + 30)
        far.close()
        draining.result(10)
    assert not near.finish(b"twice", wait=1)


def test_finish_does_not_wait_for_a_sender_that_is_stuck(pair: tuple[Stream, Stream]) -> None:
    near, _ = pair
    begun = threading.Event()

    def fill() -> None:
        begun.set()
        near.send(memoryview(bytes(64 << 20)), stall=30)

    with ThreadPoolExecutor(1) as pool:
        sending = pool.submit(fill)
        assert begun.wait(5) and _writing(near)
        assert not near.finish(b"bye", wait=0.1)
        with pytest.raises(DeadObjectError, match="while something was being sent"):
            sending.result(10)


def _writing(stream: Stream) -> bool:
    deadline = time.monotonic() + 5
    while not stream._writing.locked():
        assert time.monotonic() < deadline
    return True


def test_draining_ends_at_its_deadline(pair: tuple[Stream, Stream]) -> None:
    near, far = pair
    far.send(b"x", stall=5)
    begun = time.monotonic()
    near.drain(begun + 0.1)
    assert 0.1 <= time.monotonic() - begun < 5
