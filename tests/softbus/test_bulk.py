"""bulk.py: raw data between two devices over real TLS; broken, stolen, late, too large, and from a liar."""

from __future__ import annotations

import logging
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    InvalidObjectError,
    NotTrustedError,
    ParamTypeError,
    ParamValueError,
    ProtocolError,
    QuotaError,
    TooBigError,
)
from binderkit.softbus.bulk import TICKET_SIZE, BulkPort
from binderkit.softbus.bulk_port import Purpose, StreamPort
from binderkit.softbus.bulk_stream import Stream
from tests.softbus.ports import Devices, devices


@pytest.fixture
def network(tmp_path: Path) -> Iterator[Devices]:
    with devices(tmp_path) as made:
        yield made


@pytest.mark.parametrize("size", [1, 32 * 1024, 256 * 1024 + 1, 5_000_000])
def test_data_arrives_as_it_was_put(network: Devices, size: int) -> None:
    one, two = network.pair()
    data = os.urandom(size)
    taken = two.bulk.take(one.udid, one.bulk.put(two.udid, memoryview(data)))
    assert taken == data and not taken.readonly


@pytest.mark.slow
def test_the_largest_block_travels_and_one_byte_more_is_refused(network: Devices) -> None:
    one, two = network.pair()
    data = bytearray(limits.MAX_RAW_DATA)
    data[-5:] = b"hello"
    taken = two.bulk.take(one.udid, one.bulk.put(two.udid, memoryview(data)))
    assert len(taken) == limits.MAX_RAW_DATA and bytes(taken[-5:]) == b"hello"
    with pytest.raises(TooBigError, match="send it in parts"):
        one.bulk.put(two.udid, memoryview(bytes(limits.MAX_RAW_DATA + 1)))


def test_any_contiguous_buffer_may_be_put_and_no_other(network: Devices) -> None:
    one, two = network.pair()
    numbers = memoryview(struct.pack("<3i", 1, 2, 3)).cast("i")
    assert two.bulk.take(one.udid, one.bulk.put(two.udid, numbers)) == struct.pack("<3i", 1, 2, 3)
    with pytest.raises(ParamTypeError, match="C-contiguous"):
        one.bulk.put(two.udid, memoryview(b"abcdef")[::2])


def test_a_ticket_is_good_once_and_the_data_is_given_back(network: Devices) -> None:
    one, two = network.pair()
    data = bytearray(b"once")
    ticket = one.bulk.put(two.udid, memoryview(data))
    two.bulk.take(one.udid, ticket)
    with pytest.raises(InvalidObjectError, match="no raw data under this ticket"):
        two.bulk.take(one.udid, ticket)
    data.append(0)  # would raise BufferError while anything still holds it


def test_transfers_share_one_stream_and_one_that_ended_is_replaced(network: Devices) -> None:
    one, two = network.pair()
    for number in range(5):
        assert two.bulk.take(one.udid, one.bulk.put(two.udid, memoryview(b"%d" % number))) == b"%d" % number
    assert len(one.port._streams) == 1
    one.port.drop(two.udid, "the link went")
    assert bytes(two.bulk.take(one.udid, one.bulk.put(two.udid, memoryview(b"again")))) == b"again"


def test_the_taker_says_where_the_data_goes(network: Devices) -> None:
    one, two = network.pair()
    target = bytearray(10)
    taken = two.bulk.take(
        one.udid, one.bulk.put(two.udid, memoryview(b"abc")), into=lambda size: memoryview(target)[2 : 2 + size]
    )
    assert bytes(taken) == b"abc" and target == b"\0\0abc\0\0\0\0\0"
    for wrong in (memoryview(bytearray(2)), memoryview(b"abc")):
        with pytest.raises(ParamValueError, match="3 writable bytes"):
            two.bulk.take(one.udid, one.bulk.put(two.udid, memoryview(b"abc")), into=_giving(wrong))


def _giving(memory: memoryview) -> Callable[[int], memoryview]:
    return lambda _: memory


