"""From a request to the handler: outcomes, reserved codes, and errors that travel as text."""

from __future__ import annotations

import os
from typing import Any

import pytest

from binderkit.errors import (
    InvalidCodeError,
    IpcError,
    QuotaError,
    RefusedError,
    RemoteError,
    UnknownTransactionError,
)
from binderkit.ipc.context import CallContext, Caller, current
from binderkit.ipc.dispatch import MAX_ERROR_TEXT, failure_of, handle_reserved
from binderkit.ipc.proxy import DUMP_TRANSACTION, INTERFACE_TRANSACTION, PING_TRANSACTION
from binderkit.ipc.remote import RemoteObject
from binderkit.parcel import MessageSequence


class Stub(RemoteObject):
    """Does what it is told."""

    def __init__(self, outcome: Any) -> None:
        super().__init__("test.IStub")
        self.outcome = outcome

    def on_remote_message_request(self, code: int, data: Any, reply: Any, option: Any) -> Any:
        if isinstance(self.outcome, BaseException):
            raise self.outcome
        return self.outcome


def call(stub: RemoteObject, code: int = 1) -> MessageSequence:
    data, reply = MessageSequence(), MessageSequence()
    assert stub.send_request(code, data, reply) == 0
    return reply


def test_true_is_success() -> None:
    call(Stub(True))


@pytest.mark.parametrize("result", [False, None, 0])
def test_anything_false_is_an_error(result: Any) -> None:
    with pytest.raises(RemoteError, match="does not know this code") as caught:
        call(Stub(result))
    assert caught.value.code == 4


def test_an_exception_crosses_as_text() -> None:
    with pytest.raises(RemoteError, match="KeyError") as caught:
        call(Stub(KeyError("what")))
    assert (caught.value.type_name, caught.value.text) == ("KeyError", "'what'")


@pytest.mark.parametrize("kind", [RefusedError, QuotaError, UnknownTransactionError])
def test_errors_with_a_native_code_keep_their_type(kind: type[IpcError]) -> None:
    with pytest.raises(kind, match="because"):
        call(Stub(kind("because")))


def test_a_stub_without_a_handler_is_408() -> None:
    with pytest.raises(RemoteError) as caught:
        call(RemoteObject("test.INothing"))
    assert caught.value.code == 408


class Unprintable(Exception):
    def __str__(self) -> str:
        raise ZeroDivisionError


def test_an_exception_whose_text_cannot_be_made() -> None:
    assert "ZeroDivisionError" in failure_of(None, Unprintable()).text


def test_a_long_text_is_cut() -> None:
    assert len(failure_of(None, ValueError("x" * 100_000)).text) == MAX_ERROR_TEXT


@pytest.mark.parametrize("code", [0, -1, 0x01000000, 2**32])
def test_codes_out_of_range(code: int) -> None:
    with pytest.raises(InvalidCodeError, match="outside 1"):
        call(Stub(True), code)


def test_what_is_no_sequence() -> None:
    with pytest.raises(IpcError, match="data must be a MessageSequence"):
        Stub(True).send_request(1, None, MessageSequence())  # type: ignore[arg-type]


def test_ping_and_interface() -> None:
    call(Stub(False), PING_TRANSACTION)
    assert call(Stub(False), INTERFACE_TRANSACTION).read_string() == "test.IStub"


def test_internal_and_unknown_reserved_codes() -> None:
    for code, error in ((int.from_bytes(b"_GRI", "big"), RefusedError), (0x5F000000, UnknownTransactionError)):
        with pytest.raises(error):
            handle_reserved(Stub(True), code, MessageSequence(), MessageSequence())


@pytest.mark.parametrize(("uid", "allowed"), [(0, True), (2000, True), (1212, True), (31337, False)])
def test_dump_is_for_a_few(uid: int, allowed: bool) -> None:
    read, write = os.pipe()
    data = MessageSequence()
    data.write_file_descriptor(write)
    data.write_string_array([])
    token = current.set(CallContext(Caller(1, uid, 0), None, None, 0, 1, 1, None, None))
    try:
        if allowed:
            assert handle_reserved(Stub(True), DUMP_TRANSACTION, data, MessageSequence())
        else:
            with pytest.raises(RefusedError, match="DUMP is allowed for"):
                handle_reserved(Stub(True), DUMP_TRANSACTION, data, MessageSequence())
    finally:
        current.reset(token)
        data.reclaim()
        os.close(write)
    assert (b"test.IStub" in os.read(read, 1000)) is allowed
    os.close(read)
