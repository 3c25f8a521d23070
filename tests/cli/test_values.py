"""cli/values.py: words to values and back."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import binderkit as bk
from binderkit.cli.values import hexdump, read_values, write_values
from binderkit.errors import ParamValueError, ParcelReadError


def test_values_come_back_as_they_were_written(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    words = [
        "i32",
        "-5",
        "i64",
        "0x100000000",
        "f32",
        "0.5",
        "f64",
        "1e300",
        "bool",
        "yes",
        "s16",
        "naïve 😀",
        "fd",
        str(path),
    ]
    with bk.MessageSequence() as sequence:
        write_values(sequence, words)
        got = list(read_values(sequence, words[::2]))
    assert got == [
        ("i32", "-5"),
        ("i64", "4294967296"),
        ("f32", "0.5"),
        ("f64", "1e+300"),
        ("bool", "true"),
        ("s16", "'naïve 😀'"),
        ("fd", str(path)),
    ]


@given(st.integers(-(2**31), 2**31 - 1), st.integers(-(2**63), 2**63 - 1), st.floats(allow_nan=False))
def test_every_number_survives(small: int, large: int, real: float) -> None:
    sequence = bk.MessageSequence()
    write_values(sequence, ["i32", str(small), "i64", hex(large), "f64", repr(real)])
    assert [text for _, text in read_values(sequence, ["i32", "i64", "f64"])] == [str(small), str(large), repr(real)]


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["i33", "5"], "'i33' is no type"),
        (["5"], "'5' is no type"),
        (["i32"], "no value after it"),
        (["i32", "five"], "'five' is no i32"),
        (["i32", "4294967296"], "'4294967296' is no i32"),
        (["f64", "x"], "'x' is no f64"),
        (["bool", "maybe"], "write true or false"),
    ],
)
def test_what_cannot_be_written_is_refused_with_words(words: list[str], why: str) -> None:
    with pytest.raises(ParamValueError, match=why):
        write_values(bk.MessageSequence(), words)


def test_a_file_that_is_not_there_is_an_os_error() -> None:
    with pytest.raises(FileNotFoundError):
        write_values(bk.MessageSequence(), ["fd", "/does/not/exist"])


def test_reading_what_is_not_there_is_an_error() -> None:
    with pytest.raises(ParcelReadError):
        list(read_values(bk.MessageSequence(), ["i64"]))
    with pytest.raises(ParamValueError, match="'x' is no type of a reply"):
        list(read_values(bk.MessageSequence(), ["x"]))


def test_an_object_is_shown_by_its_name() -> None:
    sequence = bk.MessageSequence()
    sequence.write_remote_object(bk.RemoteObject("tests.Shown"))
    assert "tests.Shown" in dict(read_values(sequence, ["obj"]))["obj"]


@given(st.binary(max_size=100))
def test_a_hexdump_holds_every_byte(data: bytes) -> None:
    lines = list(hexdump(data))
    assert len(lines) == (len(data) + 15) // 16
    shown = b"".join(bytes.fromhex(line[10:58]) for line in lines)
    assert shown == data
    assert all(line.endswith("|") and os.linesep not in line for line in lines)
