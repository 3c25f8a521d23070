"""The records of the interface, and what every engine refuses to send."""

from __future__ import annotations

import pytest

from binderkit import limits
from binderkit.errors import IpcError, ParamValueError
from binderkit.softbus.engine import Busy, Engine, EngineTimeout, Incoming, Kind, NoAnswer, check_request
from binderkit.softbus.memory import MemoryEngine
from binderkit.softbus.zenoh_engine import ZenohEngine


def both_are_engines(memory: MemoryEngine, zenoh: ZenohEngine) -> list[Engine]:
    """Checked by the type checker: both have everything the interface names."""
    return [memory, zenoh]


def test_the_ways_to_end_have_the_codes_of_openharmony() -> None:
    assert [error("").code for error in (NoAnswer, EngineTimeout, Busy)] == [-32, 502, 29201]
    assert issubclass(NoAnswer, IpcError)


def test_the_highest_of_everything_is_allowed() -> None:
    check_request(2**64 - 1, bytes(limits.RPC_HEADER), bytes(limits.RPC_PAYLOAD), limits.RPC_SLICE)
    check_request(0, b"", b"", 0.001)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ((-1, b"", b"", 1.0), "64 bits"),
        ((2**64, b"", b"", 1.0), "64 bits"),
        ((0, bytes(limits.RPC_HEADER + 1), b"", 1.0), "header"),
        ((0, b"", bytes(limits.RPC_PAYLOAD + 1), 1.0), "raw data"),
        ((0, b"", b"", 0.0), "timeout"),
        ((0, b"", b"", limits.RPC_SLICE + 0.1), "timeout"),
        ((0, b"", b"", float("nan")), "timeout"),
    ],
)
def test_what_no_engine_carries(arguments: tuple[int, bytes, bytes, float], text: str) -> None:
    with pytest.raises(ParamValueError, match=text):
        check_request(*arguments)


def test_an_incoming_request_is_answered_through_its_engine() -> None:
    answers: list[object] = []
    incoming = Incoming("a", Kind.CALL, 1, b"", b"", answers.append, lambda: answers.append("busy"))
    incoming.answer(b"yes")
    incoming.busy()
    assert answers == [b"yes", "busy"]
