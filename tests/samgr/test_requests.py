"""samgr/requests.py: what is read from a request; the codes of wrong ones are in test_service.py."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binderkit as bk
from binderkit.errors import IpcError, ServiceError
from binderkit.ipc.context import Caller
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo
from binderkit.samgr.requests import answer_no, check_token, read_info, read_object

CALLER = Caller(77, 1001, 1001)


def test_the_identity_of_an_ability_is_the_callers_not_what_the_request_says() -> None:
    data = bk.MessageSequence()
    data.write_int(0)
    data.write_string("tests.x")
    data.write_boolean(True)
    data.write_int(9)
    data.write_string("c")
    data.write_string("p")
    assert read_info(data, CALLER) == AbilityInfo(0, "tests.x", 77, 1001, True, 9, "c", "p")


@given(st.binary(max_size=100))
def test_any_bytes_are_a_request_or_our_error(raw: bytes) -> None:
    for read in (check_token, lambda data: read_info(data, CALLER), lambda data: read_object(data, "it", 1022)):
        try:
            read(bk.MessageSequence.from_bytes(raw))
        except IpcError:
            continue


def test_a_missing_object_is_named_with_the_code_for_it() -> None:
    with pytest.raises(ServiceError, match="the listener is missing") as caught:
        read_object(bk.MessageSequence(), "the listener", codes.LISTENER_NULL)
    assert caught.value.code == codes.LISTENER_NULL


def test_a_refusal_is_a_code_and_a_text_without_the_code() -> None:
    reply = bk.MessageSequence()
    assert answer_no(reply, ServiceError("why", code=1011))
    assert (reply.read_int(), reply.read_string()) == (1011, "why")
