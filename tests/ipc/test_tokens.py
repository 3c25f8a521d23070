"""ipc/tokens.py: what is asked and remembered, and what happens without an answer. With SAMgr: test_access.py."""

from __future__ import annotations

import asyncio
import os
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from binderkit.driver.loopback import LoopbackNetwork
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    IpcError,
    NoServiceManagerError,
    ServiceError,
    UnknownTransactionError,
)
from binderkit.ipc import tokens
from binderkit.ipc.context import CallContext, Caller, current
from binderkit.ipc.driver import peek_driver, set_driver
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import RemoteObject, calling_info
from binderkit.ipc.skeleton import IPCSkeleton
from binderkit.parcel import MessageSequence


class Manager(RemoteObject):
    """A SAMgr that answers token questions from a dict, and counts them."""

    def __init__(self) -> None:
        super().__init__(tokens.MANAGER_DESCRIPTOR)
        self.known: dict[int, int] = {}
        self.asked: list[tuple[int, int]] = []
        self.refuse = False

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        assert data.read_interface_token() == tokens.MANAGER_DESCRIPTOR
        assert code == tokens.TOKEN_OF_PID
        pid, uid = data.read_int(), data.read_long()
        self.asked.append((pid, uid))
        if self.refuse:
            reply.write_int(1001)
            reply.write_string("not today")
        else:
            reply.write_int(0)
            reply.write_long(self.known.get(pid, 0))
        return True


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[Manager]:
    """A loopback device with a SAMgr of its own; this process is an ordinary one."""
    monkeypatch.setattr(tokens, "_state", tokens._State())
    made = Manager()
    network = LoopbackNetwork()
    network.process().become_context(made)
    before = peek_driver()
    set_driver(network.process())
    yield made
    set_driver(before)
    network.close()


@pytest.fixture
def no_manager(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopbackNetwork]:
    monkeypatch.setattr(tokens, "_state", tokens._State())
    network = LoopbackNetwork()
    before = peek_driver()
    set_driver(network.process())
    yield network
    set_driver(before)
    network.close()


def test_it_is_asked_once_per_caller_and_zero_counts_as_an_answer(manager: Manager) -> None:
    manager.known[7] = 0xFFFFFFFF
    with_token, without = Caller(7, 4_000_000_000, 1), Caller(8, 1, 1)
    for _ in range(3):
        assert tokens.token_of(with_token) == 0xFFFFFFFF
        assert tokens.token_of(without) == 0
    assert manager.asked == [(7, 4_000_000_000), (8, 1)]
    assert tokens.manager_was_reached()
    assert tokens.manager_uid() == os.getuid()


def test_of_this_process_too(manager: Manager) -> None:
    manager.known[os.getpid()] = 5
    assert IPCSkeleton.get_calling_token_id() == 5
    assert calling_info().caller_token_id == 5
    assert len(manager.asked) == 1


def test_from_a_coroutine(manager: Manager) -> None:
    manager.known[7] = 9
    caller = Caller(7, 1, 1)

    async def ask() -> list[int]:
        return [await tokens.known_token_of_async(caller) for _ in range(2)]

    assert asyncio.run(ask()) == [9, 9]
    assert manager.asked == [(7, 1)]


def test_callers_of_other_devices_have_none_and_a_given_token_is_kept(manager: Manager) -> None:
    assert tokens.token_of(Caller(7, 1, 1, device_id="other")) == 0
    assert tokens.token_of(Caller(7, 1, 1, token_id=3)) == 3
    assert manager.asked == []


def test_a_refusal_is_an_error_and_not_remembered(manager: Manager) -> None:
    manager.refuse = True
    caller = Caller(7, 1, 1)
    with pytest.raises(ServiceError, match="not today") as caught:
        tokens.known_token_of(caller)
    assert caught.value.code == 1001
    assert tokens.token_of(caller) == 0
    manager.refuse = False
    manager.known[7] = 4
    assert tokens.token_of(caller) == 4


def test_without_a_samgr_it_is_0_and_not_looked_for_again_at_once(
    no_manager: LoopbackNetwork, monkeypatch: pytest.MonkeyPatch
) -> None:
    caller = Caller(7, 1, 1)
    assert tokens.token_of(caller) == 0
    assert not caller.token_known and not tokens.manager_was_reached()
    late = Manager()
    late.known[7] = 4
    no_manager.process().become_context(late)
    with pytest.raises(NoServiceManagerError, match="less than 1 s ago"):
        tokens.known_token_of(caller)
    tokens._state.silent_until = 0.0
    assert tokens.token_of(caller) == 4


