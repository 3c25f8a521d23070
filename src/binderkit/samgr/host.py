"""AbilityHost: the system abilities of one process, as SAMgr sees and steers them (reference 2.7, safwk).

Owns: the process's abilities and the order in which they start and stop. sa_main.py makes one and gives it a process to
end; hosted.py knows the life of a single ability.

Rules upheld: abilities that run on create start in phases, those of one phase at the same time, and a phase that hangs
does not stop the next one for ever; only SAMgr, known by its kernel pid, and this process itself may start and stop;
at the end all abilities stop in the reverse order of their starts, in less time than SAMgr takes to kill; a process
that was replaced while SAMgr was restarted ends, and leaves its successor's registrations alone.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.errors import NoServiceManagerError, RefusedError, ServiceError
from binderkit.ipc.context import Caller, calling_identity
from binderkit.ipc.driver import current_driver
from binderkit.ipc.tokens import manager_uid
from binderkit.samgr import client, codes, reconnect
from binderkit.samgr.hosted import REFUSES, HostedAbility, HostedState, Manager
from binderkit.samgr.local import ILocalAbilityManager
from binderkit.samgr.reason import OnDemandReason, ReasonId

if TYPE_CHECKING:
    from binderkit.samgr.client import SystemAbilityManagerClient
    from binderkit.samgr.profile import Profile

_log = logging.getLogger("binderkit.samgr")

PHASE_LIMIT: Final = 30.0
"""Seconds after which the next phase starts, whatever the abilities of this one still wait for."""
STOP_LIMIT: Final = limits.STOP_TIME - 1.0
"""Seconds all abilities together have to stop; SAMgr kills the process a second later."""
SINGLE_STOP_LIMIT: Final = STOP_LIMIT / 2
"""Seconds for which the others wait for one ability."""
SAMGR_ALONE: Final = 1
"""Holders of an ability that nobody needs: SAMgr has its object in its table."""
EXIT_HUNG: Final = 70
"""Exit code of a process whose import hangs: nothing else can end a thread (EX_SOFTWARE)."""


def manager_pid() -> int:
    """Return the pid of the SAMgr in use, 0 when there is none."""
    try:
        return current_driver().context_object(start=False).owner.pid
    except NoServiceManagerError:
        return 0


class AbilityHost(ILocalAbilityManager):
    """The local ability manager of this process.

    Args:
        profile: the process and its abilities.
        manager: SAMgr; default: that of the runtime directory.
        manager_pid: tells SAMgr's pid.
        end: called once when the process is to end.
        hung: called with a text when an import hangs; default: the text is logged, SAMgr is told, the process ends.
    """

    def __init__(
        self,
        profile: Profile,
        *,
        manager: Manager = client,
        manager_pid: Callable[[], int] = manager_pid,
        end: Callable[[], None] = lambda: None,
        hung: Callable[[str], None] | None = None,
    ) -> None:
        self.profile = profile
        self._manager = manager
        self._manager_pid = manager_pid
        self._end = end
        self._closing = threading.Event()
        self._started: list[int] = []
        self._abilities = {
            one.id: HostedAbility(one, profile.path.parent, manager, hung or self._give_up) for one in profile.abilities
        }

    def register(self) -> None:
        """Make the process known to SAMgr.

        Raises:
            ServiceError: the name belongs to another process (1005); SAMgr's other refusals.
        """
        self._manager.add_system_process(self.profile.process, self)

    def register_again(self, client: SystemAbilityManagerClient) -> None:
        """Make the process known to a new SAMgr, and start what that expects to run.

        A SAMgr that has another process of this name already, or is starting one, cannot use this one: it ends.
        """
        try:
            client.add_system_process(self.profile.process, self)
        except ServiceError as error:
            if error.code != codes.INVALID_CALLING_PROCESS:
                raise
            _log.warning("this process was replaced and ends: %s", error)
            for hosted in self._abilities.values():
                hosted.disown()
            for kind, key in reconnect.remembered():
                reconnect.forget(kind, key)
            self._end()
            return
        self.start_missing()

    def start_all(self) -> None:
        """Start what runs on create, phase by phase; returns when the last phase is through (or ``close`` began)."""
        for phase in sorted({one.profile.boot_phase for one in self._abilities.values()}):
            begun = [
                self._begin(one, OnDemandReason())
                for one in self._abilities.values()
                if one.profile.boot_phase is phase and one.profile.run_on_create and not self._closing.is_set()
            ]
            _, late = wait(begun, PHASE_LIMIT)
            if late:
                _log.warning("%d abilities of phase %s still start; the next phase begins", len(late), phase.name)

    def start_missing(self) -> None:
        """Start what runs on create and does not run; does not wait. A new SAMgr expects all of it."""
        for one in self._abilities.values():
            if one.profile.run_on_create and not self._closing.is_set():
                self._begin(one, OnDemandReason())

    def close(self) -> bool:
        """Stop all abilities, the last started first; return whether all stopped in STOP_LIMIT. Idempotent."""
        self._closing.set()
        until = time.monotonic() + STOP_LIMIT
        order = [*reversed(self._started), *(known for known in self._abilities if known not in self._started)]
        stopping: list[Future[None]] = []
        for ability in order:
            hosted = self._abilities[ability]
            stopping.append(hosted.stop(OnDemandReason()))
            # One that hangs must not take the time of those that were started before it.
            wait(stopping[-1:], min(SINGLE_STOP_LIMIT, max(0.0, until - time.monotonic())))
            if not stopping[-1].done():
                _log.warning("%s does not stop", hosted.title)
        _, late = wait(stopping, max(0.0, until - time.monotonic()))
        return not late

    def state_of(self, ability_id: int) -> HostedState:
        """Return the state of one of its abilities (ServiceError, 1008, for any other id)."""
        return self._hosted(ability_id).state

    # --- ILocalAbilityManager ---------------------------------------------------------------------------

    def start_ability(self, ability_id: int, reason: OnDemandReason) -> None:
        """Start an ability (SAMgr)."""
        self._check_caller()
        if not self._closing.is_set():
            self._begin(self._hosted(ability_id), reason)

    def stop_ability(self, ability_id: int, reason: OnDemandReason) -> None:
        """Stop an ability (SAMgr)."""
        self._check_caller()
        self._hosted(ability_id).stop(reason)

    def idle_ability(self, ability_id: int, reason: OnDemandReason) -> int:
        """Ask an ability whether it is idle (SAMgr).

        One that is to go because nobody holds it is counted once more: between SAMgr's count and this question lies
        the delay of its profile, and a program may have been given it by another one meanwhile.
        """
        self._check_caller()
        hosted = self._hosted(ability_id)
        if reason.id is ReasonId.UNREFERENCED and hosted.references() > SAMGR_ALONE:
            return REFUSES
        return hosted.idle(reason)

    def active_ability(self, ability_id: int, reason: OnDemandReason) -> bool:
        """Tell an ability that it is needed again (SAMgr)."""
        self._check_caller()
        return self._hosted(ability_id).active(reason)

    def extension(self, ability_id: int, name: str, data: bytes) -> bytes:
        """Run an extension, for whoever got this object from SAMgr: that is what its permission is about."""
        return self._hosted(ability_id).extension(name, data)

    def stop_process(self) -> None:
        """Let the process end (SAMgr)."""
        self._check_caller()
        self._end()

    def references(self, ability_id: int) -> int:
        """Return how many other processes hold an ability (SAMgr)."""
        self._check_caller()
        return self._hosted(ability_id).references()

    def on_dump(self, descriptor: int, arguments: list[str]) -> None:
        """Write the states of the abilities."""
        lines = [f"process {self.profile.process} (pid {os.getpid()})"]
        lines += [f"  {one.title}: {one.state.name}" for one in self._abilities.values()]
        os.write(descriptor, "".join(f"{line}\n" for line in lines).encode())

    # --- inside -----------------------------------------------------------------------------------------

    def _begin(self, hosted: HostedAbility, reason: OnDemandReason) -> Future[bool]:
        ability = hosted.profile.id
        if ability in self._started:
            self._started.remove(ability)
        self._started.append(ability)
        return hosted.start(reason)

    def _hosted(self, ability_id: int) -> HostedAbility:
        hosted = self._abilities.get(ability_id)
        if hosted is None:
            known = ", ".join(map(str, self._abilities))
            raise ServiceError(
                f"process {self.profile.process!r} hosts no system ability {ability_id}; its profile has {known}",
                code=codes.ABILITY_NOT_FOUND,
            )
        return hosted

    def _check_caller(self) -> None:
        caller = calling_identity()
        if not self._is_of_manager(caller):
            raise RefusedError(
                f"process {caller.pid} may not start, stop or count the users of abilities of "
                f"{self.profile.process!r}; ask SAMgr to load or unload them"
            )

    def _is_of_manager(self, caller: Caller) -> bool:
        if caller.pid:
            return caller.pid == os.getpid() or caller.pid == self._manager_pid()
        return caller.uid == manager_uid()  # a one-way call of which the driver tells the user only

    def _give_up(self, text: str) -> None:
        """End the process: an import hangs, and nothing can stop it."""
        _log.error("%s", text)
        try:
            for hosted in self._abilities.values():
                if hosted.state is HostedState.STARTING:
                    self._manager.report_start_failure(hosted.profile.id, text[: limits.MAX_DESCRIBED_WORD])
        finally:
            os._exit(EXIT_HUNG)
