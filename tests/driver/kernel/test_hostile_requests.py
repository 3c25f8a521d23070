"""A peer that sends what no honest one would: the service answers with an error, keeps nothing, and goes on serving."""

from __future__ import annotations

import fcntl
import os
import struct
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import binderkit as bk
from binderkit import limits
from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.node import KernelNode
from binderkit.parcel import MessageSequence
from tests.driver.kernel.raw import BC_TRANSACTION_SG, TYPE_BUFFER, TYPE_FD_ARRAY, Message, Raw, descriptor, other, own
from tests.driver.kernel.service import Code, Served, add_one, ask
from tests.driver.kernel.state import held, until

TRAILED = p.TF_ACCEPT_FDS | p.TF_TRAILER
SHARED = p.TF_ACCEPT_FDS | p.TF_SHARED_BODY
NUMBER = struct.pack("=i", 1)


@pytest.fixture
def served(lasting: Served) -> Served:
    """One process for all of this: whatever it is sent, it goes on."""
    return lasting


@pytest.fixture
def peer(served: Served, client: KernelNode) -> Iterator[Raw]:
    """A raw peer of the service; afterwards an honest client is served and the service holds what it held before."""
    proxy = client.context_object(start=False)
    assert add_one(proxy) == 2
    before = held(served.pid, served.device)
    with Raw(served.device) as raw:
        raw.exchange(p.WORD.pack(p.BC_ENTER_LOOPER), room=0)
        yield raw
    assert add_one(proxy, 7) == 8
    ask(proxy, Code.DROP)
    until(lambda: held(served.pid, served.device) == before, f"the service holds no more than {before}")


def told(peer: Raw, message: Message) -> bk.errors.TransactionError:
    """Return the error that a reply tells; the reply is given back."""
    assert message.failed, f"{message.name} {message.body!r}"
    peer.free(message)
    said = MessageSequence.from_bytes(message.body)
    return bk.errors.error_from_status(said.read_int(), said.read_string(), said.read_string(), said.read_string())


# --- what the kernel itself refuses: nothing of it may reach or stop the service -----------------------


@pytest.mark.parametrize(
    ("data", "offsets"),
    [
        pytest.param(bytes(2) + own(1), [2], id="unaligned"),
        pytest.param(own(1) + bytes(24), [0, 8], id="overlapping"),
        pytest.param(own(1), [24], id="behind the data"),
        pytest.param(own(1), [1 << 63], id="far behind the data"),
        pytest.param(own(1)[:20], [0], id="cut off"),
        pytest.param(struct.pack("=IIQQ", 0x41414141, 0, 1, 1), [0], id="unknown type"),
        pytest.param(own(1) + own(1, cookie=2), [0, 24], id="two cookies"),
        pytest.param(other(4096), [0], id="handle it does not hold"),
        pytest.param(descriptor(999), [0], id="descriptor it does not have"),
        pytest.param(own(1), b"\0" * 12, id="table of one and a half"),
        pytest.param(bytes(2 << 20), [], id="larger than the mapping"),
        pytest.param(struct.pack("=IIQQQQ", TYPE_FD_ARRAY, 0, 4, 0, 0, 0), [0], id="descriptors of no buffer"),
    ],
)
def test_what_the_kernel_refuses_does_not_arrive(peer: Raw, data: bytes, offsets: list[int] | bytes) -> None:
    for flags in (p.TF_ACCEPT_FDS, p.TF_ACCEPT_FDS | p.TF_ONE_WAY):
        assert peer.call(Code.ANYTHING, data, offsets, flags).name == "BR_FAILED_REPLY"


# --- what arrives and is wrong -------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 23])
def test_a_trailer_that_does_not_fit_is_refused(peer: Raw, size: int) -> None:
    error = told(peer, peer.call(Code.ADD_ONE, bytes(size), flags=TRAILED))
    assert f"a message of {size} bytes announces a trailer" in str(error)


