"""codes.py: the numbers are OpenHarmony's (reference 2.1, 3.1, 3.3)."""

from __future__ import annotations

from binderkit.ability import codes


def test_the_numbers_are_the_documented_ones() -> None:
    assert codes.ABILITY_MANAGER_ID == 180
    assert (codes.PERMISSION_DENIED, codes.ABILITY_NOT_FOUND, codes.WRONG_ABILITY_TYPE) == (201, 16000001, 16000002)
    assert (codes.NOT_VISIBLE, codes.INTERNAL, codes.TARGET_DIED) == (16000004, 16000050, -1)
    assert (codes.LOAD_TICKS, codes.CONNECT_TICKS, codes.DISCONNECT_TICKS, codes.COMMAND_TICKS) == (10, 10, 1, 5)
    assert codes.STALE_CONNECTING == 30
