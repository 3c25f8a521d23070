"""Fixtures with a real daemon: the same as SAMgr's."""

from tests.samgr.conftest import device as device
from tests.samgr.conftest import running_samgr as running_samgr
