"""Fixtures of the command line's tests."""

from __future__ import annotations

from tests.samgr.conftest import device as device
from tests.samgr.conftest import running_samgr as running_samgr
