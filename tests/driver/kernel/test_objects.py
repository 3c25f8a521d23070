"""Messages to bytes and back: what is written is read, what is hostile is refused, and no descriptor stays open."""

from __future__ import annotations

import fcntl
import gc
import os
import struct
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import binderkit as bk
from binderkit import limits
from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.objects import accept, place, place_shared
from binderkit.errors import IpcError, ParcelWriteError, ProtocolError, TooBigError
from binderkit.parcel import MessageSequence
from tests.driver.kernel.fakes import FakeNode, commands
from tests.driver.kernel.state import descriptors

SEALS = fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def opened() -> int:
    """Return how many descriptors are open here, but for pooled memory, which stays."""
    gc.collect()
    return descriptors(os.getpid()) - descriptors(os.getpid(), "/memfd:binderkit-slot")


def read(node: Any, transaction: tuple[int, ...]) -> MessageSequence:
    """Return a delivered message."""
    body, objects, _ = accept(node, node.here, transaction)
    received = MessageSequence()
    received._load(body, objects)
    return received


def send(node: Any, data: MessageSequence, shared: bool = False) -> MessageSequence:
    """Return what arrives of a message."""
    placed = (place_shared if shared else place)(node, node.here, data, None, os.getpid())
    received = read(node, node.deliver(placed, p.TF_SHARED_BODY if shared else 0))
    node.settle(node.here)
    return received


_values = st.lists(
    st.one_of(
        st.tuples(st.just("int"), st.integers(-(2**31), 2**31 - 1)),
        st.tuples(st.just("string"), st.text(st.characters(codec="utf-8"), max_size=20)),
        st.tuples(st.just("object"), st.integers(0, 2)),
        st.tuples(st.just("descriptor"), st.binary(min_size=1, max_size=9)),
        st.tuples(st.just("raw"), st.sampled_from((1, 100, limits.RAW_DATA_INLINE))),
    ),
    max_size=8,
)
_block = st.lists(st.tuples(st.just("raw"), st.just(limits.RAW_DATA_INLINE + 1)), max_size=1)
"""A sequence carries one that is so large."""


@settings(deadline=None)
@given(_values, _block, _values, st.booleans())
def test_what_is_sent_arrives(first: list[Any], block: list[Any], last: list[Any], shared: bool) -> None:
    values = first + block + last
    before = opened()
    node: Any = FakeNode()
    stubs = [bk.RemoteObject(f"s{number}") for number in range(3)]
    keep = node.nodes.send(stubs[0])  # so that its own objects are known when they come home
    for stub in stubs[1:]:
        node.nodes.send(stub)
    with MessageSequence() as data:
        for kind, value in values:
            _write(data, kind, value, stubs)
        # Without data there is nothing to share: such a message is never sent that way.
        with send(node, data, shared and bool(values)) as received:
            for kind, value in values:
                _check(received, kind, value, stubs)
            assert received.get_readable_bytes() == 0
    assert keep.stub is stubs[0]
    assert opened() == before


