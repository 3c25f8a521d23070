"""serial.py: order per key, never two at once, nobody waits for a slow key but its own work."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.ability.serial import Serial

WAIT = 10.0


@given(st.lists(st.integers(0, 3)))
def test_work_of_a_key_is_done_in_order(keys: list[int]) -> None:
    serial, done = Serial(), list[tuple[int, int]]()
    for number, key in enumerate(keys):
        serial.put(key, lambda key=key, number=number: done.append((key, number)))  # type: ignore[misc]

    serial.drain(range(4))

    for key in range(4):
        assert [number for known, number in done if known == key] == [n for n, known in enumerate(keys) if known == key]
    assert len(serial) == 0


def test_what_is_put_while_a_key_is_busy_is_done_by_who_is_at_it() -> None:
    serial, done = Serial(), list[str]()
    inside, go_on = threading.Event(), threading.Event()

    def slow() -> None:
        inside.set()
        assert go_on.wait(WAIT)
        done.append("slow")

    serial.put("a", slow)
    worker = threading.Thread(target=serial.drain, args=(["a"],))
    worker.start()
    assert inside.wait(WAIT)
    serial.put("a", lambda: done.append("second"))
    serial.put("b", lambda: done.append("other"))
    serial.drain(["a", "b"])
    assert done == ["other"]
    go_on.set()
    worker.join()

    assert done == ["other", "slow", "second"]
    assert len(serial) == 0


def test_work_that_fails_does_not_stop_what_is_behind_it(caplog: pytest.LogCaptureFixture) -> None:
    serial, done = Serial(), list[int]()

    def fail() -> None:
        raise ValueError("broken")

    serial.put("a", fail)
    serial.put("a", lambda: done.append(1))
    serial.drain(["a"])

    assert done == [1]
    assert "ValueError: broken" in caplog.text


def test_work_may_put_more_for_its_own_key() -> None:
    serial, done = Serial(), list[int]()

    def first() -> None:
        serial.put("a", lambda: done.append(2))
        serial.drain(["a"])
        done.append(1)

    serial.put("a", first)
    serial.drain(["a"])

    assert done == [1, 2]
