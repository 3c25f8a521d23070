"""Fixtures with a real daemon: SAMgr's."""

from tests.samgr.conftest import device as device