def test_an_object_within_the_trailer_is_refused(peer: Raw) -> None:
    assert told(peer, peer.call(Code.KEEP, own(1), [0], TRAILED)).code
    assert told(peer, peer.call(Code.KEEP, bytes(8) + own(1) + bytes(16), [8], TRAILED)).code


@pytest.mark.parametrize("remaining", [2**40, 2**63, 2**64 - 1])
def test_any_remaining_time_is_survived_by_calls_in_the_handler(served: Served, peer: Raw, remaining: int) -> None:
    """The service calls another one under this deadline; each reply is that of its own call."""
    with Raw(served.device) as owner:
        owner.exchange(p.WORD.pack(p.BC_ENTER_LOOPER), room=0)
        owner.free(owner.call(Code.KEEP, own(1), [0]))
        for number in (10, 20):
            data = struct.pack("=i", number) + p.TRAILER.pack(5, remaining, 0)
            peer.exchange(peer.command(p.BC_TRANSACTION, 0, Code.CALL, data, flags=TRAILED), room=0)
            owner.answer(owner.next_call(), struct.pack("=i", number + 1))
            reply = peer.wait_for(p.BR_REPLY)
            assert not reply.failed, reply
            assert reply.body == struct.pack("=i", number + 1)
            peer.free(reply)
        ask_raw(peer, Code.DROP)


def ask_raw(peer: Raw, code: int) -> None:
    """Make a call that must succeed."""
    got = peer.call(code)
    assert got.word == p.BR_REPLY
    assert not got.failed
    peer.free(got)


@pytest.mark.parametrize("kind", [p.TYPE_WEAK_BINDER, p.TYPE_WEAK_HANDLE, p.TYPE_FD, TYPE_BUFFER])
def test_something_else_where_an_object_belongs(peer: Raw, kind: int) -> None:
    data = {
        p.TYPE_WEAK_BINDER: struct.pack("=IIQQ", kind, 0, 1, 1),
        p.TYPE_WEAK_HANDLE: other(0, kind),
        p.TYPE_FD: descriptor(0),
        TYPE_BUFFER: struct.pack("=IIQQQQ", TYPE_BUFFER, 0, 0, 0, 0, 0),
    }[kind]
    peer.handle_commands(0, p.BC_INCREFS)
    error = told(peer, peer.call(Code.KEEP, data, [0]))
    peer.handle_commands(0, p.BC_DECREFS)
    assert "no remote object at position 0" in str(error)


def test_an_object_where_a_descriptor_belongs(peer: Raw) -> None:
    assert told(peer, peer.call(Code.READ_FD, own(1), [0])).code
    assert told(peer, peer.call(Code.READ_FD, bytes(24))).code


def test_its_own_object_under_a_number_that_the_service_uses_is_still_the_peers(served: Served, peer: Raw) -> None:
    with Raw(served.device) as owner:
        owner.exchange(p.WORD.pack(p.BC_ENTER_LOOPER), room=0)
        owner.free(owner.call(Code.KEEP, own(0), [0]))
        peer.exchange(peer.command(p.BC_TRANSACTION, 0, Code.CALL, NUMBER), room=0)
        call = owner.next_call()
        assert call.fields[:2] == (0, 0), "the owner is called, not the service's root object"
        owner.answer(call, struct.pack("=i", 6))
        reply = peer.wait_for(p.BR_REPLY)
        assert reply.body == struct.pack("=i", 6)
        peer.free(reply)


