"""From a request's bytes to the handler and its reply's bytes, without a device."""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Callable
from typing import Any

import pytest

import binderkit as bk
from binderkit import limits
from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.calls import _told
from binderkit.driver.kernel.serve import serve
from binderkit.ipc.context import current
from binderkit.parcel import MessageSequence
from tests.driver.kernel.fakes import BASE, FakeNode

Handler = Callable[[int, MessageSequence, MessageSequence], Any]


class Stub(bk.RemoteObject):
    """Does what a test says."""

    def __init__(self, handler: Handler) -> None:
        super().__init__("binderkit.tests.IStub")
        self._handler = handler

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: bk.MessageOption
    ) -> Any:
        """Handle a request."""
        return self._handler(code, data, reply)


@pytest.fixture
def node() -> Any:
    """Tables on no device."""
    return FakeNode()


def request(node: Any, handler: Handler, data: bytes = b"", code: int = 1, flags: int = 0) -> tuple[int, bytes]:
    """Serve a request; return the flags and the data of the reply. Its buffer must have been given back."""
    node.nodes.set_root(Stub(handler))
    fields = node.arrive(data, b"", flags, code)
    serve(node, node.here, fields)
    written = bytes(node.here.written + node.here.out)
    assert written.count(p.COMMAND_POINTER.pack(p.BC_FREE_BUFFER, BASE)) == 1
    at = written.find(p.WORD.pack(p.BC_REPLY))
    if at < 0:
        return 0, b""
    reply = p.TRANSACTION.unpack_from(written, at + 4)
    return reply[3], ctypes.string_at(reply[8], reply[6])


def error(reply: tuple[int, bytes]) -> bk.errors.TransactionError:
    """Return the error a reply tells."""
    assert reply[0] & p.TF_STATUS_CODE
    return _told(reply[1])


def add_one(code: int, data: MessageSequence, reply: MessageSequence) -> bool:
    """Answer with one more."""
    reply.write_int(data.read_int() + 1)
    return True


def test_a_request_is_answered_and_its_buffer_given_back(node: Any) -> None:
    assert request(node, add_one, struct.pack("=i", 41)) == (p.TF_ACCEPT_FDS, struct.pack("=i", 42))
    assert node.here.depth == 0
    assert current.get() is None


def test_a_large_request_is_given_back_before_it_is_handled(node: Any) -> None:
    def look(code: int, data: MessageSequence, reply: MessageSequence) -> bool:
        assert node.here.written.count(p.COMMAND_POINTER.pack(p.BC_FREE_BUFFER, BASE)) == 1
        return True

    assert not request(node, look, bytes(17 * limits.KIB))[0] & p.TF_STATUS_CODE


def test_what_a_handler_raises_is_told(node: Any) -> None:
    def fail(code: int, data: MessageSequence, reply: MessageSequence) -> bool:
        raise ValueError("out of paper")

    told = error(request(node, fail))
    assert "out of paper" in str(told)
    assert "ValueError" in str(told) or isinstance(told, bk.errors.RemoteError)
    assert current.get() is None


def test_a_code_that_the_handler_does_not_know(node: Any) -> None:
    assert "does not know this code" in str(error(request(node, lambda *_: False, code=9)))


def test_an_object_that_is_gone(node: Any) -> None:
    fields = list(node.arrive(b"", b""))
    fields[0] = 77
    serve(node, node.here, tuple(fields))
    reply = p.TRANSACTION.unpack_from(node.here.out, node.here.out.find(p.WORD.pack(p.BC_REPLY)) + 4)
    assert "no such object" in str(_told(ctypes.string_at(reply[8], reply[6])))


def test_a_caller_that_is_not_admitted_reaches_no_handler(node: Any) -> None:
    node.admission = lambda caller: f"user {caller.uid} may not"
    assert isinstance(error(request(node, lambda *_: pytest.fail("handled"))), bk.RefusedError)


