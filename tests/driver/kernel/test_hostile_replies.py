"""An object whose process answers anything at all: its callers get an error of ours, keep nothing and go on."""

from __future__ import annotations

import fcntl
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import binderkit as bk
from binderkit import limits
from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.node import KernelNode
from binderkit.ipc.proxy import RemoteProxy
from binderkit.parcel import MessageSequence
from tests.driver.kernel.raw import BC_REPLY_SG, TYPE_BUFFER, TYPE_FD_ARRAY, Message, Raw, descriptor, other, own
from tests.driver.kernel.service import Code, Served, add_one
from tests.driver.kernel.service import ask as request
from tests.driver.kernel.state import WAIT, held, until

ASK, END = 2, 3
Answer = Callable[[Raw, Message], None]
STATUS = p.TF_STATUS_CODE


class Owner:
    """An object that adds one, and answers ASK as a test says; the context manager has it to give."""

    def __init__(self, device: str) -> None:
        self.device = device
        self.answer: Answer = lambda raw, call: raw.answer(call)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()
        assert self._ready.wait(WAIT)

    def _serve(self) -> None:
        with Raw(self.device) as raw:
            raw.exchange(p.WORD.pack(p.BC_ENTER_LOOPER), room=0)
            mine = p.OBJECT.pack(p.TYPE_BINDER, p.NODE_FLAGS | p.NODE_OURS, 1, 1)
            raw.free(raw.call(Code.KEEP, mine, [0]))
            self._ready.set()
            while True:
                call = raw.next_call()
                if call.fields[2] == ASK or call.fields[2] in p.OWN_TRANSACTIONS:
                    self.answer(raw, call)
                elif call.fields[2] == END:
                    raw.answer(call)
                    return
                elif call.fields[2] == Code.ADD_ONE:
                    raw.answer(call, struct.pack("=i", struct.unpack_from("=i", call.body)[0] + 1))
                else:
                    raw.answer(call)

    def close(self) -> None:
        """End it."""
        with Raw(self.device) as raw:
            given = raw.call(Code.GIVE)  # held for as long as this is not given back
            raw.call(END, handle=given.objects[0][2])
        self._thread.join(WAIT)


@pytest.fixture(scope="module")
def owner(lasting: Served) -> Iterator[Owner]:
    """One for all tests here."""
    made = Owner(lasting.device)
    yield made
    made.close()


@pytest.fixture
def node(owner: Owner) -> Iterator[KernelNode]:
    """This process on the device, as a client."""
    made = KernelNode(owner.device)
    yield made
    made.close()


@pytest.fixture
def proxy(owner: Owner, node: KernelNode) -> Iterator[RemoteProxy]:
    """The object in this process; afterwards it works as before, and no more is held than before."""
    found = request(node.context_object(start=False), Code.GIVE).read_remote_object()
    assert add_one(found) == 2
    before = held(os.getpid(), owner.device)
    yield found
    assert add_one(found, 5) == 6

    def back() -> bool:
        node.flush_released()
        return held(os.getpid(), owner.device) == before

    until(back, f"this process holds no more than {before}, now {held(os.getpid(), owner.device)}", 20)


def ask(proxy: RemoteProxy) -> bk.IpcError | None:
    """Make a call; return the error of ours that came of it. Any other error fails the test."""
    try:
        proxy.send_request(ASK, MessageSequence(), MessageSequence())
    except bk.IpcError as error:
        return error
    return None


def text(value: str) -> bytes:
    """Return a string as it stands in a message."""
    data = MessageSequence()
    data.write_string(value)
    return bytes(data._out or b"")


@pytest.mark.parametrize("flags", [STATUS, p.TF_TRAILER, p.TF_SHARED_BODY, STATUS | p.TF_TRAILER | p.TF_SHARED_BODY])
@pytest.mark.parametrize(
    "body",
    [b"", b"\0", bytes(3), bytes(5), b"\xff" * 23, struct.pack("=ii", 4, 1 << 30), struct.pack("=ii", 4, -2)],
    ids=lambda body: body[:12].hex() or "empty",
)
def test_a_reply_that_is_not_what_its_flags_say(owner: Owner, proxy: RemoteProxy, flags: int, body: bytes) -> None:
    owner.answer = lambda raw, call: raw.answer(call, body, flags=flags)
    assert ask(proxy) is not None


@pytest.mark.parametrize("status", [0, 4, -32, -2147483648, 2147483647, 303])
def test_a_status_alone_is_an_error_whatever_it_is(owner: Owner, proxy: RemoteProxy, status: int) -> None:
    owner.answer = lambda raw, call: raw.answer(call, struct.pack("=i", status), flags=STATUS)
    assert isinstance(ask(proxy), bk.errors.TransactionError)


@pytest.mark.parametrize("name", ["builtins.SystemExit", "antigravity.Error", "os.system", "", ".", "x" * 5000, "a\nb"])
def test_no_name_in_a_status_is_looked_up(owner: Owner, proxy: RemoteProxy, name: str) -> None:
    body = struct.pack("=i", 4) + text(name) + text("words") + text("")
    owner.answer = lambda raw, call: raw.answer(call, body, flags=STATUS)
    error = ask(proxy)
    assert isinstance(error, bk.errors.TransactionError)
    assert "words" in str(error)
    assert "antigravity" not in sys.modules