def memory(size: int, seals: int, text: bytes = b"") -> int:
    """Return shared memory."""
    fd = os.memfd_create("hostile", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    os.pwrite(fd, text, 0)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


SIZE = limits.RAW_DATA_INLINE + 4
BLOCKS: dict[str, Callable[[], int]] = {
    "pipe": lambda: os.dup(0),
    "directory": lambda: os.open("/", os.O_RDONLY),
    "device": lambda: os.open("/dev/zero", os.O_RDONLY),
    "file": lambda: os.open("/etc/passwd" if os.path.exists("/etc/passwd") else __file__, os.O_RDONLY),
    "unsealed": lambda: memory(SIZE, 0),
    "growth alone is sealed": lambda: memory(SIZE, fcntl.F_SEAL_GROW),
    "empty": lambda: memory(0, fcntl.F_SEAL_SHRINK),
    "too large": lambda: memory(limits.MAX_RAW_DATA + 1, fcntl.F_SEAL_SHRINK),
    "smaller than it says": lambda: memory(SIZE - 8, fcntl.F_SEAL_SHRINK),
    "only to be written": lambda: _reopened(memory(SIZE, fcntl.F_SEAL_SHRINK), os.O_WRONLY),
}


def _reopened(fd: int, mode: int) -> int:
    again = os.open(f"/proc/self/fd/{fd}", mode)
    os.close(fd)
    return again


@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_of_raw_data_that_is_none(peer: Raw, block: str) -> None:
    fd = BLOCKS[block]()
    data = struct.pack("=ii", SIZE, SIZE) + descriptor(fd, p.BLOB_COOKIE)
    try:
        assert told(peer, peer.call(Code.RAW, data, [8])).code
        assert peer.call(Code.RAW, data, [8], p.TF_ONE_WAY).name == "BR_TRANSACTION_COMPLETE"
    finally:
        os.close(fd)


def table(fd: int, offsets: list[int]) -> tuple[bytes, list[int]]:
    """Return a message whose data area is said to be in shared memory."""
    count = len(offsets)
    data = descriptor(fd, p.BLOB_COOKIE) + own(1) * count + struct.pack(f"={count}Q", *offsets)
    return data, [24 * at for at in range(count + 1)]


@pytest.mark.parametrize("offsets", [[1 << 62], [100], [0, 0], [0, 8], [2], [24, 0]])
def test_a_shared_data_area_whose_objects_are_nowhere(peer: Raw, offsets: list[int]) -> None:
    fd = memory(64, fcntl.F_SEAL_SHRINK)
    try:
        got = peer.call(Code.KEEP, *table(fd, offsets), SHARED)
        assert got.failed or offsets in ([0, 0], [24, 0])
        peer.free(got)
    finally:
        os.close(fd)


def test_a_shared_data_area_that_is_none(peer: Raw) -> None:
    fd = memory(64, fcntl.F_SEAL_SHRINK)
    try:
        told(peer, peer.call(Code.KEEP, b"", (), SHARED))
        told(peer, peer.call(Code.KEEP, own(1), [0], SHARED))
        told(peer, peer.call(Code.KEEP, descriptor(fd), [0], SHARED))
        told(peer, peer.call(Code.KEEP, own(1) + descriptor(fd, p.BLOB_COOKIE), [0, 24], SHARED))
        told(peer, peer.call(Code.KEEP, descriptor(fd, p.BLOB_COOKIE) + bytes(8), [0], SHARED))
        told(peer, peer.call(Code.KEEP, descriptor(fd, p.BLOB_COOKIE) + own(1), [0, 24], SHARED))
    finally:
        os.close(fd)


def test_a_shared_data_area_larger_than_a_message_may_be_is_not_copied(peer: Raw) -> None:
    fd = memory(limits.MAX_CAPACITY + 1, fcntl.F_SEAL_SHRINK)
    try:
        error = told(peer, peer.call(Code.COUNTED, *table(fd, []), SHARED))
        assert "data area" in str(error)
    finally:
        os.close(fd)


# --- too much -----------------------------------------------------------------------------------------


def test_two_thousand_objects(peer: Raw) -> None:
    count = 2000
    data = struct.pack("=ii", count, 0) + b"".join(own(number) for number in range(1, count + 1))
    got = peer.call(Code.KEEP_MANY, struct.pack("=i", 0) + data, [8 + 24 * at for at in range(count)])
    peer.free(got)
    got = peer.call(Code.ANYTHING, data, [8 + 24 * at for at in range(count)])
    assert got.word == p.BR_REPLY
    peer.free(got)


def test_two_thousand_times_one_object(peer: Raw) -> None:
    got = peer.call(Code.ANYTHING, own(1) * 2000, [24 * at for at in range(2000)])
    assert got.word == p.BR_REPLY
    peer.free(got)


def test_more_descriptors_than_a_message_may_have(peer: Raw) -> None:
    for count in (limits.MAX_FDS_PER_MESSAGE + 1, 900):
        got = peer.call(Code.ANYTHING, descriptor(0) * count, [24 * at for at in range(count)])
        assert got.word == p.BR_REPLY
        peer.free(got)
    got = peer.call(Code.ANYTHING, descriptor(0) * 2000, [24 * at for at in range(2000)])
    assert got.word == p.BR_FAILED_REPLY, "more than a process may open"


# --- scatter and gather: what other users of the device send -------------------------------------------


def gathered(peer: Raw, fds: list[int]) -> Message:
    """Call with a buffer of descriptors beside the data, and the object that says so."""
    inner = struct.pack(f"={len(fds)}i", *fds)
    inner += bytes(-len(inner) % 8)
    data = bytes(8) + struct.pack("=IIQQQQ", TYPE_BUFFER, 0, peer.keep(inner), len(inner), 0, 0)
    data += struct.pack("=IIQQQ", TYPE_FD_ARRAY, 0, len(fds), 0, 0)  # of the object with index 0, from its byte 0
    call = peer.command(BC_TRANSACTION_SG, 0, Code.ANYTHING, data, [8, 48], more=len(inner))
    peer.exchange(call, room=0)
    return peer.wait_for(p.BR_REPLY, p.BR_FAILED_REPLY)


def test_an_array_of_descriptors_that_nobody_reads_is_closed_again(peer: Raw) -> None:
    got = gathered(peer, [0, 1, 0, 1])
    assert got.word == p.BR_REPLY, os.strerror(peer.last_error())
    peer.free(got)


# --- codes ----------------------------------------------------------------------------------------------

JUNK = [b"", b"\xff", bytes(7), b"\xff" * 64, NUMBER * 3]
RESERVED = [
    *p.OWN_TRANSACTIONS,
    *(int.from_bytes(word, "big") for word in (b"_PNG", b"_NTF", b"_DMP", b"_SYN", b"_ILT")),
]


@pytest.mark.parametrize("code", [0, *RESERVED, 0x01000000, 0x7FFFFFFF, 0xFFFFFFFF])
def test_reserved_codes_with_anything(served: Served, peer: Raw, code: int) -> None:
    before = served.complaints()
    for data in JUNK:
        for flags in (p.TF_ACCEPT_FDS, p.TF_ACCEPT_FDS | p.TF_STATUS_CODE, TRAILED, SHARED):
            got = peer.call(code, data, flags=flags)
            assert got.word == p.BR_REPLY
            peer.free(got)
            assert peer.call(code, data, flags=flags | p.TF_ONE_WAY).name == "BR_TRANSACTION_COMPLETE"
    got = peer.call(code, own(1), [0])
    peer.free(got)
    fd = os.memfd_create("hostile")
    peer.call(code, descriptor(fd), [0], p.TF_ONE_WAY)
    os.close(fd)
    peer.free(peer.call(Code.ADD_ONE, NUMBER))
    assert served.complaints() == before, "junk from outside is no bug in binderkit"


def test_an_offer_without_an_object_can_be_taken_by_nobody(peer: Raw) -> None:
    token = struct.pack("=qq", 1, 2)
    told(peer, peer.call(p.OFFER_TRANSACTION, token))
    told(peer, peer.call(p.OFFER_TRANSACTION, token + descriptor(0), [16]))
    told(peer, peer.call(p.TAKE_TRANSACTION, token))


@pytest.mark.parametrize("code", list(Code)[:-3])
def test_bodies_that_are_not_ours(peer: Raw, code: Code) -> None:
    if code in (Code.WAIT, Code.DIE, Code.EXIT_THREAD, Code.BIG):
        return
    for data in JUNK:
        for flags in (p.TF_ACCEPT_FDS, TRAILED, SHARED):
            got = peer.call(code, data, flags=flags)
            assert got.word == p.BR_REPLY
            peer.free(got)


# --- replies it does not take -----------------------------------------------------------------------------


def test_a_reply_that_the_caller_cannot_take_ends_only_that_call(served: Served, peer: Raw) -> None:
    assert peer.call(Code.GIVE_FD, flags=0).name == "BR_FAILED_REPLY", "it said that it takes no descriptors"
    with Raw(served.device, mapping=8192) as small:
        assert small.call(Code.BIG, struct.pack("=i", 30_000)).name == "BR_FAILED_REPLY", "it has no room"
        small.free(small.call(Code.ADD_ONE, NUMBER))


def test_a_caller_that_goes_in_mid_call(served: Served, peer: Raw) -> None:
    with ExitStack() as stack:
        for code in (Code.WAIT, Code.WAIT):
            caller = stack.enter_context(Raw(served.device))
            caller.exchange(caller.command(p.BC_TRANSACTION, 0, code, b""), room=0)
        until(lambda: served.counts().waiting == 2, "both are there")
    served.open()
    until(lambda: served.counts().waiting == 0, "the handlers end all the same")


def test_a_peer_that_is_called_back_and_goes(served: Served, peer: Raw) -> None:
    with Raw(served.device) as caller, Raw(served.device) as owner:
        owner.exchange(p.WORD.pack(p.BC_ENTER_LOOPER), room=0)
        owner.free(owner.call(Code.KEEP, own(1), [0]))
        caller.exchange(caller.command(p.BC_TRANSACTION, 0, Code.CALL, NUMBER), room=0)
        owner.next_call()
        owner.close()
        told(caller, caller.wait_for(p.BR_REPLY))


# --- anything ------------------------------------------------------------------------------------------


def _flat(kind: int, value: int, cookie: int) -> bytes:
    return struct.pack("=IIQQ", kind, p.NODE_FLAGS, value, cookie)


_objects = st.builds(
    _flat,
    st.sampled_from(
        (p.TYPE_BINDER, p.TYPE_HANDLE, p.TYPE_WEAK_BINDER, p.TYPE_WEAK_HANDLE, p.TYPE_FD, TYPE_BUFFER, 0x41414141)
    ),
    st.sampled_from((0, 1, 2, 3, 77)),
    st.sampled_from((0, 1, 2, 3, p.BLOB_COOKIE)),
)
_parts = st.lists(st.one_of(st.binary(max_size=40), _objects), max_size=6)
_codes = st.sampled_from((Code.ADD_ONE, Code.KEEP, Code.ANYTHING, Code.READ_FD, Code.RAW, Code.KEEP_MANY, *RESERVED))
_flags = st.lists(st.sampled_from((p.TF_ONE_WAY, p.TF_ACCEPT_FDS, p.TF_STATUS_CODE, p.TF_TRAILER, p.TF_SHARED_BODY)))


def test_any_transaction_at_all_is_answered(served: Served, peer: Raw) -> None:
    before = served.complaints()

    @settings(max_examples=300, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(_codes, _parts, _flags, st.booleans())
    def send(code: int, parts: list[bytes], flags: list[int], listed: bool) -> None:
        data, offsets = b"", []
        for part in parts:
            data += bytes(-len(data) % 4)
            if len(part) == 24 and listed:
                offsets.append(len(data))
            data += part
        got = peer.call(code, data, offsets, sum(set(flags)))
        assert got.word in (p.BR_REPLY, p.BR_FAILED_REPLY, p.BR_TRANSACTION_COMPLETE), got.name
        peer.free(got)

    send()
    assert served.complaints() == before
