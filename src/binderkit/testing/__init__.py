"""What the tests of people who use binderkit need: a loopback pair, faults, fuzzing, fakes. See docs/testing.md.

Names that need typed interfaces are loaded when first used, so that others do not pay for them.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from binderkit.testing.faults import Fault, Faults, faults
from binderkit.testing.fuzz import FuzzReport, fuzz_service
from binderkit.testing.pair import Pair, loopback
from binderkit.testing.taps import Delivery

if TYPE_CHECKING:
    from binderkit.testing.fakes import Call, FakeError, calls, fake
    from binderkit.testing.methods import to

__all__ = [
    "Call",
    "Delivery",
    "FakeError",
    "Fault",
    "Faults",
    "FuzzReport",
    "Pair",
    "calls",
    "fake",
    "faults",
    "fuzz_service",
    "loopback",
    "to",
]

_TYPED = {
    "Call": "binderkit.testing.fakes",
    "FakeError": "binderkit.testing.fakes",
    "calls": "binderkit.testing.fakes",
    "fake": "binderkit.testing.fakes",
    "to": "binderkit.testing.methods",
}


def __getattr__(name: str) -> Any:
    """Load a name that needs typed interfaces."""
    if name not in _TYPED:
        raise AttributeError(f"module 'binderkit.testing' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_TYPED[name]), name)
    return value
