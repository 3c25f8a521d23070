"""What can come between a call and its end. Internal to the driver: users see ``error``."""

from __future__ import annotations


class Undelivered(Exception):
    """A message that did not leave; nothing of it stays behind."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Answered(Exception):
    """A call that was answered with a failure."""

    def __init__(self, error: Exception) -> None:
        self.error = error


class Incomplete(Exception):
    """A frame whose descriptors have not arrived yet: take it up again when its lane is readable."""
