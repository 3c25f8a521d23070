"""samgr/units.py: the unit of a process, from what the kernel says."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.samgr.units import unit_in, unit_of

USER = "/user.slice/user-1000.slice/user@1000.service/app.slice"


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("0::/system.slice/binderkit-sa-photos.service\n", "binderkit-sa-photos.service"),
        (f"0::{USER}/binderkit-sa-photos.service\n", "binderkit-sa-photos.service"),
        ("12:cpu:/x.service\n1:name=systemd:/system.slice/a.service\n0::/\n", "a.service"),
        ("12:cpu:/x.service\n", ""),
        ("0::/user.slice/session-2.scope\n", ""),
        (f"0::{USER}/photos.service/below\n", ""),
        ("0::/a.service:b.service\n", "a.service:b.service"),
        ("0::/\n", ""),
        ("", ""),
        ("no colons", ""),
    ],
)
def test_the_unit_is_the_last_part_of_systemds_own_path(text: str, unit: str) -> None:
    assert unit_in(text) == unit


@given(st.text())
def test_any_text_is_taken(text: str) -> None:
    assert unit_in(text) == "" or unit_in(text).endswith(".service")


def test_processes_without_unit_and_without_life_have_none() -> None:
    assert unit_of(2**22 + 1) == ""
    with open(f"/proc/{os.getpid()}/cgroup") as file:
        assert unit_of(os.getpid()) == unit_in(file.read())
