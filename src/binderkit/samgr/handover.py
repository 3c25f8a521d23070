"""A profile on its way from SAMgr to the process that it describes.

Owns: the environment variable with what a host needs of its profile. Why: SAMgr has read and checked the file already,
and the package that checks profiles takes more time to import than the whole host. And the process runs what SAMgr
knows, even if the file was changed a moment ago.

Rules upheld: only whoever starts the process can say anything here, and that is for this process: the variable is taken
out of the environment, so that nothing it starts inherits it, and counts for the file it was made from only.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from binderkit.errors import ServiceError
from binderkit.samgr.profile import AbilityProfile, BootPhase, Profile

if TYPE_CHECKING:
    from collections.abc import MutableMapping

VARIABLE: Final = "BINDERKIT_PROFILE"
MAX_BYTES: Final = 100_000
"""The kernel allows a variable 128 KiB; the host of a profile that is larger than this reads the file."""
_FIELDS: Final = (
    "id",
    "entry",
    "name",
    "run_on_create",
    "distributed",
    "depend",
    "depend_timeout",
    "dump_level",
    "boot_phase",
    "extensions",
    "permission",
)
"""What a host uses of an ability; events, restarts and recycling are SAMgr's business."""
_LISTS: Final = ("depend", "extensions")


def handed(profile: Profile) -> dict[str, str]:
    """Return the variable for the process of a profile; nothing for one with a command of its own, or a huge one."""
    if profile.command:
        return {}
    abilities = [{field: getattr(ability, field) for field in _FIELDS} for ability in profile.abilities]
    document = {"path": str(profile.path), "process": profile.process, "abilities": abilities}
    text = json.dumps(document, separators=(",", ":"))
    return {VARIABLE: text} if len(text) <= MAX_BYTES else {}


def take(path: Path, environment: MutableMapping[str, str] = os.environ) -> Profile | None:
    """Return the profile of ``path`` as SAMgr handed it over, with what a host needs; None when it did not.

    Args:
        path: the profile's file. environment: the variable is removed there.

    Raises:
        ServiceError: the variable holds something else (1001).
    """
    text = environment.pop(VARIABLE, None)
    if text is None:
        return None
    try:
        document = json.loads(text)
        if document["path"] != str(path):
            return None
        abilities = tuple(_ability(fields) for fields in document["abilities"])
        return Profile(document["process"], path, abilities)
    except (ValueError, TypeError, KeyError) as error:
        raise ServiceError(
            f"{VARIABLE} is not what SAMgr gives to a process of system abilities ({error!r}); unset it"
        ) from error


def _ability(given: Any) -> AbilityProfile:
    fields: dict[str, Any] = dict(given)
    for field in _LISTS:
        fields[field] = tuple(fields[field])
    fields["boot_phase"] = BootPhase(fields["boot_phase"])
    return AbilityProfile(**fields)
