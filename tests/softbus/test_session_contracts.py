"""session_contracts.py: the numbers on the wire stay, and only what an application must answer is waited for."""

from __future__ import annotations

import pytest

from binderkit.interface import Interface
from binderkit.softbus.session_contracts import ISessionListener, ISessions


@pytest.mark.parametrize(
    ("interface", "methods"),
    [
        (ISessions, ["socket", "listen", "bind", "send", "shutdown"]),
        (ISessionListener, ["negotiate", "bound", "failed", "received", "sent", "room", "ended"]),
    ],
)
def test_methods_keep_their_numbers(interface: type[Interface], methods: list[str]) -> None:
    found = {method.code: name for name, method in interface.__contract__.methods.items()}
    assert found == dict(enumerate(methods, start=1))


def test_what_must_not_wait_behind_a_listener_is_one_way() -> None:
    one_way = {name for name, method in ISessionListener.__contract__.methods.items() if method.oneway}
    assert one_way == {"failed", "sent", "room"}
