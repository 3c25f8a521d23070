"""What can go wrong with the guest itself; a command that fails in it is no error here but an exit status."""

from __future__ import annotations

SKIPPED = 77
"""Exit status: nothing was tested, because this machine cannot have the guest."""


class GuestError(Exception):
    """The guest could not be built, did not start or did not say how it ended. The text says what to do."""


class GuestUnavailable(GuestError):
    """This machine cannot have the guest: the stage is skipped, and says so. The text says what is missing."""
