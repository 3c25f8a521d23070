"""Who calls, until when, and whether anybody still waits."""

from __future__ import annotations

import os
import time

import pytest

from binderkit.errors import CallCancelledError
from binderkit.ipc.context import CallContext, Caller, calling_identity, current, new_chain, own_identity


def context(deadline: float | None = None) -> CallContext:
    return CallContext(Caller(1, 2, 3), None, None, 0, 1, 1, deadline, None)


def test_identity_is_uid_and_pid_in_one_number() -> None:
    assert Caller(7, 1000, 0).identity() == str(1000 << 32 | 7)


def test_outside_a_call_the_caller_is_this_process() -> None:
    assert current.get() is None
    assert calling_identity().pid == own_identity().pid == os.getpid()


def test_remaining_time_is_never_negative() -> None:
    assert context().remaining() is None
    assert context(time.monotonic() - 5).remaining() == 0
    left = context(time.monotonic() + 5).remaining()
    assert left is not None
    assert 0 < left <= 5


def test_cancelled_by_deadline_or_by_word() -> None:
    context().check_cancelled()
    with pytest.raises(CallCancelledError):
        context(time.monotonic() - 1).check_cancelled()
    given_up = context()
    given_up.cancel()
    with pytest.raises(CallCancelledError):
        given_up.check_cancelled()


def test_on_cancel_is_called_once_also_when_late() -> None:
    calls: list[int] = []
    early = context()
    early.on_cancel(lambda: calls.append(1))
    early.cancel()
    assert calls == [1]
    late = context()
    late.cancel()
    late.on_cancel(lambda: calls.append(2))
    assert calls == [1, 2]


def test_chain_ids_are_unique_also_in_a_forked_child() -> None:
    ours = {new_chain() for _ in range(1000)}
    assert len(ours) == 1000
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.write(write, b"%d" % new_chain())
        os._exit(0)
    os.waitpid(child, 0)
    assert int(os.read(read, 30)) >> 32 != next(iter(ours)) >> 32
    os.close(read)
    os.close(write)
