"""Calls by description: JSON-like arguments, results, errors, streams, properties."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy
import pytest

import binderkit as bk
from binderkit.errors import (
    CommunicationError,
    ParamTypeError,
    ParamValueError,
    RemoteError,
    UnknownMethodError,
)
from binderkit.interface import describe
from binderkit.interface.dynamic import Described, Word, call, find
from binderkit.ipc.remote import IRemoteObject
from binderkit.testing import loopback
from tests.interface.many_types import WAIT, IMany, Many
from tests.interface.service import Echo


@pytest.fixture
def many() -> Iterator[IRemoteObject]:
    with loopback() as pair:
        service = Many()
        yield pair.offer(service)
        service.close()


@pytest.fixture
def told(many: IRemoteObject) -> Described:
    return Described.from_json(json.loads(json.dumps(describe(many)[0])))


def test_numbers_and_texts(many: IRemoteObject, told: Described, tmp_path: Path) -> None:
    numbers = {"a": -128, "b": 2**32 - 1, "c": 2**64 - 1, "d": 0.5, "e": 2, "f": True, "g": -(2**63)}
    assert call(many, told, "numbers", numbers) == [-128.0, 2.0**32 - 1, 2.0**64, 0.5, 2.0, 1.0, -(2.0**63)]
    (tmp_path / "x").write_bytes(b"file")
    texts = {"a": "@no file", "b": "hex:00ff", "c": "base64:YWI=", "d": f"@{tmp_path}/x"}
    assert call(many, told, "texts", texts) == ["@no file", "base64:AP8=", "base64:YWJmaWxl"]


def test_times_and_other_texts(many: IRemoteObject, told: Described) -> None:
    given = {
        "a": "2026-01-31T12:00:00+02:00",
        "b": "2026-01-31",
        "c": "12:30:00",
        "d": 1.5,
        "e": "12345678-1234-5678-1234-567812345678",
        "f": "1.10",
        "g": "/tmp/x y",
    }
    assert call(many, told, "times", given) == list(given.values())


def test_enums_flags_and_literals(many: IRemoteObject, told: Described) -> None:
    given = {"a": "BLUE", "b": "HIGH", "c": "READ|WRITE", "d": 5}
    assert call(many, told, "enums", given) == ["BLUE", "HIGH", "READ|WRITE", "5"]
    assert call(many, told, "enums", {**given, "c": "", "d": None}) == ["BLUE", "HIGH", "", "None"]
    assert call(many, told, "enums", {**given, "c": "WRITE", "d": "x"})[2:] == ["WRITE", "'x'"]


def test_containers(many: IRemoteObject, told: Described) -> None:
    given = {"a": [3], "b": {"k": [1, 2]}, "c": {"5": "five"}, "d": [1, "x"], "e": {"RED": 1}}
    assert call(many, told, "containers", given) == list(given.values())
    pairs = call(many, told, "containers", {**given, "c": [[5, "five"]]})
    assert pairs[2] == {"5": "five"}


def test_structs_and_fields_left_out(many: IRemoteObject, told: Described) -> None:
    tree: dict[str, object] = {
        "name": "root",
        "children": [{"name": "leaf", "children": [], "parent": None}],
        "parent": None,
    }
    given = {"a": {"width": 1}, "b": tree, "c": {"x": 1, "y": -2}, "d": {"value": 4}}
    size, back, point, box = call(many, told, "structs", given)
    assert size == {"width": 1, "height": 7, "depth": 8}  # the service's defaults
    assert (back, point, box) == (tree, {"x": 1, "y": -2}, {"value": "4"})
    assert call(many, told, "structs", {**given, "a": {"height": 2, "width": 1}})[0]["depth"] == 8


@pytest.mark.parametrize(
    ("given", "made"),
    [
        (5, "5"),
        (5.5, "5.5"),
        ("x", "'x'"),
        ({"width": 1}, "Size(width=1, height=7, depth=8)"),
        ({"x": 1, "y": 2}, "Point(x=1, y=2)"),
        ([1, 2], "[1, 2]"),
    ],
)
def test_unions_choose_by_what_fits(many: IRemoteObject, told: Described, given: Any, made: str) -> None:
    assert call(many, told, "either", {"a": given}) == made
    back = call(many, told, "same", {"a": given})
    assert back == ({**given, "height": 7, "depth": 8} if given == {"width": 1} else given)


def test_arrays(many: IRemoteObject, told: Described) -> None:
    values = numpy.array([[1, 2]], dtype="<f4")
    shown = {"dtype": "<f4", "shape": [1, 2], "data": "base64:" + base64.b64encode(values.tobytes()).decode()}
    doubled = call(many, told, "array", {"a": shown, "b": [2, 2]})
    assert (doubled["dtype"], doubled["shape"]) == ("<f4", [1, 2])
    assert base64.b64decode(doubled["data"][7:]) == (values * 2).tobytes()
    assert call(many, told, "array", {"a": [[1, 2]], "b": [2, 2]}) == doubled
    with pytest.raises(ParamTypeError, match=r"IMany.array\(a\): expected ndarray\[float32\] as a list, or "):
        call(many, told, "array", {"a": "5", "b": [1]})


def test_files_descriptors_and_memory_are_told_and_closed(many: IRemoteObject, told: Described, tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"file")
    assert call(many, told, "file", {"a": f"@{path}", "b": f"@{path}"}) == f"file {path}"
    assert call(many, told, "number", {}) == "fd of /dev/null"
    assert call(many, told, "memory", {"size": 4096}) == "ashmem of 4096 bytes"
    with pytest.raises(ParamTypeError, match=r'IMany.file\(a\): expected file as "@FILE", got str'):
        call(many, told, "file", {"a": "x", "b": "y"})
    with pytest.raises(FileNotFoundError):
        call(many, told, "file", {"a": "@/does/not/exist", "b": "y"})


def test_remote_objects_are_given_as_objects(many: IRemoteObject, told: Described) -> None:
    assert call(many, told, "other", {"a": None}) == "<remote object>"
    assert call(many, told, "other", {"a": bk.RemoteObject("test.Any"), "b": None}) == "<remote object>"
    with pytest.raises(ParamTypeError, match=r"other\(b\): expected a remote object test.IMany \(there is no text"):
        call(many, told, "other", {"a": None, "b": "x"})


def test_defaults_are_the_services(many: IRemoteObject, told: Described) -> None:
    assert call(many, told, "defaults", {"a": 1}) == [1, 2, 3, 1]
    assert call(many, told, "defaults", {"b": 5, "a": 1}) == [1, 5, 3, 1]
    with pytest.raises(ParamValueError, match=r"the argument 'b' \(int64\) is missing; only the service knows"):
        call(many, told, "defaults", {"a": 1, "c": 5})


def test_declared_and_other_exceptions(many: IRemoteObject, told: Described) -> None:
    with pytest.raises(RemoteError, match=r"IMany.fail raised TooSmall\(least=3, why='tiny'\)") as small:
        call(many, told, "fail", {"how": "small"})
    assert (small.value.code, small.value.type_name) == (20000, "TooSmall")
    with pytest.raises(RemoteError, match=r"IMany.fail raised Odd\('one', 'two'\)") as odd:
        call(many, told, "fail", {"how": "odd"})
    assert odd.value.code == 20001
    with pytest.raises(RemoteError, match="ValueError: undeclared"):
        call(many, told, "fail", {"how": "x"})


def test_streams_and_one_way(many: IRemoteObject, told: Described) -> None:
    items = call(many, told, "items", {"to": 2})
    assert next(items) == {"width": 0, "height": 7, "depth": 8}
    assert [item["width"] for item in items] == [1]
    assert call(many, told, "hint", {"text": "h"}) is None
    assert call(many, told, "hinted", {}) == "h"


def test_properties(many: IRemoteObject, told: Described) -> None:
    assert call(many, told, "title", {}) == "first"
    assert call(many, told, "title", {"value": "second"}) is None
    assert (call(many, told, "title", {}), call(many, told, "level", {})) == ("second", "HIGH")
    with pytest.raises(ParamValueError, match=r"IMany.level can only be read"):
        call(many, told, "level", {"value": "LOW"})


@pytest.mark.parametrize(
    ("name", "arguments", "text"),
    [
        ("numbers", {"a": 1}, r"IMany.numbers\(a, b, c, d, e, f, g\): the argument 'b' \(uint32\) is missing"),
        ("fail", {"who": 1}, r"IMany.fail\(how\) has no parameter 'who'"),
        ("fail", {"how": 5}, r"IMany.fail\(how\): expected str, got int"),
        ("either", {"a": None}, r"IMany.either\(a\): expected int64 \| float \| str \| Size"),
        ("enums", {"a": "GREEN"}, r"is missing"),
        (
            "structs",
            {"a": {"height": 1}, "b": 0, "c": 0, "d": 0},
            r"\(a\): expected Size with the field 'width'",
        ),
        ("structs", {"a": {"width": 1, "depth": 2}, "b": 0, "c": 0, "d": 0}, r"'height' \(only the service knows"),
        ("structs", {"a": {"width": "x"}, "b": 0, "c": 0, "d": 0}, r"structs\(a\): at .width: expected int64, got str"),
        (
            "structs",
            {"a": {"w": 1}, "b": 0, "c": 0, "d": 0},
            r"Size with width, height, depth only, got a field",
        ),
        ("items", {"to": 2**63}, r"IMany.items\(to\): expected int64"),
        ("texts", {"a": "", "b": "YWI=", "c": "hex:", "d": "hex:"}, r'texts\(b\): expected bytes as "base64:…"'),
    ],
)
def test_wrong_arguments_are_named_before_anything_is_sent(
    told: Described, name: str, arguments: dict[str, object], text: str
) -> None:
    class Untouched(bk.RemoteObject):
        def on_remote_message_request(self, *args: object) -> bool:
            raise AssertionError("something was sent")

    with pytest.raises((ParamTypeError, ParamValueError), match=text):
        call(Untouched("test.IMany"), told, name, arguments)


def test_objects_of_other_processes_and_of_this_one(remote: IRemoteObject) -> None:
    interfaces = [Described.from_json(one) for one in describe(remote)]
    for name, arguments, result in (
        ("echo", {"value": 7}, 7),
        ("later", {"n": 1}, 2),
        ("name", {}, "echo"),  # of the parent interface, with its token
        ("IMore.more", {}, "more"),
        ("volume", {}, 3),
    ):
        described, plain = find(interfaces, name)
        assert call(remote, described, plain, arguments, timeout=WAIT) == result
    assert list(call(remote, interfaces[0], "acount", {"to": 3})) == [0, 1, 2]
    items = call(remote, interfaces[0], "count", {"to": 3})
    assert next(items) == 0
    items.close()
    assert [call(remote, interfaces[0], "closed", {}), call(remote, interfaces[0], "closed", {})] == [1, 1]


def test_time_is_limited() -> None:
    with loopback() as pair:
        remote = pair.offer(Echo())
        with pytest.raises(bk.CallTimeoutError):
            call(remote, Described.from_json(describe(remote)[0]), "slow", {"seconds": WAIT}, timeout=0.05)


def test_descriptors_of_a_malformed_reply_are_closed() -> None:
    class Liar(bk.RemoteObject):
        def on_remote_message_request(self, code: int, data: Any, reply: bk.MessageSequence, option: Any) -> bool:
            reply.write_int(0)
            with open("/dev/null", "rb") as null:
                reply.write_file_descriptor(null.fileno())
                reply.write_file_descriptor(null.fileno())
            return True

    told = IMany.__contract__.describe()
    told["methods"] = [{**one, "parameters": []} for one in told["methods"] if one["name"] == "number"]
    told["methods"][0]["result"] = {"tuple": ["fd", "file", "ashmem"]}
    before = sorted(os.listdir("/proc/self/fd"))
    with pytest.raises(CommunicationError, match=r"the reply to IMany.number does not fit"):
        call(Liar("test.IMany"), Described.from_json(told), "number", {})
    assert sorted(os.listdir("/proc/self/fd")) == before


def test_a_parcelable_needs_its_class(many: IRemoteObject, told: Described) -> None:
    with pytest.raises(ParamTypeError, match="Parcel is a Parcelable: only its class knows"):
        call(many, told, "parcel", {"a": 1})


def test_what_is_not_there(many: IRemoteObject, told: Described) -> None:
    with pytest.raises(UnknownMethodError, match=r"IMany has no method or property 'foo'; it has numbers, texts"):
        call(many, told, "foo", {})
    with pytest.raises(UnknownMethodError, match=r"there is no method or property 'foo'; there is IMany.numbers"):
        find([told], "foo")
    assert find([told], "numbers") == (told, "numbers") == find([told], "test.IMany.numbers")
    with pytest.raises(UnknownMethodError):
        find([told], "IOther.numbers")


def test_words_are_json_if_that_fits_else_text(many: IRemoteObject, told: Described) -> None:
    assert call(many, told, "hint", {"text": Word("123")}) is None
    assert call(many, told, "hinted", {}) == "123"
    call(many, told, "hint", {"text": Word('"quoted"')})
    assert call(many, told, "hinted", {}) == "quoted"
    assert call(many, told, "defaults", {"a": Word("-5")}) == [-5, 2, 3, 1]
    assert call(many, told, "either", {"a": Word('{"width": 3}')}).startswith("Size")
    with pytest.raises(ParamTypeError, match=r"defaults\(a\): expected int64, got float 1.5"):
        call(many, told, "defaults", {"a": Word("1.5")})
    with pytest.raises(ParamTypeError, match=r"defaults\(a\): expected int64, got str"):
        call(many, told, "defaults", {"a": Word("x")})


def test_a_method_the_object_does_not_have(told: Described) -> None:
    class Old(bk.RemoteObject):
        def on_remote_message_request(self, *args: object) -> bool:
            raise bk.errors.UnknownTransactionError("no such code")

    with pytest.raises(UnknownMethodError, match=r"IMany.hinted is not known to .*: no such code"):
        call(Old("test.IMany"), told, "hinted", {})


@pytest.mark.parametrize("body", [b"", b"\0\0\0\0", b"\0\0\0\0\7\0\0\0", b"\1\0\0\0", b"\x20\x4e\0\0"])
def test_replies_that_do_not_fit(told: Described, body: bytes) -> None:
    class Liar(bk.RemoteObject):
        def on_remote_message_request(self, code: int, data: Any, reply: bk.MessageSequence, option: Any) -> bool:
            reply._out += body
            return True

    with pytest.raises((CommunicationError, RemoteError), match=r"does not fit its description|ended with error code"):
        call(Liar("test.IMany"), told, "hinted", {})


def test_a_reply_nested_without_end(many: IRemoteObject, told: Described) -> None:
    class Deep(bk.RemoteObject):
        def on_remote_message_request(self, code: int, data: Any, reply: bk.MessageSequence, option: Any) -> bool:
            reply._out += b"\0\0\0\0" + b"\1\0\0\0" * 20_000
            return True

    deep = IMany.__contract__.describe()
    deep["methods"] = [
        {**one, "result": {"struct": "Chain"}, "parameters": []} for one in deep["methods"] if one["name"] == "hinted"
    ]
    field = {"name": "next", "type": {"optional": {"struct": "Chain"}}, "optional": False}
    deep["types"]["Chain"] = {"packed": True, "fields": [field]}
    with pytest.raises(CommunicationError, match=r"IMany.hinted does not fit its description: .*deep"):
        call(Deep("test.IMany"), Described.from_json(deep), "hinted", {})
