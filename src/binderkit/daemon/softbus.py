"""What the daemon knows of softbus: the profile of its process, and which devices that reports.

Owns: the built-in profile of system abilities 4700 and 1401, and ``DeviceReports``. Why the daemon watches softbus, and
softbus does not tell the daemon: who registered 4700 is known to SAMgr, so nobody else can pretend that devices come
and go.

Rules upheld: softbus runs from the start only on a device that has used it before, else on demand; when its process
ends, all devices count as gone until the next one says otherwise.
"""

from __future__ import annotations

import logging
import os
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from binderkit.ability.codes import SCHEDULER_ID
from binderkit.errors import IpcError, RefusedError
from binderkit.interface import proxy
from binderkit.ipc.context import calling_identity, comes_from
from binderkit.ipc.driver import current_driver
from binderkit.ipc.invocation import PERMISSION
from binderkit.ipc.proxy import RemoteProxy
from binderkit.samgr.client import SystemAbilityManagerClient
from binderkit.samgr.listener import SystemAbilityListener
from binderkit.samgr.profile import AbilityProfile, Profile
from binderkit.samgr.remote import SOFTBUS_ID, SOFTBUS_NAME
from binderkit.softbus.contracts import OFFLINE, ONLINE, DeviceDescription, IDeviceWatcher, ISoftBus
from binderkit.softbus.settings import STATE_VARIABLE, state_directory

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.samgr.events.devices import DeviceEvents

__all__ = ["DeviceReports", "softbus_profile"]

_log = logging.getLogger("binderkit.daemon")
_TRUST_FILE: Final = "trust.json"
_SOFTBUS: Final = "binderkit.dbinder.ability:SoftBus"
_SCHEDULER: Final = "binderkit.dbinder.ability:Scheduler"
SCHEDULER_NAME: Final = "binderkit.scheduler"


def softbus_profile(directory: Path) -> Profile:
    """Return the profile of the softbus process, which no file describes.

    Args:
        directory: the runtime directory.
    """
    state = state_directory(directory)
    used = os.access(state / _TRUST_FILE, os.F_OK)
    softbus = AbilityProfile(SOFTBUS_ID, _SOFTBUS, SOFTBUS_NAME, run_on_create=used, auto_restart=True)
    scheduler = AbilityProfile(
        SCHEDULER_ID, _SCHEDULER, SCHEDULER_NAME, run_on_create=used, auto_restart=True, depend=(SOFTBUS_ID,)
    )
    # The path names no file: it is what the process calls its profile, which SAMgr hands over.
    return Profile(
        SOFTBUS_NAME,
        state / "built-in.toml",
        (softbus, scheduler),
        permissions=(PERMISSION,),
        # The daemon decides: a process it starts cannot know what the default runtime directory was.
        environment={STATE_VARIABLE: str(state)},
    )


class DeviceReports(SystemAbilityListener):
    """Passes on to ``events`` which devices softbus sees."""

    def __init__(self, client: SystemAbilityManagerClient, events: DeviceEvents) -> None:
        super().__init__()
        self._client = client
        self._events = events
        self._lock = threading.Lock()
        self._online: set[str] = set()
        self._watcher: _Watcher | None = None

    def start(self) -> None:
        """Hear of softbus processes from now on."""
        self._client.subscribe_system_ability(SOFTBUS_ID, self)

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        """A softbus process is there."""
        current_driver().submit(self._watch)

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        """It is gone, and with it all that it saw."""
        with self._lock:
            gone, self._online, self._watcher = self._online, set(), None
        for udid in sorted(gone):
            self._events.device_offline(udid)

    def _watch(self) -> None:
        try:
            remote = self._client.check_system_ability(SOFTBUS_ID)
            if not isinstance(remote, RemoteProxy):
                return
            with self._lock:
                watcher = self._watcher = _Watcher(self, remote.owner)
            proxy(ISoftBus, remote).watch(watcher)
        except IpcError as error:
            _log.warning("softbus does not say which devices are there: %s", error)

    def changed(self, watcher: _Watcher, event: str, udid: str) -> None:
        """Take what a softbus process says of a device."""
        with self._lock:
            if watcher is not self._watcher:
                return
            if event == ONLINE:
                self._online.add(udid)
            elif event == OFFLINE:
                self._online.discard(udid)
        if event == ONLINE:
            self._events.device_online(udid)
        elif event == OFFLINE:
            self._events.device_offline(udid)


class _Watcher(IDeviceWatcher):
    """What one softbus process tells."""

    def __init__(self, reports: DeviceReports, softbus: Caller) -> None:
        self._reports = reports
        self._softbus = softbus

    def device_changed(self, event: str, device: DeviceDescription) -> None:
        """A device came or went."""
        caller = calling_identity()
        if not comes_from(caller, self._softbus):
            # It waits for no answer, so that only the log shows it.
            _log.warning("%r, which is not softbus, reported that device %s is %s; refused", caller, device.udid, event)
            raise RefusedError(
                f"only process {self._softbus.pid}, which has system ability {SOFTBUS_ID}, reports devices"
            )
        self._reports.changed(self, event, device.udid)
