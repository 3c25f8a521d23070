"""MessageOption and the records of a call (reference 1.5 to 1.7)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import IpcError, ParamTypeError, ParamValueError
from binderkit.ipc.option import RECEIVED_ASYNC, RECEIVED_SYNC, MessageOption, RequestResult
from binderkit.parcel import MessageSequence


def test_defaults() -> None:
    option = MessageOption()
    assert (option.get_flags(), option.get_wait_time(), option.is_async(), option.timeout) == (0, 8, False, None)


@pytest.mark.parametrize(("given_time", "kept"), [(-1, 8), (0, 8), (1, 1), (3000, 3000), (3001, 3000)])
def test_wait_time_is_clamped(given_time: int, kept: int) -> None:
    assert MessageOption(0, given_time).get_wait_time() == kept
    option = MessageOption()
    option.set_wait_time(given_time)
    assert option.get_wait_time() == kept


def test_true_means_one_way_and_flags_are_replaced() -> None:
    assert MessageOption(True).is_async()
    option = MessageOption(MessageOption.TF_ASYNC | MessageOption.TF_ACCEPT_FDS)
    option.set_async(False)
    assert option.get_flags() == MessageOption.TF_ACCEPT_FDS
    option.set_async(True)
    assert option.is_async()
    option.set_flags(MessageOption.TF_SYNC)
    assert option.get_flags() == 0


@pytest.mark.parametrize("timeout", [0, -1, 3000.1, float("nan"), float("inf")])
def test_timeouts_out_of_range(timeout: float) -> None:
    with pytest.raises(ParamValueError, match="at most 3000 seconds"):
        MessageOption(timeout=timeout)


@pytest.mark.parametrize("bad", ["1", b"1", [], True])
def test_what_is_no_number(bad: Any) -> None:
    with pytest.raises(ParamTypeError):
        MessageOption(timeout=bad)
    with pytest.raises(ParamTypeError):
        MessageOption(wait_time=bad)


@given(st.floats(min_value=1e-6, max_value=3000))
def test_a_timeout_is_kept(timeout: float) -> None:
    option = MessageOption()
    option.timeout = timeout
    assert option.timeout == timeout


@pytest.mark.parametrize("option", [RECEIVED_SYNC, RECEIVED_ASYNC])
def test_the_option_of_a_handler_is_read_only(option: MessageOption) -> None:
    before = option.get_flags()
    for change in (
        lambda: option.set_flags(0),
        lambda: option.set_async(True),
        lambda: option.set_wait_time(3),
        lambda: setattr(option, "timeout", 3),
    ):
        with pytest.raises(IpcError, match="read-only"):
            change()
    assert option.get_flags() == before
    assert option.timeout is None


def test_a_result_can_be_unpacked() -> None:
    data, reply = MessageSequence(), MessageSequence()
    error, code, sent, got = RequestResult(0, 7, data, reply)
    assert (error, code) == (0, 7)
    assert sent is data
    assert got is reply
