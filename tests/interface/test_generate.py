"""Calls through a contract: arguments, results, errors; between processes, on the loopback, within one process."""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import pytest

import binderkit as bk
from binderkit.errors import (
    InterfaceMismatchError,
    ParamTypeError,
    ParamValueError,
    ParcelReadError,
    RemoteError,
    UnknownMethodError,
)
from binderkit.interface import Interface, method, proxy
from binderkit.ipc.remote import IRemoteObject
from tests.interface.service import Bad, IEcho, IListener, Listener


def test_arguments_by_position_by_name_and_by_default(echo: IEcho) -> None:
    assert echo.echo(5) == 5
    assert echo.words(["a", "b"]) == "a-b-a-b"
    assert echo.words(["a"], 3, sep="+") == "a+a+a"
    assert echo.words(times=1, values=["x"]) == "x"
    with pytest.raises(TypeError, match="positional argument"):
        echo.words(["a"], 1, "+")  # type: ignore[misc]


def test_results_of_several_types(echo: IEcho) -> None:
    given = (-(2**63), 0.5, "text", 7, True)
    assert echo.mixed(*given) == given
    assert echo.name() == "echo", "an inherited method"


def test_an_unusual_but_right_argument(echo: IEcho) -> None:
    class Number(int):
        pass

    assert echo.echo(Number(4)) == 4
    assert echo.mixed(1, 2, "c", 3, False)[1] == 2.0


WRONG: list[tuple[Callable[[Any], object], type[Exception], str]] = [
    (lambda e: e.echo("x"), ParamTypeError, r"IEcho.echo\(value\): expected int64, got str 'x'"),
    (lambda e: e.echo(True), ParamTypeError, r"IEcho.echo\(value\): expected int64, got bool True"),
    (lambda e: e.echo(2**63), ParamValueError, r"IEcho.echo\(value\): expected int64.*, got int 92233"),
    (lambda e: e.words(["a", 5]), ParamTypeError, r"IEcho.words\(values\): at \[1\]: expected str, got int 5"),
    (lambda e: e.words(["a"], times=2**40), ParamValueError, r"IEcho.words\(times\): expected int32"),
    (lambda e: e.words("text"), ParamTypeError, r"IEcho.words\(values\): expected list\[str\], got str 'text'"),
    (lambda e: e.mixed(1, 2.0, "c", 4, 1), ParamTypeError, r"IEcho.mixed\(e\): expected bool, got int 1"),
    (lambda e: e.mixed(1, 2.0, "c", None, True), ParamTypeError, r"IEcho.mixed\(d\): expected int64, got NoneType"),
    (lambda e: e.call(5), ParamTypeError, r"IEcho.call\(listener\): expected .*IListener.*, got int 5"),
]


def test_wrong_arguments_are_named_before_anything_is_sent(echo: IEcho) -> None:
    """One service for all of them."""
    sent: list[int] = []
    transact = echo._transact  # type: ignore[attr-defined]
    echo._transact = lambda *arguments: sent.append(arguments[1]) or transact(*arguments)  # type: ignore[attr-defined]
    for call, kind, words in WRONG:
        with pytest.raises(kind, match=words):
            call(echo)
        assert sent == [], words
    echo.echo(1)
    assert len(sent) == 1, "what is sent is seen"


def test_declared_exceptions_arrive_as_themselves(echo: IEcho) -> None:
    with pytest.raises(Bad) as caught:
        echo.fail("bad")
    assert (caught.value.path, caught.value.line) == ("a.py", 3)
    with pytest.raises(KeyError) as key:
        echo.fail("key")
    assert key.value.args == ("k",)


def test_other_exceptions_are_told_by_name_and_text(echo: IEcho) -> None:
    with pytest.raises(RemoteError, match="ValueError: other") as caught:
        echo.fail("other")
    assert (caught.value.type_name, caught.value.text) == ("ValueError", "other")
    with pytest.raises(RemoteError, match=r"IEcho\.fail returned int; the contract says None"):
        echo.fail("result")


def test_one_way_calls_arrive_in_order(echo: IEcho) -> None:
    for number in range(20):
        assert echo.hint(str(number)) is None
    reply: list[str] = []
    while len(reply) < 20:
        reply = echo.hints()
    assert reply == [str(number) for number in range(20)]


def test_objects_as_arguments_and_results(echo: IEcho, remote: IRemoteObject) -> None:
    assert echo.call(Listener()) == 6, "a callback"
    assert echo.call(None) == -1
    again = echo.me()
    assert again.echo(1) == 1
    if not isinstance(remote, bk.RemoteObject):
        assert again == echo, "the same object is the same proxy"
        assert again.as_object() is remote


def test_a_callback_that_is_a_proxy_comes_home_as_itself(echo: IEcho) -> None:
    listener = Listener()
    assert echo.call(proxy(IListener, listener)) == 6


def test_what_is_not_the_interface(remote: IRemoteObject) -> None:
    with pytest.raises(InterfaceMismatchError, match=r"implements test\.IEcho, .*, the call is for 'test\.IListener'"):
        proxy(IListener, remote).told("x")


def test_a_method_the_service_does_not_have(remote: IRemoteObject) -> None:
    class INewer(Interface, descriptor="test.IMore"):
        @method
        def more(self) -> str: ...
        @method
        def evenMore(self) -> str: ...

    newer = proxy(INewer, remote)
    assert newer.more() == "more"
    with pytest.raises(UnknownMethodError, match=r"INewer.evenMore is not known.*version 1 has no method with code 2"):
        newer.evenMore()


def test_a_malformed_call_never_reaches_the_method(remote: IRemoteObject) -> None:
    """Truncated, mistyped, huge counts: an error that names the parameter."""
    token = IEcho.__contract__.token
    words = IEcho.__contract__.methods["words"].code
    for body, parameter in (
        (b"", "values"),
        (struct.pack("<i", 2**31 - 1), "values"),
        (struct.pack("<i", -1), "values"),
        (struct.pack("<ii", 1, 5), "values"),
        (struct.pack("<i", 0) + b"\1\2", "times"),
    ):
        data = bk.MessageSequence.from_bytes(token + body)
        with pytest.raises((RemoteError, ParcelReadError), match=rf"a malformed call of IEcho.words\({parameter}\)"):
            remote.send_request(words, data, bk.MessageSequence())


def test_parameters_an_older_caller_does_not_send_take_their_defaults(remote: IRemoteObject) -> None:
    class IOlder(Interface, descriptor="test.IEcho"):
        @method
        def first(self) -> None: ...

    contract = IEcho.__contract__
    data = bk.MessageSequence.from_bytes(contract.token)
    contract.methods["words"].parameters[0].codec.write(data, ["a"])
    reply = bk.MessageSequence()
    remote.send_request(contract.methods["words"].code, data, reply)
    assert (reply.read_int(), reply.read_string()) == (0, "a-a")


def test_the_layout_of_a_request_and_its_reply() -> None:
    """Token, parameters; error code, result (reference 5.6), computed by hand."""
    seen: list[bytes] = []

    class Spy(bk.RemoteObject):
        def on_remote_message_request(
            self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
        ) -> bool:
            seen.append(bytes(data))
            reply.write_int(0)
            reply.write_long(77)
            return True

    assert proxy(IEcho, Spy("test.IEcho")).echo(-2) == 77
    text = "test.IEcho".encode("utf-16-le")
    token = struct.pack("<iii", 0x100, 0, 10) + text + bytes(4)
    assert seen == [token + struct.pack("<q", -2)]