def test_a_stolen_ticket_is_worth_nothing(network: Devices, caplog: pytest.LogCaptureFixture) -> None:
    one, two = network.pair()
    thief = network.add(network.circle.device(), [one.device])
    one.port.set_trust(one.device.trust(two.device, thief.device))
    ticket = one.bulk.put(two.udid, memoryview(b"secret"))

    with caplog.at_level(logging.WARNING), pytest.raises(InvalidObjectError):
        thief.bulk.take(one.udid, ticket)
    assert f"device {thief.udid}: a ticket for raw data that is not its own" in caplog.text
    assert bytes(two.bulk.take(one.udid, ticket)) == b"secret"


def test_nothing_is_kept_for_a_device_that_is_not_trusted(network: Devices) -> None:
    one, two = network.pair()
    one.port.set_trust(one.device.trust())
    with pytest.raises(NotTrustedError, match="pair the two devices"):
        one.bulk.put(two.udid, memoryview(b"x"))


@pytest.mark.parametrize("ticket", [b"", bytes(TICKET_SIZE), bytes(16) + b"\xff" * 8, bytes(TICKET_SIZE + 1)])
def test_a_malformed_ticket_is_refused_before_anybody_is_asked(network: Devices, ticket: bytes) -> None:
    one, two = network.pair()
    with pytest.raises(ProtocolError):
        two.bulk.take(one.udid, ticket)
    assert not two.port._streams


def test_what_nobody_takes_is_forgotten(network: Devices) -> None:
    one, two = network.pair(start=False)
    now = 0.0
    holder = BulkPort(one.port, clock=lambda: now)
    one.port.start()
    ticket = holder.put(two.udid, memoryview(b"x"))
    now = limits.BULK_KEPT
    with pytest.raises(InvalidObjectError):
        two.bulk.take(one.udid, ticket)
    holder.close()


def test_what_nobody_takes_is_forgotten_even_when_nothing_else_happens(
    network: Devices, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "BULK_KEPT", 0.05)
    one, two = network.pair()
    data = bytearray(b"x")
    one.bulk.put(two.udid, memoryview(data))
    sweeper = one.bulk._sweeper
    assert sweeper is not None
    sweeper.join(10)
    data.append(0)


def test_a_device_that_left_loses_what_waits_for_it(network: Devices) -> None:
    one, two = network.pair()
    ticket = one.bulk.put(two.udid, memoryview(b"x"))
    one.bulk.forget(two.udid)
    with pytest.raises(InvalidObjectError):
        two.bulk.take(one.udid, ticket)
    assert not one.bulk.drop(ticket)


def test_what_is_being_received_is_limited(network: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "MAX_BULK_RECEIVING", 100)
    one, two = network.pair()
    ticket = one.bulk.put(two.udid, memoryview(bytes(101)))
    with pytest.raises(QuotaError, match="try again later"):
        two.bulk.take(one.udid, ticket)
    assert two.bulk.take(one.udid, one.bulk.put(two.udid, memoryview(bytes(100)))) == bytes(100)


def test_many_transfers_at_once_both_ways(network: Devices) -> None:
    one, two = network.pair()

    def there_and_back(number: int) -> bool:
        data = bytes([number]) * (100_000 * number + 1)
        there = two.bulk.take(one.udid, one.bulk.put(two.udid, memoryview(data)))
        return one.bulk.take(two.udid, two.bulk.put(one.udid, there)) == data

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(there_and_back, range(18)))
    assert len(one.bulk._idle[two.udid]) <= limits.BULK_IDLE_STREAMS
    assert one.bulk._offers.waiting(two.udid) == (0, 0)


class _Cutter:
    """A relay between two ports that breaks the connection after so many bytes."""

    def __init__(self, target: tuple[str, int], after: int) -> None:
        self._target, self._after = target, after
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address: tuple[str, int] = self._listening.getsockname()
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        near, _ = self._listening.accept()
        with near, socket.create_connection(self._target) as far:
            back = threading.Thread(target=_pump, args=(near, far, 1 << 60))
            back.start()
            _pump(far, near, self._after)
            for side in (near, far):
                side.shutdown(socket.SHUT_RDWR)
            back.join()

    def close(self) -> None:
        self._thread.join(10)
        self._listening.close()


def _pump(source: socket.socket, target: socket.socket, count: int) -> None:
    try:
        while count > 0 and (data := source.recv(min(count, 65_536))):
            target.sendall(data)
            count -= len(data)
    except OSError:
        return  # the other direction was cut


