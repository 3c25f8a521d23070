"""options.py: callbacks and what on_failed gets."""

from __future__ import annotations

from typing import Any

import pytest

from binderkit.ability import AbilityError, ConnectOptions, ElementName, FailureCode
from binderkit.errors import ParamTypeError


def test_a_failure_code_is_the_documented_number_and_tells_what_happened() -> None:
    code = FailureCode(16000001, "bundle a.b has no ability 'S'")

    assert code == 16000001 and isinstance(code, int)
    assert repr(code) == "<FailureCode 16000001: bundle a.b has no ability 'S'>"
    error = code.error()
    assert isinstance(error, AbilityError)
    assert (error.code, str(error)) == (16000001, "bundle a.b has no ability 'S' [code 16000001]")


@pytest.mark.parametrize("name", ["on_connect", "on_disconnect", "on_failed"])
def test_what_cannot_be_called_is_refused_by_name(name: str) -> None:
    callbacks: dict[str, Any] = {"on_connect": print, name: 5}
    with pytest.raises(ParamTypeError, match=f"{name} of ConnectOptions is a function, got int"):
        ConnectOptions(**callbacks)


def test_a_failure_nobody_wants_to_hear_of_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    ConnectOptions(print).on_failed(FailureCode(201, "no permission"))

    assert "<FailureCode 201: no permission>" in caplog.text


def test_the_end_goes_to_on_disconnect() -> None:
    told: list[ElementName] = []
    element = ElementName("a.b", "S")

    ConnectOptions(print, told.append).ended(element, "why")
    ConnectOptions(print).ended(element, "why")

    assert told == [element]
