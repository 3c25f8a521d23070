"""What the kernel answers instead of a reply, in words; and what a reply with a status tells."""

from __future__ import annotations

import errno
import struct
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binderkit as bk
from binderkit import errors
from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.calls import _failure, _told
from tests.driver.kernel.fakes import FakeNode


@pytest.fixture
def target() -> Any:
    """An object of another process."""
    node = FakeNode()
    return node.targets.receive(node.here, 7, 0)._connection


@pytest.mark.parametrize(
    ("number", "kind", "words"),
    [
        (errno.ENOSPC, errors.QuotaError, "send less at once, or retry"),
        (errno.ESRCH, errors.DeadObjectError, "has closed its binder device"),
        (errno.EINVAL, errors.InvalidObjectError, "object or handle in the call, or in its reply, that is not valid"),
        (errno.EPERM, errors.RefusedError, "does not accept descriptors"),
        (errno.EBADF, errors.DescriptorError, "not open"),
        (errno.EMFILE, errors.QuotaError, "no descriptor left"),
        (errno.EPROTO, errors.TransactionError, "Protocol error"),
        (0, errors.TransactionError, "does not say why"),
    ],
)
def test_a_failed_call_says_why(target: Any, number: int, kind: type[bk.IpcError], words: str) -> None:
    target.node.device.failure = number
    error = _failure(target, p.BR_FAILED_REPLY, oneway=False)
    assert type(error) is kind or isinstance(error, kind)
    assert words in str(error)


def test_a_one_way_call_without_room_crosses_a_budget(target: Any) -> None:
    target.node.device.failure = errno.ENOSPC
    error = _failure(target, p.BR_FAILED_REPLY, oneway=True)
    assert isinstance(error, errors.QuotaError)
    assert "slow down" in str(error)


@pytest.mark.parametrize(
    ("word", "kind", "words"),
    [
        (p.BR_DEAD_REPLY, errors.DeadObjectError, "of object 7 is gone, or its thread ended; look the object up again"),
        (p.BR_FROZEN_REPLY, errors.RefusedError, "frozen and takes no calls; thaw it, or send one-way calls"),
        (p.BR_OK, errors.ProtocolError, "BR_OK"),
    ],
)
def test_other_outcomes(target: Any, word: int, kind: type[bk.IpcError], words: str) -> None:
    error = _failure(target, word, oneway=False)
    assert isinstance(error, kind)
    assert words in str(error)


def test_a_dead_process_is_named_if_it_is_known(target: Any) -> None:
    target.learn_owner(bk.ipc.context.Caller(4321, 0, -1))
    assert str(_failure(target, p.BR_DEAD_REPLY, oneway=False)).startswith("process 4321 of object 7 is gone")


@given(st.integers(-(2**31), 2**31 - 1))
def test_a_status_alone_is_what_other_users_of_the_device_send(status: int) -> None:
    error = _told(struct.pack("=i", status))
    assert isinstance(error, errors.TransactionError)
    assert isinstance(error, Exception)


@given(st.binary(max_size=60))
def test_any_bytes_of_a_status_are_an_error_of_ours(body: bytes) -> None:
    try:
        assert isinstance(_told(body), errors.TransactionError)
    except errors.IpcError:
        assert len(body) != 4