def _write(data: MessageSequence, kind: str, value: Any, stubs: list[bk.RemoteObject]) -> None:
    if kind == "int":
        data.write_int(value)
    elif kind == "string":
        data.write_string(value)
    elif kind == "object":
        data.write_remote_object(stubs[value])
    elif kind == "raw":
        data.write_raw_data_buffer(bytes(range(256)) * (value // 256 + 1), value)
    else:
        reading, writing = os.pipe()
        os.write(writing, value)
        data.write_file_descriptor(reading)
        os.close(reading)
        os.close(writing)


def _check(received: MessageSequence, kind: str, value: Any, stubs: list[bk.RemoteObject]) -> None:
    if kind == "int":
        assert received.read_int() == value
    elif kind == "string":
        assert received.read_string() == value
    elif kind == "object":
        assert received.read_remote_object() is stubs[value]
    elif kind == "raw":
        assert bytes(received.read_raw_data_buffer(value)) == (bytes(range(256)) * (value // 256 + 1))[:value]
    else:
        fd = received.read_file_descriptor()
        assert os.read(fd, 100) == value
        os.close(fd)


@pytest.mark.parametrize("shared", [False, True])
def test_a_trailer_travels_behind_the_data(shared: bool) -> None:
    node: Any = FakeNode()
    data = MessageSequence()
    data.write_string("x")
    placed = (place_shared if shared else place)(node, node.here, data, (1, 2, 2**64 - 1), 1)
    flags = p.TF_TRAILER | (p.TF_SHARED_BODY if shared else 0)
    body, objects, trailer = accept(node, node.here, node.deliver(placed, flags))
    assert (body, objects, trailer) == (bytes(data._out or b""), None, (1, 2, 2**64 - 1))
    node.settle(node.here)


def test_a_handle_becomes_a_proxy_and_goes_on_as_a_handle() -> None:
    node: Any = FakeNode()
    data = p.OBJECT.pack(p.TYPE_HANDLE, p.NODE_OURS, 9, 0)
    received = read(node, node.arrive(data, struct.pack("=Q", 0)))
    proxy = received.read_remote_object()
    assert commands(node.here.written)[0] == (p.BC_ACQUIRE, 9)
    again = MessageSequence()
    again.write_remote_object(proxy)
    placed = place(node, node.here, again, None, 1)
    assert node.here.held == [proxy], "it lives until the message has gone"
    assert read(node, node.deliver(placed)).read_remote_object() is proxy
    proxy._connection.is_dead = True
    with pytest.raises(bk.DeadObjectError, match="cannot be passed on"):
        place(node, node.here, again, None, 1)


def test_what_cannot_be_sent_is_not_sent_in_part() -> None:
    node, elsewhere = FakeNode(), FakeNode()
    stub = bk.RemoteObject("s")
    foreign = elsewhere.targets.receive(elsewhere.here, 3, 0)
    data = MessageSequence()
    data.write_remote_object(stub)
    data.write_remote_object(foreign)
    with pytest.raises(bk.errors.InvalidObjectError, match="belongs to another driver"):
        place(node, node.here, data, None, 1)  # type: ignore[arg-type]
    assert (node.settled, len(node.nodes), node.here.sent) == (1, 0, [])
    data.reclaim()
    for shared in (place, place_shared):
        with pytest.raises(ParcelWriteError, match="reclaimed"):
            shared(node, node.here, data, None, 1)  # type: ignore[arg-type]


def test_a_message_has_a_number_of_descriptors_at_most() -> None:
    node: Any = FakeNode()
    with MessageSequence() as data:
        for _ in range(limits.MAX_FDS_PER_MESSAGE + 1):
            data.write_file_descriptor(0)
        for shared in (place, place_shared):
            with pytest.raises(TooBigError, match="send them in several calls"):
                shared(node, node.here, data, None, 1)
    assert node.settled == 2


# --- hostile ------------------------------------------------------------------------------------------


def test_an_own_object_that_is_none() -> None:
    node: Any = FakeNode()
    with pytest.raises(ProtocolError, match="brought object 77 home"):
        read(node, node.arrive(p.OBJECT.pack(p.TYPE_BINDER, 0, 77, 77), struct.pack("=Q", 0)))


def _memory(size: int, seals: int) -> int:
    fd = os.memfd_create("test", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


@pytest.mark.parametrize(
    ("size", "seals"), [(10, 0), (10, fcntl.F_SEAL_GROW), (0, SEALS), (limits.MAX_RAW_DATA + 1, SEALS)]
)
def test_a_block_that_may_shrink_or_is_too_large_or_empty(size: int, seals: int) -> None:
    node: Any = FakeNode()
    fd = _memory(size, seals)
    with pytest.raises(ProtocolError, match="block of raw data"):
        read(node, node.arrive(p.OBJECT.pack(p.TYPE_FD, 0, fd, p.BLOB_COOKIE), struct.pack("=Q", 0)))
    with pytest.raises(OSError):
        os.fstat(fd)


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=30),
            st.tuples(
                st.sampled_from(
                    (p.TYPE_BINDER, p.TYPE_HANDLE, p.TYPE_WEAK_BINDER, p.TYPE_WEAK_HANDLE, p.TYPE_FD, 0x70742A85)
                ),
                st.integers(0, 3),
                st.sampled_from((0, p.BLOB_COOKIE)),
            ),
        ),
        max_size=6,
    ),
    st.sampled_from((0, p.TF_TRAILER, p.TF_SHARED_BODY, p.TF_TRAILER | p.TF_SHARED_BODY)),
)
def test_anything_the_kernel_lets_through_is_taken_in_or_refused(parts: list[Any], flags: int) -> None:
    """Offsets are aligned, in order and inside, descriptors open: that much the kernel has checked."""
    before = opened()
    node: Any = FakeNode()
    node.nodes.send(bk.RemoteObject("s"))
    data, offsets = b"", []
    for part in parts:
        data += bytes(-len(data) % 4)
        if isinstance(part, bytes):
            data += part
            continue
        kind, value, cookie = part
        if kind == p.TYPE_FD:
            value = _memory(64 * value, SEALS if value != 2 else 0)
        offsets.append(len(data))
        data += p.OBJECT.pack(kind, 0, value, cookie)
    transaction = node.arrive(data, struct.pack(f"={len(offsets)}Q", *offsets), flags)
    try:
        read(node, transaction).reclaim()
    except IpcError as error:
        error.__traceback__ = None
    assert opened() == before


@given(st.lists(st.integers(0, 2**64 - 1), max_size=3), st.binary(max_size=100))
def test_any_table_of_a_shared_data_area(offsets: list[int], rest: bytes) -> None:
    node: Any = FakeNode()
    node.nodes.send(bk.RemoteObject("s"))
    count = len(offsets)
    data = p.OBJECT.pack(p.TYPE_FD, 0, _memory(64, SEALS), p.BLOB_COOKIE)
    data += p.OBJECT.pack(p.TYPE_BINDER, 0, 1, 1) * count + struct.pack(f"={count}Q", *offsets) + rest
    places = struct.pack(f"={count + 1}Q", *range(0, 24 * (count + 1), 24))
    try:
        received = read(node, node.arrive(data, places, p.TF_SHARED_BODY))
    except IpcError as error:
        assert rest or any(offset > 40 for offset in offsets) or count > 1, error
    else:
        assert not rest
        assert received.get_size() == 64
