"""A typed service the tests of the command line call."""

from __future__ import annotations

from binderkit import samgr
from tests.interface.many_types import Many


def registered(name: str) -> Many:
    """Register a service with every type and return it: what a child process of a test runs."""
    many = Many()
    samgr.add_system_ability(name, many.as_object())
    return many