@pytest.mark.parametrize("after", [10, 1500, 700_000])
def test_a_link_that_breaks_is_an_error_and_the_ticket_stays_good(network: Devices, after: int) -> None:
    one, two = network.pair()
    ticket = one.bulk.put(two.udid, memoryview(bytes(2_000_000)))
    cutter = _Cutter(one.port.addresses()[0], after)
    network.where[one.udid] = (cutter.address,)
    with pytest.raises((DeadObjectError, CallTimeoutError)):
        two.bulk.take(one.udid, ticket)
    cutter.close()

    network.where[one.udid] = one.port.addresses()
    assert two.bulk.take(one.udid, ticket) == bytes(2_000_000)


def _answering(network: Devices, handler: Callable[[Stream], None]) -> tuple[BulkPort, str, StreamPort]:
    """Return an honest device's raw data, and the UDID of a trusted device with a handler of its own."""
    one, two = network.pair(start=False)
    one.port.serve(Purpose.RAW_DATA, handler)
    one.port.start()
    two.port.start()
    return two.bulk, one.udid, two.port


@pytest.mark.parametrize(
    "answer", [struct.pack("<B7xQ", 0, 1 << 40), struct.pack("<B7xQ", 0, 0), struct.pack("<B7xQ", 77, 4), b"\xff" * 16]
)
def test_a_holder_that_lies_about_the_size_is_refused(network: Devices, answer: bytes) -> None:
    def lie(stream: Stream) -> None:
        stream.receive(32, stall=5)
        stream.send(answer + bytes(100), stall=5)

    bulk, liar, port = _answering(network, lie)
    with pytest.raises(ProtocolError, match="where 4 were announced"):
        bulk.take(liar, os.urandom(16) + struct.pack("<Q", 4))
    assert not port._streams


def test_a_holder_that_falls_silent_ends_in_a_timeout(network: Devices, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "BULK_STALL", 0.1)

    def silent(stream: Stream) -> None:
        stream.receive(32, stall=5)
        stream.send(struct.pack("<B7xQ", 0, 4) + b"ab", stall=5)
        stream.readable(5)

    bulk, holder, _ = _answering(network, silent)
    with pytest.raises(CallTimeoutError):
        bulk.take(holder, os.urandom(16) + struct.pack("<Q", 4))


def test_the_timeout_of_a_take_is_kept(network: Devices) -> None:
    def silent(stream: Stream) -> None:
        stream.readable(5)
        stream.receive(32, stall=5)
        stream.readable(5)

    bulk, holder, _ = _answering(network, silent)
    with pytest.raises(CallTimeoutError):
        bulk.take(holder, os.urandom(16) + struct.pack("<Q", 4), timeout=0.1)


@pytest.mark.parametrize("request_", [bytes(32), b"\x07" + bytes(31), b"\x01" + bytes(31), b"\xff" * 32])
def test_strange_requests_of_a_trusted_device_harm_only_its_own_stream(network: Devices, request_: bytes) -> None:
    one, two = network.pair()
    stream = two.port.dial(one.udid, Purpose.RAW_DATA, timeout=5)
    stream.send(request_, stall=5)
    if request_[0] == 1:
        assert stream.receive(16, stall=5)[0] == 1  # no such ticket
    else:
        with pytest.raises(DeadObjectError):
            stream.receive(1, stall=5)
    stream.close()
    assert bytes(two.bulk.take(one.udid, one.bulk.put(two.udid, memoryview(b"x")))) == b"x"


def test_closing_while_a_transfer_runs_ends_it(network: Devices) -> None:
    one, two = network.pair()
    ticket = one.bulk.put(two.udid, memoryview(bytes(8_000_000)))
    begun, going = threading.Event(), threading.Event()

    def into(size: int) -> memoryview:
        begun.set()
        going.wait(10)
        return memoryview(bytearray(size))

    with ThreadPoolExecutor(1) as pool:
        taking = pool.submit(two.bulk.take, one.udid, ticket, into=into)
        begun.wait(10)
        two.port.close()
        going.set()
        with pytest.raises(DeadObjectError):
            taking.result(10)
