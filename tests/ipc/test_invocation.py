"""Calls of other devices: who may hand them over, and whom the handler sees."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binderkit as bk
from binderkit.driver.loopback import LoopbackNetwork
from binderkit.errors import IpcError, ProtocolError, RefusedError
from binderkit.ipc import tokens
from binderkit.ipc.context import CallContext, Caller, RemoteCaller, current, own_identity
from binderkit.ipc.invocation import PERMISSION, handle, speaks_for_devices, trailer
from binderkit.ipc.proxy import REMOTE_TRANSACTION

DEVICE, HERE = "ab" * 32, "cd" * 32
CALLER = RemoteCaller(DEVICE, HERE, 5, 6, 7)


class Echo(bk.RemoteObject):
    def __init__(self) -> None:
        super().__init__("test.IEcho")
        self.seen: list[Any] = []

    def on_remote_message_request(self, code: int, data: Any, reply: Any, option: Any) -> Any:
        skeleton = bk.IPCSkeleton
        self.seen.append((code, skeleton.get_calling_info(), option.is_async(), skeleton.get_dcalling_pid()))
        self.identity = skeleton.get_dcalling_uid(), skeleton.get_dcalling_token_id(), skeleton.get_local_device_id()
        if code == 2:
            return False
        reply.write_string(data.read_string())
        if code == 3:
            return self.later()
        return True

    async def later(self) -> bool:
        self.seen.append(bk.IPCSkeleton.get_calling_device_id())
        return True


def wrapped(code: int = 1, flags: int = 0) -> bk.MessageSequence:
    data = bk.MessageSequence()
    data.write_string("hello")
    return bk.MessageSequence._received(bytes(data) + trailer(code, CALLER, flags), None)


@pytest.fixture
def inside() -> Iterator[CallContext]:
    """The context of a request of this very process."""
    context = CallContext(own_identity(), None, None, 0, 0, 9, None, None)
    token = current.set(context)
    yield context
    current.reset(token)


@pytest.mark.usefixtures("inside")
def test_the_handler_sees_the_device() -> None:
    echo, reply = Echo(), bk.MessageSequence()
    assert handle(echo, wrapped(flags=1), reply) is True
    assert reply.read_string() == "hello"
    ((code, info, is_async, pid),) = echo.seen
    assert (code, is_async, pid) == (1, True, 5)
    assert info.remote_device_id == DEVICE
    assert info.local_device_id == HERE
    assert (info.caller_pid, info.caller_uid, info.caller_token_id, info.is_local_calling) == (-1, -1, 0, False)
    assert echo.identity == (6, 7, HERE)


@pytest.mark.usefixtures("inside")
def test_a_handler_that_does_not_know_the_code() -> None:
    with pytest.raises(Exception, match="returned False for code 2"):
        handle(Echo(), wrapped(2), bk.MessageSequence())


def test_cancelling_the_call_cancels_the_handler(inside: CallContext) -> None:
    class Asks(bk.RemoteObject):
        def on_remote_message_request(self, code: int, data: Any, reply: Any, option: Any) -> bool:
            inside.cancel()
            reply.write_boolean(bk.IPCSkeleton.is_call_cancelled())
            return True

    reply = bk.MessageSequence()
    handle(Asks("test"), wrapped(), reply)
    assert reply.read_boolean()


@pytest.mark.usefixtures("inside")
@given(st.binary(max_size=300))
def test_any_bytes_are_refused(data: bytes) -> None:
    echo = Echo()
    with pytest.raises(ProtocolError):
        handle(echo, bk.MessageSequence._received(data, None), bk.MessageSequence())
    assert echo.seen == []


@pytest.mark.usefixtures("inside")
@pytest.mark.parametrize("code", [0, 0x01000000, REMOTE_TRANSACTION])
def test_codes_that_are_no_calls(code: int) -> None:
    with pytest.raises(ProtocolError):
        handle(Echo(), wrapped(code), bk.MessageSequence())


def test_outside_of_a_call_nobody_speaks_for_devices() -> None:
    with pytest.raises(RefusedError):
        handle(Echo(), wrapped(), bk.MessageSequence())


def test_identity_inside_and_out() -> None:
    """The outer caller is the process that speaks; after the call nothing of the inner one is left."""
    with LoopbackNetwork() as network:
        echo = Echo()
        proxy = network.process().offer(echo, network.process(pid=os.getpid()))
        reply = bk.MessageSequence()
        proxy._transact(proxy._handle, REMOTE_TRANSACTION, wrapped(), reply, None)
        assert reply.read_string() == "hello"
        assert echo.seen[0][1].remote_device_id == DEVICE
        proxy._transact(proxy._handle, REMOTE_TRANSACTION, wrapped(3), bk.MessageSequence(), None)
        assert echo.seen[-1] == DEVICE
        data = bk.MessageSequence()
        data.write_string("plain")
        proxy.send_request(1, data, bk.MessageSequence())
        assert echo.seen[-1][1].is_local_calling


def test_another_process_is_refused() -> None:
    with LoopbackNetwork() as network:
        echo = Echo()
        proxy = network.process().offer(echo, network.process())
        with pytest.raises(RefusedError):
            proxy._transact(proxy._handle, REMOTE_TRANSACTION, wrapped(), bk.MessageSequence(), None)
        assert echo.seen == []


class Source:
    """A SAMgr's tokens."""

    def __init__(self, token: int, *, granted: bool) -> None:
        self.token = token
        self.granted = granted
        self.asked = 0

    def token_of_caller(self, pid: int, uid: int) -> int:
        return self.token

    def verify(self, token: int, permission: str) -> bool:
        self.asked += 1
        return self.granted and permission == PERMISSION


@pytest.fixture
def use() -> Iterator[Any]:
    yield tokens.use_source
    tokens.use_source(None)


@pytest.mark.parametrize(("token", "granted", "expected"), [(5, True, True), (5, False, False), (0, True, False)])
def test_the_permission_decides(use: Any, token: int, granted: bool, expected: bool) -> None:
    use(Source(token, granted=granted))
    assert speaks_for_devices(Caller(1, 0, 0)) is expected


def test_samgr_is_asked_once_per_caller(use: Any) -> None:
    source = Source(5, granted=True)
    use(source)
    caller = Caller(1, 0, 0)
    assert speaks_for_devices(caller)
    assert speaks_for_devices(caller)
    assert source.asked == 1
    assert speaks_for_devices(Caller(1, 0, 0))
    assert source.asked == 2


def test_a_caller_of_another_device_never_speaks_for_devices(use: Any) -> None:
    use(Source(5, granted=True))
    assert not speaks_for_devices(CALLER)


def test_when_nobody_can_be_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(caller: Caller) -> int:
        raise IpcError("silence")

    monkeypatch.setattr(tokens, "known_token_of", fail)
    with pytest.raises(RefusedError, match="silence"):
        speaks_for_devices(Caller(1, 0, 0))