def test_a_one_way_call_that_is_not_admitted_is_dropped(node: Any) -> None:
    node.admission = lambda caller: "no"
    assert request(node, lambda *_: pytest.fail("handled"), flags=p.TF_ONE_WAY) == (0, b"")


@pytest.mark.parametrize("remaining", [0, 1, 10**6, 2**64 - 1])
def test_the_context_has_the_deadline_that_came_but_no_senseless_one(node: Any, remaining: int) -> None:
    left: list[float | None] = []

    def look(code: int, data: MessageSequence, reply: MessageSequence) -> bool:
        context = current.get()
        assert context is not None
        assert (context.chain, list(node.cancellable)) == (5, [7])
        left.append(bk.IPCSkeleton.get_remaining_time())
        return True

    request(node, look, p.TRAILER.pack(5, remaining, 7), flags=p.TF_TRAILER)
    assert node.cancellable == {}
    (seconds,) = left
    if remaining == 0:
        assert seconds is None
    else:
        assert seconds is not None
        assert seconds <= min(remaining / 1e6, limits.MAX_WAIT_TIME)


@pytest.mark.parametrize("data", [b"", bytes(7), b"\xff" * 8, bytes(30)])
@pytest.mark.parametrize("flags", [p.TF_ONE_WAY, p.TF_ONE_WAY | p.TF_TRAILER, p.TF_ONE_WAY | p.TF_SHARED_BODY])
def test_a_cancellation_of_nothing_changes_nothing(node: Any, data: bytes, flags: int) -> None:
    assert request(node, lambda *_: pytest.fail("handled"), data, p.CANCEL_TRANSACTION, flags) == (0, b"")


def test_a_cancellation_reaches_its_call_alone(node: Any) -> None:
    seen: list[bool] = []

    def cancel(code: int, data: MessageSequence, reply: MessageSequence) -> bool:
        context: Any = current.get()
        for number in (8, 7):
            serve(node, node.here, node.arrive(struct.pack("=q", number), b"", p.TF_ONE_WAY, p.CANCEL_TRANSACTION))
            seen.append(context.cancelled)
        return True

    node.nodes.set_root(Stub(cancel))
    serve(node, node.here, node.arrive(p.TRAILER.pack(5, 0, 7), b"", p.TF_TRAILER))
    assert seen == [False, True]


def test_a_one_way_call_is_given_back_after_it_was_handled_and_has_no_reply(
    node: Any, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(code: int, data: MessageSequence, reply: MessageSequence) -> bool:
        assert BASE.to_bytes(8, "little") not in node.here.written + node.here.out
        raise ValueError("nobody hears this")

    assert request(node, fail, flags=p.TF_ONE_WAY) == (0, b"")
    assert "nobody hears this" in caplog.text


def test_a_reply_that_cannot_be_sent_becomes_an_error(node: Any) -> None:
    elsewhere = FakeNode()
    foreign = elsewhere.targets.receive(elsewhere.here, 3, 0)

    def answer(code: int, data: MessageSequence, reply: MessageSequence) -> bool:
        reply.write_remote_object(foreign)
        return True

    assert "belongs to another driver" in str(error(request(node, answer)))


def test_codes_of_drivers_among_themselves(node: Any) -> None:
    assert request(node, add_one, code=p.OWNER_TRANSACTION)[1] == struct.pack("=q", os.getpid())
    node.nodes.clear_root()
    node.here.written.clear()
    node.here.out.clear()
    refused = error(request(node, add_one, bytes(16), code=p.TAKE_TRANSACTION))
    assert "left at the context manager alone" in str(refused)


def test_a_coroutine_is_run_and_the_thread_does_not_count_meanwhile(node: Any) -> None:
    async def later(data: MessageSequence, reply: MessageSequence) -> bool:
        return add_one(1, data, reply)

    got = request(node, lambda code, data, reply: later(data, reply), struct.pack("=i", 1))
    assert got[1] == struct.pack("=i", 2)
    assert node.waits == 1
