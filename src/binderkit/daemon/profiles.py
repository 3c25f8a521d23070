"""The daemon's profiles: read at its start, and again whenever somebody says that they changed.

Owns: the profile directory as the daemon sees it, and SAMgr's transaction 113 (ours), which ``binderkit profiles
reload`` uses: unlike a signal, it says what changed or what is wrong, and comes back when SAMgr goes by it.

Rules upheld: at the start a profile with a mistake is left out and the others count, because a device must come up; a
directory that is read again is taken over as a whole or, if anything in it is wrong, not at all.

Locks: ``_reading`` orders two readings, so that the older never comes last; it is held while files are read and SAMgr
is told, and SAMgr's own lock is taken under it.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from binderkit.errors import IpcError, ProfileError, RefusedError, ServiceError
from binderkit.samgr import codes
from binderkit.samgr.profile_dir import ProfileDirectory

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.parcel import MessageSequence
    from binderkit.samgr.lifecycle_catalog import ProfileChanges
    from binderkit.samgr.operations import Operation
    from binderkit.samgr.policy import Policy
    from binderkit.samgr.profile import Profile
    from binderkit.samgr.service import SystemAbilityManager

_log = logging.getLogger("binderkit.daemon")
MAX_TEXT: Final = 20_000
"""Characters of the mistakes that are told to who asked for the reading; the log has all."""


class DeviceProfiles:
    """The profiles of one device. A part of SAMgr.

    Args:
        policy: says who may have them read again.
        folder: default: the profile directory of the device.
        built_in: a profile that no file describes; one in the folder with its name or an id of it takes its place.
    """

    def __init__(
        self, policy: Policy, folder: ProfileDirectory | None = None, *, built_in: Profile | None = None
    ) -> None:
        self._policy = policy
        self._built_in = built_in
        self._folder = folder or ProfileDirectory()
        self._reading = threading.Lock()
        self._manager: SystemAbilityManager | None = None

    @property
    def operations(self) -> Mapping[int, Operation]:
        """The transaction of this part."""
        return {codes.RELOAD_PROFILES: self._answer}

    def at_start(self) -> list[Profile]:
        """Return the profiles without mistakes; the mistakes of the others are logged."""
        found: dict[str, Profile] = {}
        if self._folder.path.is_dir():
            scan = self._folder.scan()
            for problem in scan.problems:
                _log.error("a profile is left out: %s", problem)
            found = scan.profiles
        return list(self._with_built_in(found).values())

    def _with_built_in(self, found: dict[str, Profile]) -> dict[str, Profile]:
        own = self._built_in
        if own is None:
            return found
        ids = {one.id for one in own.abilities}
        names = {own.process, *(one.name for one in own.abilities)}
        for profile in found.values():
            if profile.process in names or any(one.id in ids or one.name in names for one in profile.abilities):
                _log.info("the profile %s takes the place of the built-in %s", profile.path, own.process)
                return found
        return {**found, own.process: own}

    def serve(self, manager: SystemAbilityManager) -> None:
        """Have ``manager`` follow the directory from now on."""
        self._manager = manager

    def reload(self) -> ProfileChanges:
        """Read the directory again and have SAMgr go by it.

        Returns:
            What changed, and what of it waits for the end of a process.

        Raises:
            ProfileError: with every mistake of every file; nothing is changed (1002).
            ServiceError: there is no SAMgr to tell, or the package that checks profiles is missing (1001).
        """
        manager = self._manager
        if manager is None:
            raise ServiceError("the profiles cannot be read again before SAMgr goes by them")
        with self._reading:
            try:
                changes = manager.reload(self._with_built_in(self._folder.load()))
            except ProfileError as error:
                for problem in error.problems:
                    _log.error("%s; the profiles in force stay as they are", problem)
                raise
        _log.info(
            "profiles read again: added %s, changed %s, removed %s; of these when their processes ended: %s",
            *(", ".join(names) or "none" for names in (changes.added, changes.changed, changes.removed, changes.later)),
        )
        return changes

    def on_hangup(self) -> None:
        """Do the same because of a signal: there is only the log to tell it to."""
        try:
            self.reload()
        except ProfileError:
            return  # logged, each mistake a line
        except (IpcError, OSError) as error:
            _log.error("the profiles cannot be read again: %s", error)

    def _answer(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        if not self._policy.is_trusted(caller):
            raise RefusedError(
                f"uid {caller.uid} may not have the profiles read again; only root and SAMgr's own user may"
            )
        try:
            changes = self.reload()
        except OSError as error:
            raise ServiceError(f"the profiles cannot be read again: {error}") from error
        except ProfileError as error:
            raise ServiceError(str(error.args[0])[:MAX_TEXT], code=codes.PROFILE_MISSING) from error
        reply.write_int(codes.OK)
        for names in (changes.added, changes.changed, changes.removed, changes.later):
            reply.write_string_array(list(names))
