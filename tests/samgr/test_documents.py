"""samgr/documents.py: what files people write may look like, and how mistakes in them are told."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from binderkit.errors import ProfileError
from binderkit.samgr.documents import Mistakes, read_document, texts
from tests.samgr.profiles import write

SIZE = 1000


def read(path: Path) -> dict[str, Any]:
    return read_document(path, SIZE, Mistakes(path))


def refused(path: Path, why: str) -> None:
    with pytest.raises(ProfileError) as caught:
        read(path)
    (problem,) = caught.value.problems
    assert problem.startswith(f"{path}: ") and why in problem, problem


def test_the_three_formats(tmp_path: Path) -> None:
    assert read(write(tmp_path, "a.toml", "a = [1]")) == {"a": [1]}
    assert read(write(tmp_path, "a.json", '\ufeff{"a": [1]}')) == {"a": [1]}
    json5 = '// words "\n{"a": [1, 2, /* , */ ], "url": "http://x/*y*/,]",\n  // more\n}'
    assert read(write(tmp_path, "a.json5", json5)) == {"a": [1, 2], "url": "http://x/*y*/,]"}


@pytest.mark.parametrize(
    ("name", "content", "why"),
    [
        ("a.yaml", "a: 1", "the suffix '.yaml' is unknown; there are .toml, .json, .json5"),
        ("a.json", "", "no valid JSON: Expecting value: line 1 column 1"),
        ("a.json", '{"a": 1,}', "no valid JSON"),
        ("a.json", '{\n"a": [1,\n}', "line 3 column 1"),
        ("a.json5", "{\n/* , */'a': 1}", "line 2 column 8"),
        ("a.json", '{"a": 1, "a": 2}', "the field 'a' is there twice"),
        ("a.json", '{"a": NaN}', "NaN is no number that JSON has"),
        ("a.json", "[]", "expected a table ({…}) at the top, got list"),
        ("a.json", '{"a":' + "[" * 400 + "]" * 400 + "}" * 300, "it is larger than 1000 bytes"),
        ("a.json", b"\xff{}", "no UTF-8 text: byte 0 is 0xff"),
        ("a.toml", "a = 1\na = 2", "no valid TOML: Cannot overwrite a value"),
        ("a.toml", "a", "no valid TOML"),
    ],
)
def test_what_cannot_be_read(tmp_path: Path, name: str, content: str | bytes, why: str) -> None:
    refused(write(tmp_path, name, content), why)


def test_nesting_that_would_exhaust_the_stack(tmp_path: Path) -> None:
    for name, text in (("a.json", '{"a":' + "[" * 100_000), ("a.toml", "a = " + "[" * 100_000)):
        path = write(tmp_path, name, text)
        with pytest.raises(ProfileError, match="nested too deeply"):
            read_document(path, 10**6, Mistakes(path))


def test_what_is_no_file(tmp_path: Path) -> None:
    refused(tmp_path / "none.json", "it cannot be read: No such file or directory")
    (tmp_path / "folder.json").mkdir()
    refused(tmp_path / "folder.json", "it cannot be read: Is a directory")
    os.mkfifo(tmp_path / "fifo.json")
    refused(tmp_path / "fifo.json", "it is no regular file")


def test_mistakes_are_collected(tmp_path: Path) -> None:
    mistakes = Mistakes(tmp_path)
    mistakes.check()
    mistakes.add("a.b", "one")
    mistakes.add("", "two")
    with pytest.raises(ProfileError) as caught:
        mistakes.check()
    assert caught.value.problems == (f"{tmp_path}: a.b: one", f"{tmp_path}: two")
    assert isinstance(caught.value, ValueError) and caught.value.code == 1002


def test_texts_with_their_places() -> None:
    assert list(texts({"a": ["x", {"b": "y"}], "c": 1})) == [
        ("", "a"),
        ("a[0]", "x"),
        ("a[1]", "b"),
        ("a[1].b", "y"),
        ("", "c"),
    ]
