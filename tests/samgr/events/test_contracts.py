"""samgr/events/contracts.py: what can be said, and that hostile messages are refused where they arrive."""

from __future__ import annotations

from typing import Any

import pytest

from binderkit.errors import ParamValueError, TooBigError
from binderkit.samgr.events.contracts import CommonEvent, EventFilter, check_parameter


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"name": ""}, "1 to 128"),
        ({"name": "n" * 129}, "1 to 128"),
        ({"name": "a\nb"}, "can be printed"),
        ({"name": "n", "parameters": {str(one): "" for one in range(65)}}, "65 parameters, allowed are 64"),
        ({"name": "n", "data": "d" * 16_385}, "carries 16385 characters, allowed are 16384"),
        ({"name": "n", "data": "d" * 16_378, "parameters": {"abc": "defg"}}, "16385"),
    ],
)
def test_events_that_cannot_be(fields: dict[str, Any], why: str) -> None:
    with pytest.raises((ParamValueError, TooBigError), match=why):
        CommonEvent(**fields)


def test_filters() -> None:
    event = CommonEvent("a", publisher_uid=7)
    assert EventFilter(("a", "b")).wants(event) and EventFilter(("a",), 7).wants(event)
    assert not EventFilter(("b",)).wants(event) and not EventFilter(("a",), 8).wants(event)
    for names in ((), ("a",) * 65, ("",)):
        with pytest.raises(ParamValueError):
            EventFilter(names)


def test_parameters() -> None:
    check_parameter("a.b", "v" * 96)
    for name, value, why in (
        ("a b", "", "no parameter's name"),
        ("a" * 129, "", "no parameter's name"),
        ("a", "v" * 97, "96 characters"),
        ("a", "\n", "printable"),
    ):
        with pytest.raises(ParamValueError, match=why):
            check_parameter(name, value)
