"""A child process that offers a Service, and lets its parent speak for other devices (as SAMgr would)."""

from __future__ import annotations

import os

from binderkit.ipc import tokens
from binderkit.ipc.invocation import PERMISSION
from tests.dbinder.service import Service

PARENT_TOKEN = 4711


class Granted:
    """The tokens of a SAMgr that gave the parent the permission."""

    def token_of_caller(self, pid: int, uid: int) -> int:
        return PARENT_TOKEN if pid == os.getppid() else 0

    def verify(self, token: int, permission: str) -> bool:
        return token == PARENT_TOKEN and permission == PERMISSION


def trusting() -> Service:
    """Return the object of a process whose parent has the permission."""
    tokens.use_source(Granted())
    return Service()


class NotGranted(Granted):
    """The tokens of a SAMgr that knows the parent, and gave it nothing."""

    def verify(self, token: int, permission: str) -> bool:
        return False


def wary() -> Service:
    """Return the object of a process whose parent has no permission."""
    tokens.use_source(NotGranted())
    return Service()
