from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.interface.idl.writing import Imports, comment, docstring, signature

ROOT = Path(__file__).parents[3]


def assert_formatted(text: str) -> None:
    """Fail unless `ruff format` leaves the text as it is."""
    command = [sys.executable, "-m", "ruff", "format", "--line-length", "120", "--isolated", "-"]
    formatted = subprocess.run(command, input=text, capture_output=True, text=True, check=True, cwd=ROOT)
    assert formatted.stdout == text


def function(name: str, parameters: list[str], results: list[str]) -> list[str]:
    return signature(name, parameters, results, ": ...", "    ")


def test_signatures_are_as_ruff_would_have_them() -> None:
    """Every length from one line to one part per line."""
    lines = ["class IFoo:"]
    number = 0
    for parameters in range(9):
        for results in range(6):
            for width in (1, 9, 22, 47, 90):
                number += 1
                hint = f"dict[str, {'a' * width}]"
                lines += function(
                    f"method_{number}", ["self", *(f"p{i}: {hint}" for i in range(parameters))], [hint] * results
                )
                lines.append("")
    assert_formatted("\n".join(lines[:-1]) + "\n")


def test_one_character_decides_about_the_line() -> None:
    lines = ["class IFoo:"]
    for extra in range(80, 100):
        lines += [*function("f", ["self", f"p: {'a' * extra}"], []), ""]
        lines += [*function("f", ["self", f"p: {'a' * extra}"], [f"list[{'b' * (extra // 2)}]", "int"]), ""]
        lines += [*function("f", ["self"], ["a" * extra, "int"]), ""]
    assert_formatted("\n".join(lines[:-1]) + "\n")


TEXTS = st.text(alphabet=st.sampled_from("ab \"'\\\n\t."), max_size=60) | st.lists(
    st.sampled_from(["word", "a-hyphenated-word", '"quoted"', "\\n", "    indented", "\n", "x" * 130]), max_size=40
).map(" ".join)


@given(TEXTS)
def test_docstrings_keep_their_words(text: str) -> None:
    lines = docstring(text, "    ")

    if not text.strip():
        assert lines == []
        return
    function = ast.parse("def f():\n" + "\n".join(lines)).body[0]
    assert isinstance(function, ast.FunctionDef)
    found = ast.get_docstring(function)
    assert found is not None and found.split() == text.split()


@pytest.mark.parametrize("length", range(100, 125))
def test_docstrings_are_as_ruff_would_have_them(length: int) -> None:
    words = ("word " * 40)[: length - 8].strip() + "."
    lines = ["class IFoo:", *docstring(words, "    "), "", "    def f(self):", *docstring(words * 2, "        ")]
    assert_formatted("\n".join([*docstring(words, ""), "", "", *lines]) + "\n")


@pytest.mark.parametrize(
    "text",
    [
        'ends with a "quote"',
        'ends """',
        '"',
        '"a"\n\n"b"',
        "ends with \\",
        '"starts" so',
        "a\n\n    b\n",
        'x """ y',
        "\ttab",
    ],
)
def test_docstrings_with_what_python_gives_a_meaning(text: str) -> None:
    assert_formatted("\n".join(["class IFoo:", *docstring(text, "    ")]) + "\n")


@given(TEXTS, st.sampled_from(["", "    "]))
def test_comments_keep_their_words_and_stay_comments(text: str, indent: str) -> None:
    lines = comment(text, indent)

    assert all(line.startswith(f"{indent}#") for line in lines)
    assert " ".join(line[len(indent) + 1 :] for line in lines).split() == text.split()


def test_imports_are_sorted_in_groups() -> None:
    imports = Imports()
    for module, name in (
        ("z", "b"),
        ("enum", "IntEnum"),
        ("..up", "X"),
        (".here", "Y"),
        ("z", "Int16"),
        ("z", "Int8"),
        ("z", "CONSTANT"),
        ("a.b", "Real as Name"),
        ("...top", "Z"),
    ):
        imports.use(module, name)

    assert imports.lines(frozenset({"enum"})) == [
        "from enum import IntEnum",
        "",
        "from a.b import Real as Name",
        "from z import CONSTANT, Int8, Int16, b",
        "",
        "from ...top import Z",
        "from ..up import X",
        "from .here import Y",
        "",
    ]
