"""binderkit.softbus.pairing_lock: wrong PINs and what they cost."""

from __future__ import annotations

import logging
import stat
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit import limits
from binderkit.errors import PairingLockedError, SoftBusError, WrongPinError
from binderkit.softbus.identity import write_private
from binderkit.softbus.pairing_lock import PairingLock, _numbers
from tests.softbus.stores import Clock


def guess_wrong(lock: PairingLock, times: int = limits.WRONG_PINS) -> None:
    for _ in range(times):
        with pytest.raises(WrongPinError):
            lock.judge(False)


def test_three_wrong_pins_lock_and_the_right_one_is_refused_meanwhile(tmp_path: Path) -> None:
    clock = Clock()
    lock = PairingLock(tmp_path / "lock", clock)
    guess_wrong(lock, 2)
    assert lock.remaining() == 0
    lock.check()
    guess_wrong(lock, 1)
    assert lock.remaining() == limits.PAIRING_LOCK
    for right in (True, False):
        with pytest.raises(PairingLockedError, match="another 60 s"):
            lock.judge(right)
    clock.now += limits.PAIRING_LOCK - 1
    with pytest.raises(PairingLockedError, match="another 1 s"):
        lock.check()
    clock.now += 1
    lock.judge(True)


def test_each_further_lock_is_twice_as_long_up_to_a_limit_until_somebody_knew_the_pin(tmp_path: Path) -> None:
    clock = Clock()
    lock = PairingLock(tmp_path / "lock", clock)
    lengths = []
    for _ in range(8):
        guess_wrong(lock)
        lengths.append(lock.remaining())
        clock.now += lock.remaining()
    assert lengths == [60, 120, 240, 480, 960, 1920, 3600, 3600]
    lock.judge(True)
    guess_wrong(lock)
    assert lock.remaining() == 60


def test_a_right_pin_takes_the_wrong_ones_back(tmp_path: Path) -> None:
    lock = PairingLock(tmp_path / "lock", Clock())
    for _ in range(4):
        guess_wrong(lock, 2)
        lock.judge(True)
    assert lock.remaining() == 0


def test_a_success_elsewhere_takes_wrong_pins_back_but_not_a_lock(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    lock = PairingLock(tmp_path / "lock", clock)
    lock.forgive()
    guess_wrong(lock, 2)
    lock.forgive()
    guess_wrong(lock, 3)
    lock.forgive()
    assert lock.remaining() == limits.PAIRING_LOCK
    clock.now += limits.PAIRING_LOCK
    (tmp_path / "lock.new").mkdir()  # in the way of what is to be written
    with caplog.at_level(logging.ERROR):
        lock.forgive()
    assert "cannot be written" in caplog.text


def test_wrong_pins_and_the_lock_survive_a_restart(tmp_path: Path) -> None:
    clock = Clock()
    for left in (2, 1, 0):
        guess_wrong(PairingLock(tmp_path / "lock", clock), 1)
        assert (PairingLock(tmp_path / "lock", clock).remaining() > 0) == (left == 0)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600


def test_a_clock_that_is_set_back_does_not_lock_for_longer(tmp_path: Path) -> None:
    clock = Clock()
    lock = PairingLock(tmp_path / "lock", clock)
    guess_wrong(lock)
    clock.now -= 10**8
    assert lock.remaining() == limits.PAIRING_LOCK


def test_many_guesses_at_once_are_no_more_than_one_after_the_other(tmp_path: Path) -> None:
    lock = PairingLock(tmp_path / "lock", Clock())
    together = threading.Barrier(12)
    said: list[type[Exception]] = []

    def guess() -> None:
        together.wait()
        try:
            lock.judge(False)
        except (WrongPinError, PairingLockedError) as error:
            said.append(type(error))

    threads = [threading.Thread(target=guess) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert said.count(WrongPinError) == limits.WRONG_PINS
    assert said.count(PairingLockedError) == 12 - limits.WRONG_PINS


def test_a_guess_counts_also_when_it_cannot_be_written_down(tmp_path: Path) -> None:
    lock = PairingLock(tmp_path / "gone" / "lock", Clock())
    for _ in range(limits.WRONG_PINS):
        with pytest.raises(FileNotFoundError):
            lock.judge(False)
    assert lock.remaining() > 0


@given(st.fixed_dictionaries({"wrong": st.integers() | st.none(), "times": st.integers(), "until": st.floats()}))
def test_any_numbers_are_usable_or_refused(row: dict[str, object]) -> None:
    try:
        wrong, times, _ = _numbers(row)
    except ValueError:
        return
    assert 0 <= wrong < limits.WRONG_PINS and times >= 0


@pytest.mark.parametrize("content", [b"", b"{}", b"[" * 100_000, b'{"wrong": true, "times": 0, "until": 0}'])
def test_a_damaged_file_is_an_error(tmp_path: Path, content: bytes) -> None:
    write_private(tmp_path / "lock", content)
    with pytest.raises(SoftBusError, match="remove it"):
        PairingLock(tmp_path / "lock")


def test_an_absurd_count_does_not_overflow(tmp_path: Path) -> None:
    write_private(tmp_path / "lock", b'{"wrong": 0, "times": %d, "until": 9e99}' % 10**30)
    assert PairingLock(tmp_path / "lock", Clock()).remaining() == limits.MAX_PAIRING_LOCK
