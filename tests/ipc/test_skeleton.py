"""IPCSkeleton outside a call, and the identity that is reset and restored inside one."""

from __future__ import annotations

import os
from typing import Any

import pytest

from binderkit.errors import ParamTypeError, ParamValueError
from binderkit.ipc.context import CallContext, Caller, current
from binderkit.ipc.remote import RemoteObject
from binderkit.ipc.skeleton import IPCSkeleton


class Peer:
    caller = Caller(7, 1000, 1000)
    is_dead = False


def test_outside_a_call_it_tells_about_this_process() -> None:
    assert IPCSkeleton.get_calling_pid() == os.getpid()
    assert IPCSkeleton.get_calling_uid() == os.getuid()
    assert IPCSkeleton.get_calling_token_id() == 0
    assert IPCSkeleton.get_calling_device_id() == IPCSkeleton.get_local_device_id() == ""
    assert IPCSkeleton.is_local_calling()
    assert not IPCSkeleton.is_handling_transaction()
    assert IPCSkeleton.get_remaining_time() is None
    assert IPCSkeleton.get_call_chain_id() == 0
    assert IPCSkeleton.reset_calling_identity() == ""
    IPCSkeleton.check_call_cancelled()


def test_reset_and_restore_inside_a_call() -> None:
    peer = Peer()
    token = current.set(CallContext(peer.caller, peer, None, 0, 1, 9, None, None))
    try:
        assert IPCSkeleton.is_handling_transaction()
        assert (IPCSkeleton.get_calling_pid(), IPCSkeleton.get_call_chain_id()) == (7, 9)
        identity = IPCSkeleton.reset_calling_identity()
        assert identity == str(1000 << 32 | 7)
        assert IPCSkeleton.get_calling_pid() == os.getpid()
        for wrong in ("", "0", str(7), "x"):
            with pytest.raises(ParamValueError, match="does not belong"):
                IPCSkeleton.restore_calling_identity(wrong)
        IPCSkeleton.restore_calling_identity(identity)
        assert IPCSkeleton.get_calling_uid() == 1000
    finally:
        current.reset(token)


@pytest.mark.parametrize(("bad", "error"), [("4", ParamTypeError), (True, ParamTypeError), (0, ParamValueError)])
def test_numbers_of_threads(bad: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        IPCSkeleton.set_max_work_thread_num(bad)
    with pytest.raises(ParamValueError):
        IPCSkeleton.set_max_work_thread_num(33)


def test_flush_takes_remote_objects() -> None:
    IPCSkeleton.flush_cmd_buffer(RemoteObject("local"))
    with pytest.raises(ParamTypeError):
        IPCSkeleton.flush_cmd_buffer(object())  # type: ignore[arg-type]