def test_a_status_with_objects_keeps_none_of_them(owner: Owner, proxy: RemoteProxy) -> None:
    body = struct.pack("=ii", 4, 0) + own(5) + descriptor(0)
    owner.answer = lambda raw, call: raw.answer(call, body, [8, 32], STATUS | p.TF_ACCEPT_FDS)
    assert ask(proxy) is not None


@pytest.mark.parametrize(
    "body",
    [own(5), own(5) * 2000, other(0, p.TYPE_WEAK_HANDLE), struct.pack("=IIQQ", p.TYPE_WEAK_BINDER, 0, 6, 6)],
    ids=["one", "two thousand", "weak handle", "weak binder"],
)
def test_objects_that_nobody_reads(owner: Owner, proxy: RemoteProxy, body: bytes) -> None:
    offsets = range(0, len(body), 24)
    if len(offsets) == 1 and body == other(0, p.TYPE_WEAK_HANDLE):
        # The owner itself has no handle 0: the kernel refuses, and the caller is told.
        owner.answer = lambda raw, call: raw.answer(call, body, offsets)
        assert ask(proxy) is not None
        return
    owner.answer = lambda raw, call: raw.answer(call, body, offsets)
    assert ask(proxy) is None


def test_descriptors_that_nobody_reads(owner: Owner, proxy: RemoteProxy) -> None:
    for count in (1, 300):
        owner.answer = lambda raw, call, n=count: raw.answer(call, descriptor(0) * n, range(0, 24 * n, 24))  # type: ignore[misc]
        assert ask(proxy) is None


def _memory(size: int, seals: int) -> int:
    fd = os.memfd_create("hostile", os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, size)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    return fd


BLOCKS: dict[str, Callable[[], int]] = {
    "device": lambda: os.open("/dev/null", os.O_RDONLY),
    "directory": lambda: os.open("/", os.O_RDONLY),
    "unsealed": lambda: _memory(4096, 0),
    "empty": lambda: _memory(0, fcntl.F_SEAL_SHRINK),
    "too large": lambda: _memory(limits.MAX_RAW_DATA + 1, fcntl.F_SEAL_SHRINK),
}


@pytest.mark.parametrize("flags", [p.TF_ACCEPT_FDS, p.TF_ACCEPT_FDS | p.TF_SHARED_BODY])
@pytest.mark.parametrize("block", BLOCKS)
def test_a_block_that_is_none(owner: Owner, proxy: RemoteProxy, block: str, flags: int) -> None:
    def answer(raw: Raw, call: Message) -> None:
        fd = BLOCKS[block]()
        # Beside it a good descriptor, which must not stay open.
        raw.answer(call, descriptor(fd, p.BLOB_COOKIE) + descriptor(fd), [0, 24], flags)
        os.close(fd)

    owner.answer = answer
    assert isinstance(ask(proxy), bk.errors.ProtocolError)


def test_buffers_and_arrays_of_descriptors(owner: Owner, proxy: RemoteProxy) -> None:
    def answer(raw: Raw, call: Message) -> None:
        inner = struct.pack("=2i", 0, 1)
        data = bytes(8) + struct.pack("=IIQQQQ", TYPE_BUFFER, 0, raw.keep(inner), len(inner), 0, 0)
        data += struct.pack("=IIQQQ", TYPE_FD_ARRAY, 0, 2, 0, 0)
        reply = raw.command(BC_REPLY_SG, 0, 0, data, [8, 48], more=len(inner))
        raw.exchange(raw.free_command(call) + reply, room=0)

    owner.answer = answer
    assert ask(proxy) is None


def test_a_reply_that_is_never_sent_is_an_end(owner: Owner, proxy: RemoteProxy) -> None:
    """The kernel refuses what the owner tries to send: its caller is told at once."""
    owner.answer = lambda raw, call: raw.answer(call, descriptor(999), [0])
    assert ask(proxy) is not None


@pytest.mark.parametrize("body", [b"", bytes(7), struct.pack("=q", -5)])
def test_an_owner_that_does_not_say_who_it_is(owner: Owner, proxy: RemoteProxy, body: bytes) -> None:
    owner.answer = lambda raw, call: raw.answer(call, body)
    caller = proxy._connection.caller
    assert caller.pid <= 0
    assert (caller.uid == os.getuid()) == (len(body) == 8)


_flat = st.builds(
    lambda kind, value, cookie: struct.pack("=IIQQ", kind, p.NODE_FLAGS, value, cookie),
    st.sampled_from((p.TYPE_BINDER, p.TYPE_WEAK_BINDER, p.TYPE_FD, TYPE_BUFFER, 0x41414141)),
    st.sampled_from((0, 1, 2, 3, 77)),
    st.sampled_from((0, 1, 2, p.BLOB_COOKIE)),
)
_flags = st.lists(st.sampled_from((p.TF_ACCEPT_FDS, p.TF_STATUS_CODE, p.TF_TRAILER, p.TF_SHARED_BODY)))


def test_any_reply_at_all(owner: Owner, proxy: RemoteProxy) -> None:
    @settings(max_examples=200, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(st.one_of(st.binary(max_size=40), _flat), max_size=6), _flags)
    def answer(parts: list[bytes], flags: list[int]) -> None:
        data, offsets = b"", []
        for part in parts:
            data += bytes(-len(data) % 4)
            if len(part) == 24:
                offsets.append(len(data))
            data += part
        owner.answer = lambda raw, call: raw.answer(call, data, offsets, sum(set(flags)))
        ask(proxy)

    answer()