def test_a_samgr_without_tokens_is_an_answer(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tokens, "TOKEN_OF_PID", 999)
    monkeypatch.setattr(Manager, "on_remote_message_request", RemoteObject.on_remote_message_request)
    monkeypatch.setattr(Manager, "on_remote_request", _unknown, raising=False)
    caller = Caller(7, 1, 1)
    assert tokens.known_token_of(caller) == 0 and caller.token_known
    assert asyncio.run(tokens.known_token_of_async(Caller(8, 1, 1))) == 0


def _unknown(self: object, code: int, data: object, reply: object, option: object) -> bool:
    raise UnknownTransactionError(f"unknown {code}")


def test_a_source_answers_instead(manager: Manager) -> None:
    class Source:
        def token_of_caller(self, pid: int, uid: int) -> int:
            return pid + uid

        def verify(self, token: int, permission: str) -> bool:
            return True

    source = Source()
    tokens.use_source(source)
    try:
        assert tokens.source() is source
        assert tokens.token_of(Caller(7, 2, 1)) == 9
        assert asyncio.run(tokens.known_token_of_async(Caller(7, 3, 1))) == 10
        assert tokens.manager_uid() == os.geteuid()
    finally:
        tokens.use_source(None)
    assert manager.asked == []


class Peer:
    def __init__(self, pid: int, pidfd: int) -> None:
        self.caller = Caller(pid, 1, 1)
        self.pidfd = pidfd
        self.is_dead = False


def ask_in_call_of(peer: Any) -> int:
    token = current.set(CallContext(peer.caller, peer, None, 0, 1, 9, None, None))
    try:
        return tokens.known_token_of(peer.caller)
    finally:
        current.reset(token)


def test_a_caller_that_ended_meanwhile_gets_nobodys_token(manager: Manager) -> None:
    with subprocess.Popen(["sleep", "1000"]) as process:
        peer = Peer(process.pid, os.pidfd_open(process.pid))
        manager.known[process.pid] = 5
        try:
            assert ask_in_call_of(peer) == 5
            process.kill()
            process.wait()
            peer.caller = Caller(process.pid, 1, 1)  # a new connection's, whose process is gone
            with pytest.raises(DeadObjectError, match="its pid may be another's"):
                ask_in_call_of(peer)
            assert not peer.caller.token_known
        finally:
            os.close(peer.pidfd)


def test_without_a_pidfd_the_connection_tells(manager: Manager) -> None:
    manager.known[7] = 5
    peer = Peer(7, -1)
    peer.is_dead = True
    with pytest.raises(DeadObjectError):
        ask_in_call_of(peer)
    peer.is_dead = False
    assert ask_in_call_of(peer) == 5


def test_a_samgr_that_hangs_is_given_up(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    def hang(self: object, code: int, data: object, reply: object, option: object) -> bool:
        return not threading.Event().wait(0.2)  # the loopback driver gives a call up when its handler is back

    monkeypatch.setattr(tokens, "ASK_TIMEOUT", 0.05)
    monkeypatch.setattr(Manager, "on_remote_message_request", hang)
    with pytest.raises(CallTimeoutError):
        tokens.known_token_of(Caller(7, 1, 1))
    assert tokens.token_of(Caller(7, 1, 1)) == 0


def test_a_forked_child_knows_nothing_of_its_parents(manager: Manager) -> None:
    manager.known[os.getpid()] = 5
    assert IPCSkeleton.get_calling_token_id() == 5
    pid = os.fork()
    if pid == 0:
        os._exit(0 if tokens._state.own_token is None and tokens.source() is None else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


def test_the_numbers_are_samgrs() -> None:
    from binderkit.samgr import codes

    assert codes.DESCRIPTOR == tokens.MANAGER_DESCRIPTOR
    assert (codes.TOKEN_OF_PID, codes.VERIFY_TOKEN, codes.TOKEN_INFO) == (110, 111, 112)


def test_errors_other_than_ours_are_not_swallowed(manager: Manager, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(caller: Caller) -> int:
        raise ZeroDivisionError

    monkeypatch.setattr(tokens, "known_token_of", broken)
    with pytest.raises(ZeroDivisionError):
        tokens.token_of(Caller(7, 1, 1))
    assert issubclass(NoServiceManagerError, IpcError)
