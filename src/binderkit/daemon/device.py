"""The parts of a device put together: SAMgr, what starts and watches processes, tokens, events, the ability manager.

Owns: who gets whom, and the order of their beginning and end. Why one process: they share the supervisor and the token
registry, and a device without services costs one process. Each part is an object that knows nothing of the others.

Order: the built-in abilities are registered and the processes that a former daemon left are taken over, or an early
request could start one a second time; then SAMgr listens (the caller sees to that); then events begin, and processes.
"""

from __future__ import annotations

import logging
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from binderkit.ability import codes as ability_codes
from binderkit.ability.manifest import BundleDirectory
from binderkit.ability.service import AbilityManagerService
from binderkit.daemon.profiles import DeviceProfiles
from binderkit.daemon.softbus import DeviceReports, softbus_profile
from binderkit.errors import ServiceError
from binderkit.samgr.client import SystemAbilityManagerClient
from binderkit.samgr.events.common import CommonEventService
from binderkit.samgr.events.contracts import COMMON_EVENT_ID, PARAMETERS_ID
from binderkit.samgr.events.devices import DeviceEvents
from binderkit.samgr.events.parameters import ParameterService
from binderkit.samgr.events.timed import TimedEvents
from binderkit.samgr.service import SystemAbilityManager
from binderkit.samgr.supervisor import Supervisor
from binderkit.samgr.token_service import TokenService
from binderkit.samgr.tokens import TokenRegistry

if TYPE_CHECKING:
    from binderkit.ipc.remote import IRemoteBroker, IRemoteObject
    from binderkit.samgr.policy import Policy
    from binderkit.samgr.tokens import TokenInfo

_log = logging.getLogger("binderkit.daemon")
PARAMETER_FILE: Final = "parameters.json"
TIMER_FILE: Final = "timers.json"
ORPHAN_WAIT: Final = 8.0
"""Seconds a bundle's process has to end after its ability manager did; it gives itself 5."""


class Device:
    """Everything of one runtime directory.

    Args:
        directory: the runtime directory, of this user, 0700.
        policy: who may do what with system abilities.
        profiles: default: those in the profile directory; it can be read again while the device runs.
        bundles: default: the bundle directory.
        android: the API level of the Android whose programs SAMgr answers, too; None: none.

    Attributes:
        manager: SAMgr; whoever makes the device calls ``prepare``, offers it as the context object, calls ``start``.
        admission: says why a caller may not use SAMgr at all, None if it may.
        profiles: the profile directory. devices: tell it of devices that come and go.
    """

    def __init__(
        self,
        directory: Path,
        policy: Policy,
        *,
        profiles: DeviceProfiles | None = None,
        bundles: BundleDirectory | None = None,
        android: int | None = None,
    ) -> None:
        self.admission = policy.admission
        self.profiles = profiles or DeviceProfiles(policy, built_in=softbus_profile(directory))
        self._tokens = TokenRegistry(directory)
        self._token_service = TokenService(self._tokens)
        self._supervisor = Supervisor(directory, on_exit=self._exited, tokens=self._tokens)
        self.manager = SystemAbilityManager(
            policy,
            profiles=self.profiles.at_start(),
            starter=self._supervisor,
            parts=[self._token_service, self.profiles],
            permitted=self._token_service.permits,
            android=android,
        )
        self.profiles.serve(self.manager)
        self._abilities = AbilityManagerService(
            self._supervisor, bundles or BundleDirectory(), self._tokens, scheduler=self._scheduler
        )
        self._events = CommonEventService()
        self._parameters = ParameterService(directory / PARAMETER_FILE)
        self._timers = TimedEvents(self.manager.event_rules(), directory / TIMER_FILE)
        self.devices = DeviceEvents()
        self._reports = DeviceReports(SystemAbilityManagerClient(self.manager), self.devices)
        self._orphans: list[str] = []
        self._last_resort = threading.Timer(ORPHAN_WAIT, self._kill_orphans)
        self._last_resort.name, self._last_resort.daemon = "binderkit-orphans", True

    def prepare(self) -> None:
        """Register the built-in abilities and take over what a former daemon left: before anybody can ask."""
        self._token_service.install()
        self._offer()
        self._take_over()

    def start(self) -> None:
        """Begin with events and processes; the manager is the context object by now."""
        self.manager.watch_rules(self._timers.update)
        for collector in (self._events, self._parameters, self._timers, self.devices):
            collector.start(self.manager.on_event)
        self._reports.start()
        self.manager.boot()
        if self._orphans:
            self._last_resort.start()

    def close(self, *, leave: bool = False) -> None:
        """End all parts.

        Args:
            leave: let the services' processes go on; the next daemon of this directory takes them over. Else they are
                ended: SIGTERM, then SIGKILL.
        """
        self._last_resort.cancel()
        for collector in (self.devices, self._timers, self._parameters, self._events):
            collector.close()
        self._abilities.close()
        self.manager.close()
        self._supervisor.close(leave=leave)
        self._token_service.close()

    def _offer(self) -> None:
        client = SystemAbilityManagerClient(self.manager)
        offered: tuple[tuple[int, str, IRemoteBroker], ...] = (
            (ability_codes.ABILITY_MANAGER_ID, "binderkit.abilities", self._abilities),
            (COMMON_EVENT_ID, "binderkit.events", self._events),
            (PARAMETERS_ID, "binderkit.parameters", self._parameters),
        )
        for number, name, service in offered:
            client.add_system_ability(number, service, name=name)

    def _scheduler(self) -> IRemoteObject | None:
        return SystemAbilityManagerClient(self.manager).check_system_ability(ability_codes.SCHEDULER_ID)

    def _take_over(self) -> None:
        """Watch the processes of system abilities that a former daemon left; they register again by themselves."""
        for info in self._tokens.living():
            if info.bundle:
                self._let_end(info)
                continue
            try:
                self._supervisor.adopt(info.name, info.pid)
            except ServiceError as error:
                _log.info("process %r of a former daemon is not taken over: %s", info.name, error)
                continue
            self.manager.expect_process(info.name, info.pid)

    def _let_end(self, host: TokenInfo) -> None:
        """Watch a bundle's process of a former daemon: it ends with its ability manager, or is killed if it hangs."""
        # Not by its own name: its bundle may be started anew meanwhile.
        name = f"{host.name}~{host.pid}"
        try:
            self._supervisor.adopt(name, host.pid)
        except ServiceError as error:
            _log.info("process %r of a former daemon is gone: %s", host.name, error)
            return
        self._orphans.append(name)

    def _kill_orphans(self) -> None:
        for name in self._orphans:
            self._supervisor.kill(name)

    def _exited(self, name: str, pid: int, status: int) -> None:
        self.manager.process_exited(name, pid, status)
        self._abilities.process_exited(name, pid, status)
