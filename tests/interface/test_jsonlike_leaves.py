"""JSON-like values of types without parts."""

from __future__ import annotations

import os
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import ParamTypeError
from binderkit.interface.codec import Mismatch
from binderkit.interface.described import SCALARS, EnumType
from binderkit.interface.jsonlike_leaves import Word, enum_kind, literal_kind, ndarray_kind, scalar_kind
from binderkit.parcel import MessageSequence


def through(kind: Any, given_: Any) -> Any:
    with ExitStack() as stack, MessageSequence() as sequence:
        kind.codec.write(sequence, kind.value(given_, stack))
        return kind.give(kind.codec.read(sequence), stack)


def test_every_scalar_has_a_kind_with_its_codec() -> None:
    for form in SCALARS - {"ndarray", "remote"}:
        assert scalar_kind(form).codec.name() == form
    assert ndarray_kind("").codec.name() == "ndarray"


@given(
    st.tuples(st.datetimes(), st.dates(), st.times(), st.uuids(), st.decimals(allow_nan=False), st.binary(max_size=100))
)
def test_texts_come_back(values: tuple[Any, ...]) -> None:
    forms = ("datetime", "date", "time", "uuid", "decimal")
    for form, value in zip(forms, values, strict=False):
        text = value.isoformat() if hasattr(value, "isoformat") else str(value)
        assert through(scalar_kind(form), text) == text == through(scalar_kind(form), value)
    assert through(scalar_kind("bytes"), "hex:" + values[-1].hex()) == through(scalar_kind("bytes"), values[-1])


@pytest.mark.parametrize(
    ("form", "given_", "back"),
    [
        ("timedelta", 1.5, 1.5),
        ("timedelta", timedelta(seconds=2), 2.0),
        ("decimal", 5, "5"),
        ("bytes", bytearray(b"a"), "base64:YQ=="),
        ("float", 2, 2.0),
        ("None", None, None),
        ("str", Word("null"), "null"),
        ("bytes", Word("hex:00"), "base64:AA=="),
        ("int8", Word(" 5"), 5),
        ("bool", Word("true"), True),
    ],
)
def test_what_is_taken(form: str, given_: Any, back: Any) -> None:
    made = through(scalar_kind(form), given_)
    assert made == back and type(made) is type(back)


@pytest.mark.parametrize(
    ("form", "given_"),
    [
        ("int8", 128),
        ("int64", True),
        ("int64", 1.0),
        ("bool", 1),
        ("float", True),
        ("str", 5),
        ("bytes", "text"),
        ("bytes", "base64:§"),
        ("bytes", "hex:0"),
        ("bytes", 5),
        ("datetime", "yesterday"),
        ("date", 5),
        ("timedelta", "1"),
        ("timedelta", float("nan")),
        ("timedelta", 1e300),
        ("uuid", "x"),
        ("decimal", "x"),
        ("decimal", 1.5),
        ("path", 5),
        ("fd", "x"),
        ("file", None),
        ("ashmem", "x"),
        ("remote", "x"),
        ("None", 0),
        ("char", Word("x")),
    ],
)
def test_what_is_not(form: str, given_: Any) -> None:
    with pytest.raises(Mismatch, match="expected"):
        through(scalar_kind(form), given_)


def test_files_are_closed_again(tmp_path: Path) -> None:
    path = tmp_path / "a\x1b[2Jb"
    path.write_text("x")
    before = len(os.listdir("/proc/self/fd"))
    for form in ("fd", "file"):
        shown = through(scalar_kind(form), f"@{path}")
        assert shown.isprintable() and shown.endswith("a\\x1b[2Jb")
    assert len(os.listdir("/proc/self/fd")) == before


def test_literals_are_never_evaluated() -> None:
    words = ("'a'", '"b"', "-5", "True", "None", "b'x'", "__import__('os')", "'\\x41'", "9" * 100)
    kind = literal_kind(words)
    for value in ("a", "b", -5, True, None, "b'x'", "__import__('os')", "'\\x41'", "9" * 100):
        assert through(kind, value) == value
    bad: list[object] = ["A", 1, False, [], "'a'"]
    for wrong in bad:
        with pytest.raises(Mismatch):
            through(kind, wrong)


def test_enums() -> None:
    many = enum_kind(EnumType("Many", "int64", False, {f"a{n}": n << 40 for n in range(30)}))
    assert through(many, "a29") == "a29"
    with pytest.raises(Mismatch, match=r"Many, one of a0, .*, a19, …, got"):
        through(many, "b")
    alias = enum_kind(EnumType("E", "float", False, {"A": 0.5, "B": 0.5}))
    assert through(alias, "B") == "A"
    flag = enum_kind(EnumType("F", "int32", True, {"A": 1, "AB": 3, "B": 2}))
    assert [through(flag, one) for one in ("", "A | B", "AB", "B")] == ["", "AB", "AB", "B"]
    assert through(enum_kind(EnumType("S", "str", False, {"name": "x", "value": "y"})), "value") == "value"


def test_arrays_of_abstract_and_other_types() -> None:
    assert through(ndarray_kind("floating"), [0.5])["dtype"] == "<f8"
    assert through(ndarray_kind("int16"), [1])["dtype"] == "<i2"
    for given_ in ({"dtype": "O", "shape": [1], "data": "hex:00"}, {"dtype": "<f4"}, [1, [2]], 5, ["x"]):
        with pytest.raises(Mismatch):
            through(ndarray_kind("float32"), given_)


def test_arrays_need_numpy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "numpy", None)
    with pytest.raises(ParamTypeError, match="pip install numpy"):
        ndarray_kind("")
