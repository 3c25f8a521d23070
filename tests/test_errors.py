"""errors.py: the tree in its head, and the one error that shows a place in a file."""

from __future__ import annotations

import re

from binderkit import errors
from binderkit.errors import IpcError, ParamError
from binderkit.interface.idl import IdlError


def test_it_shows_file_line_column_the_line_and_a_caret() -> None:
    error = IdlError("no such type", file="IFoo.idl", line=3, column=5, text="    Foo bar;")

    assert str(error) == "IFoo.idl:3:5: no such type\n        Foo bar;\n        ^"
    assert (error.reason, error.file, error.line, error.column, error.text) == (
        "no such type",
        "IFoo.idl",
        3,
        5,
        "    Foo bar;",
    )


def test_the_caret_stands_below_its_character_behind_tabs_too() -> None:
    shown = str(IdlError("x", file="f", line=1, column=4, text="\t\tab")).splitlines()

    assert shown[1:] == ["    \t\tab", "    \t\t ^"]


def test_without_a_place_only_what_is_known_is_shown() -> None:
    assert str(IdlError("too big", file="IFoo.idl")) == "IFoo.idl: too big"
    assert str(IdlError("IFoo.bar: no")) == "IFoo.bar: no"


def test_it_is_one_of_binderkits_errors_with_its_code() -> None:
    error = IdlError("x")

    assert isinstance(error, (IpcError, ParamError))
    assert error.code == 401
    assert errors.IdlError is IdlError and "IdlError" in errors.__all__


def test_the_tree_of_errors_shows_it_below_its_parent() -> None:
    """Every line of the tree is a class, below the class it derives from, with its code."""
    lines = re.findall(r"^    ([│├└─ ]*)(\w+Error)(?: +(-?\d+))?", errors.__doc__ or "", re.MULTILINE)
    parents: list[type] = [IpcError]
    shown = set()
    for marks, name, code in lines:
        kind = getattr(errors, name)
        depth = len(marks) // 4
        if depth:
            assert issubclass(kind, parents[depth - 1]), name
        assert not code or kind.code == int(code), name
        parents[depth:] = [kind]
        shown.add(name)
    assert shown == set(errors.__all__)


def test_the_limits_between_devices_keep_their_codes() -> None:
    for code in (407, 505, 507, 510, 603):
        error = errors.error_from_status(code, "", "why", "")
        assert isinstance(error, errors.RpcLimitError)
        assert isinstance(error, errors.RefusedError)
        assert (error.code, error.args[0]) == (code, "why")
    assert errors.error_from_status(-32, "", "gone", "").code == -32
