"""ability/want.py: what can be wanted, and that it travels."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.ability.want import ElementName, Want
from binderkit.errors import ParamTypeError, ParamValueError, RemoteError, TooBigError
from binderkit.interface import Interface, method, proxy

B = "com.example.photos"
VALUES = st.text(max_size=20) | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False)


class ITaker(Interface, descriptor="test.ITaker"):
    @method
    def same(self, want: Want) -> tuple[Want, ElementName]: ...


class Taker(ITaker):
    def same(self, want: Want) -> tuple[Want, ElementName]:
        return want, want.element


@given(st.dictionaries(st.text(min_size=1, max_size=10), VALUES, max_size=10), st.integers(0, 2**31 - 1))
def test_it_travels(parameters: dict[str, Any], flags: int) -> None:
    want = Want(B, "Thumbs", "entry", "device", "action.VIEW", parameters, flags)
    same, element = proxy(ITaker, Taker()).same(want)
    assert same == want and [type(one) for one in same.parameters.values()] == [
        type(one) for one in parameters.values()
    ]
    assert element == ElementName(B, "Thumbs", "entry", "device")


def test_where_it_is_in_words() -> None:
    assert str(Want(B, "Thumbs").element) == f"{B}/Thumbs"
    assert str(ElementName(B, "Thumbs", "entry", "d")) == f"d/{B}/entry/Thumbs"


@pytest.mark.parametrize(
    ("fields", "kind", "why"),
    [
        ({"bundle_name": ""}, ParamValueError, "needs a bundle_name"),
        ({"ability_name": ""}, ParamValueError, "needs a ability_name"),
        ({"bundle_name": 5}, ParamTypeError, "bundle_name is a string, got int"),
        ({"action": "a\nb"}, ParamValueError, "none that cannot be printed"),
        ({"module_name": "m" * 256}, ParamValueError, "at most 255 characters"),
        ({"flags": -1}, ParamValueError, "0 … 2\\^31-1"),
        ({"flags": True}, ParamTypeError, "are a number"),
        ({"parameters": [1]}, ParamTypeError, "are a dict"),
        ({"parameters": {"": 1}}, ParamTypeError, "the name of a Want's parameter"),
        ({"parameters": {5: 1}}, ParamTypeError, "the name of a Want's parameter"),
        (
            {"parameters": {"a": None}},
            ParamTypeError,
            "'a' of a Want is a NoneType; allowed are str",
        ),
        ({"parameters": {"a": b"x"}}, ParamTypeError, "is a bytes"),
        ({"parameters": {"a": 2**63}}, ParamValueError, "64 bits"),
        ({"parameters": {str(one): 1 for one in range(1025)}}, ParamValueError, "at most 1024 parameters"),
        ({"parameters": {"a": "x" * 40_960}}, TooBigError, "shorter than 40960"),
        ({"parameters": {"a": "x" * 30_000, "b": "x" * 30_000}}, TooBigError, "allowed are 102400; connect first"),
    ],
)
def test_what_cannot_be_wanted(fields: dict[str, Any], kind: type[Exception], why: str) -> None:
    with pytest.raises(kind, match=why):
        Want(**{"bundle_name": B, "ability_name": "Thumbs", **fields})


def test_the_largest_that_can_be_sent_can_be_sent() -> None:
    want = Want(B, "Thumbs", parameters={"a": "x" * 40_959, "b": "\U0001f600" * 5_000})
    assert proxy(ITaker, Taker()).same(want)[0] == want


def test_a_received_one_is_checked_too() -> None:
    broken = object.__new__(Want)  # as a peer that does not check would send it
    for name in ("bundle_name", "ability_name", "module_name", "device_id", "action"):
        object.__setattr__(broken, name, "")
    object.__setattr__(broken, "parameters", {})
    object.__setattr__(broken, "flags", 0)
    with pytest.raises(RemoteError, match="needs a bundle_name"):
        proxy(ITaker, Taker()).same(broken)
