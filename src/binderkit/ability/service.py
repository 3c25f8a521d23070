"""AbilityManagerService: system ability 180, through which service abilities are connected, started and stopped.

Owns: the records, the processes of bundles it had started, and the objects in them; the state machine is records.py,
this is its thin outside. It runs in the device's daemon.

Rules upheld: a caller is who the kernel says; a host is a process that was started here, and it speaks for its own
abilities only; nothing waits for an application: whatever goes to one is one-way, and in order.

Locks: ``_lock`` guards the records and what is kept beside them; actions are queued under it, which fixes their order,
and done without it. ``_start_lock`` is held while a process is started, so that its pid is known before it speaks
or ends; it is never taken under ``_lock``, nor the other way round.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import sys
import threading
import time
from collections.abc import Callable, Hashable, Iterator
from typing import TYPE_CHECKING, Any, Final, cast

from binderkit.ability import codes, visibility
from binderkit.ability.alarm import Alarm
from binderkit.ability.contracts import (
    AbilityReport,
    IAbilityConnection,
    IAbilityHost,
    IAbilityManager,
    IAbilityScheduler,
    Refusal,
)
from binderkit.ability.model import (
    Action,
    Client,
    Connected,
    Disconnected,
    Failed,
    Forget,
    KillProcess,
    Load,
    Run,
    StartDone,
    StartProcess,
    Step,
    StopProcess,
    Target,
)
from binderkit.ability.records import Records, title
from binderkit.ability.serial import Serial
from binderkit.ability.want import ElementName, Want
from binderkit.errors import AbilityError, DeadObjectError, IpcError, ServiceError
from binderkit.interface import aio, handler, within
from binderkit.ipc.context import Caller, known_caller
from binderkit.ipc.driver import submit_to_driver
from binderkit.ipc.proxy import DeathRecipient, RemoteProxy
from binderkit.ipc.remote import IRemoteObject
from binderkit.samgr.starter import how_it_ended
from binderkit.samgr.teller import Watcher
from binderkit.samgr.waiters import resolve

if TYPE_CHECKING:
    from binderkit.ability.manifest import AbilityManifest, Bundle, BundleDirectory
    from binderkit.samgr.starter import Starter
    from binderkit.samgr.tokens import TokenRegistry

_log = logging.getLogger("binderkit.ability")
HOST_MODULE: Final = "binderkit.ability.host"
BUNDLE_VARIABLE: Final = "BINDERKIT_BUNDLE"
"""Environment variable that tells a host the file of its bundle's manifest."""
DUMP_WAIT: Final = 5.0
"""Seconds an ability's on_dump may take."""
_MAX_TEXT: Final = 4096
Submit = Callable[[Callable[[], None]], None]
"""Runs a task soon on another thread."""


class AbilityManagerService(IAbilityManager):
    """The ability manager.

    Args:
        starter: starts the processes of bundles; whoever wires it calls ``process_exited`` when one ends.
        bundles: what is installed.
        tokens: whose access token is which.
        unit: seconds of one tick of the time limits (reference 3.3).
        submit: runs a task soon on another thread; default: the driver's workers.
        scheduler: returns the object of the distributed scheduler (system ability 1401), whose process alone may
            connect on behalf of other devices; default: there is none.
    """

    def __init__(
        self,
        starter: Starter,
        bundles: BundleDirectory,
        tokens: TokenRegistry,
        *,
        unit: float = 1.0,
        submit: Submit | None = None,
        scheduler: Callable[[], IRemoteObject | None] | None = None,
    ) -> None:
        self._starter = starter
        self._bundles = bundles
        self._tokens = tokens
        self._submit = submit or submit_to_driver
        self._scheduler = scheduler
        self._lock = threading.Lock()
        self._start_lock = threading.Lock()
        self._records = Records(unit)
        self._serial = Serial()
        self._alarm = Alarm(lambda: self._submit(self._tick))
        self._bundle_of: dict[str, Bundle] = {}  # by process
        self._pids: dict[str, int] = {}
        self._hosts: dict[str, IAbilityHost] = {}
        self._schedulers: dict[int, IAbilityScheduler] = {}
        self._mourned: dict[IAbilityConnection, DeathRecipient] = {}

    def close(self) -> None:
        """Stop watching time limits. Hosts end by themselves when this process does."""
        self._alarm.close()

    # --- for clients -----------------------------------------------------------------------------

    def connect_ability(self, want: Want, callback: IAbilityConnection) -> None:
        """Connect ``callback`` to the ability that ``want`` names; load it if needed.

        Raises:
            Refusal: no such ability (16000001), no service (16000002), not exported (16000004), a permission is missing
                (201), or too many connections (16000050).
        """
        caller = known_caller()
        with _refusals():
            self._connect(self._client(caller), self._target(self._asking(caller), want), want, callback)

    def connect_ability_of_device(self, device_id: str, want: Want, callback: IAbilityConnection) -> None:
        """Connect ``callback`` on behalf of another device (reference 3.5).

        Raises:
            Refusal: another process than the distributed scheduler's calls (201); the application here lacks
                ohos.permission.DISTRIBUTED_DATASYNC (201); else as connect_ability, for a caller that is of no
                application and was granted nothing.
        """
        caller = known_caller()
        with _refusals():
            self._check_scheduler(caller)
            target = self._target(visibility.of_device(device_id), want)
            self._check_may_be_reached(self._find(want)[0])
            self._connect(self._client(caller)._replace(device=device_id), target, want, callback)

    def _connect(self, client: Client, target: Target, want: Want, callback: IAbilityConnection) -> None:
        self._mourn(callback)
        try:
            self._apply(lambda now: self._records.connect(now, client, target, want, callback))
        except AbilityError:
            if not self._is_connected(callback):
                self._unmourn(callback)
            raise

    def disconnect_ability(self, callback: IAbilityConnection) -> None:
        """End a connection.

        Raises:
            Refusal: it does not exist, is another caller's, or is not connected (16000050).
        """
        client = self._client(known_caller())
        with _refusals():
            self._apply(lambda now: self._records.disconnect(now, client, callback))

    @handler
    async def start_ability(self, want: Want) -> None:
        """Start a service ability; return when it was created.

        Raises:
            Refusal: as connect_ability; or its process ended or hung before on_create returned (16000050).
        """
        caller = known_caller()
        started: asyncio.Future[tuple[int, str]] = asyncio.get_running_loop().create_future()

        def start() -> None:
            try:
                target = self._target(self._asking(caller), want)
                self._apply(lambda now: self._records.start(now, target, want, started))
            except AbilityError as error:
                resolve(started, (error.code, str(error.args[0])))
            except Exception as error:  # the caller waits for an answer, whatever went wrong
                _log.exception("starting %s failed", want)
                resolve(started, (codes.INTERNAL, f"{type(error).__name__}: {error}"))

        self._submit(start)  # not here: the event loop must not wait for a process to be made
        code, text = await started
        if code != codes.OK:
            raise Refusal(code, text)

    def stop_ability(self, want: Want) -> None:
        """Take all starts of a service ability back; nothing happens if it does not run.

        Raises:
            Refusal: as connect_ability.
        """
        with _refusals():
            target = self._target(self._asking(known_caller()), want)
            self._apply(lambda now: self._records.stop(now, target.element))

    def list_abilities(self) -> list[AbilityReport]:
        """Return the service abilities that live."""
        with self._lock:
            return [
                AbilityReport(
                    element=known.element,
                    state=known.state.name,
                    process=known.process.name,
                    pid=self._pids.get(known.process.name, 0),
                    connections=len(known.connections),
                    start_id=known.start_id,
                )
                for known in self._records.abilities()
            ]

    @handler
    async def dump_ability(self, want: Want, arguments: list[str]) -> list[str]:
        """Return what the ability's on_dump says.

        Raises:
            Refusal: as connect_ability; or it does not run, or does not answer within 5 s (16000050).
        """
        with _refusals():
            target = self._target(self._asking(known_caller()), want)
            with self._lock:
                known = self._records.find(target.element)
                scheduler = None if known is None else self._schedulers.get(known.id)
            if scheduler is None:
                raise AbilityError(f"{title(target.element)} does not run, so there is nothing to dump")
            try:
                return await aio(within(DUMP_WAIT, scheduler.dump))(arguments)
            except IpcError as error:
                raise AbilityError(f"on_dump of {title(target.element)}: {error}") from error

    # --- for hosts -------------------------------------------------------------------------------

    def attach_host(self, host: IAbilityHost) -> None:
        """Note that a process started here is up.

        Raises:
            Refusal: this process was not started here, or attached already (16000050).
        """
        pid = known_caller().pid
        with self._start_lock:
            name = next((name for name, known in self._pids.items() if known == pid), None)
        if name is None:
            raise Refusal(
                codes.INTERNAL,
                f"process {pid} was not started by the ability manager; it starts the hosts of abilities itself",
            )
        with self._lock:
            if name in self._hosts:
                raise Refusal(codes.INTERNAL, f"process {pid} is attached already")
            self._hosts[name] = host
        self._apply(lambda now: self._records.attached(now, name))

    def ability_loaded(self, ability: int, scheduler: IAbilityScheduler) -> None:
        """Note the object that stands for an ability (Refusal, 16000050: it is in another process)."""
        if self._is_of_caller(ability):
            with self._lock:
                self._schedulers[ability] = scheduler
            self._apply(lambda now: self._records.loaded(now, ability))

    def step_done(self, ability: int, number: int, remote: IRemoteObject | None, error: str) -> None:
        """Note that a step ended (Refusal, 16000050: the ability is in another process)."""
        if self._is_of_caller(ability):
            self._apply(lambda now: self._records.done(now, ability, number, remote, error))

    def terminate_ability(self, ability: int) -> None:
        """End an ability that asks for it (Refusal, 16000050: it is in another process)."""
        if self._is_of_caller(ability):
            self._apply(lambda now: self._records.end_ability(now, ability, "the ability ended itself"))

    def _is_of_caller(self, ability: int) -> bool:
        """Whether the record exists, and then in the calling process."""
        pid = known_caller().pid
        with self._lock:
            name = self._records.process_of(ability)
            owner = None if name is None else self._pids.get(name)
        if name is None:
            return False  # it ended meanwhile
        if owner != pid:
            raise Refusal(codes.INTERNAL, f"ability {ability} is in process {owner}, not in {pid}")
        return True

    # --- for whoever starts processes ------------------------------------------------------------

    def process_exited(self, name: str, pid: int, status: int) -> None:
        """Note that a process ended; those that were not started here are of no interest.

        Args:
            name: as given to the starter. pid: its process id.
            status: exit code, minus the number of the signal that ended it, or above 255 when it is not known.
        """
        self._submit(lambda: self._exited(name, pid, status))

    def _exited(self, name: str, pid: int, status: int) -> None:
        with self._start_lock:
            if self._pids.get(name) != pid:
                return
            with self._lock:
                del self._pids[name]
                self._hosts.pop(name, None)
        text = f"process {name} (pid {pid}) {how_it_ended(status)}; its output is in {self._starter.log_file(name)}"
        self._apply(lambda now: self._records.process_exited(now, name, text))

    # --- who asks for what -----------------------------------------------------------------------

    def _client(self, caller: Caller) -> Client:
        return Client(self._tokens.token_of_caller(caller.pid, caller.uid), caller.uid, caller.pid)

    def _check_scheduler(self, caller: Caller) -> None:
        """Raise AbilityError (201) unless the distributed scheduler's process calls."""
        scheduler = None if self._scheduler is None else self._scheduler()
        if not isinstance(scheduler, RemoteProxy) or scheduler.owner.pid != caller.pid:
            raise AbilityError(
                f"process {caller.pid} may not connect on behalf of another device; only the distributed scheduler "
                f"(system ability {codes.SCHEDULER_ID}) may",
                code=codes.PERMISSION_DENIED,
            )

    def _check_may_be_reached(self, bundle: Bundle) -> None:
        """Raise AbilityError (201) unless an application may be used from other devices."""
        if not self._tokens.would_allow(bundle.name, bundle.request_permissions, codes.DISTRIBUTED_DATASYNC):
            raise AbilityError(
                f"{bundle.name} lacks {codes.DISTRIBUTED_DATASYNC} on its device, so no other device may connect to "
                "it; its manifest must ask for it and that device's permissions.toml must grant it",
                code=codes.PERMISSION_DENIED,
            )

    def _target(self, asking: visibility.Asking, want: Want) -> Target:
        """Return the ability that ``want`` names, if who asks may use it (else AbilityError)."""
        if want.device_id:
            raise AbilityError(
                f"device {want.device_id!r} is not known here; leave device_id empty for this device. Abilities of "
                "other devices can be connected, not started, stopped or dumped",
                code=codes.ABILITY_NOT_FOUND,
            )
        bundle, ability = self._find(want)
        visibility.check(asking, bundle, ability)
        process = bundle.name
        if ability.process and ability.process != bundle.name:
            process = f"{bundle.name}:{ability.process}"
        with self._lock:
            self._bundle_of[process] = bundle
        element = ElementName(bundle_name=bundle.name, ability_name=ability.name, module_name=bundle.module)
        return Target(element, process)

    def _find(self, want: Want) -> tuple[Bundle, AbilityManifest]:
        found = self._bundles.find(want.bundle_name, want.ability_name)
        if found is not None and want.module_name in ("", found[0].module):
            return found
        raise AbilityError(self._why_not_found(want), code=codes.ABILITY_NOT_FOUND)

    def _why_not_found(self, want: Want) -> str:
        bundles, problems = self._bundles.scan()
        bundle = bundles.get(want.bundle_name)
        if bundle is None:
            wrong = f"; bundles with mistakes there: {'; '.join(problems)}" if problems else ""
            return f"no bundle {want.bundle_name!r} is installed in {self._bundles.path}{wrong}"[:_MAX_TEXT]
        if want.module_name not in ("", bundle.module):
            return f"bundle {bundle.name} has module {bundle.module!r}, not {want.module_name!r}"
        names = ", ".join(known.name for known in bundle.abilities)
        return f"bundle {bundle.name} has no ability {want.ability_name!r}; it has {names}"[:_MAX_TEXT]

    def _asking(self, caller: Caller) -> visibility.Asking:
        token = self._tokens.token_of_caller(caller.pid, caller.uid)
        try:
            facts = self._tokens.info(token) if token else None
        except ServiceError:
            facts = None  # the caller ended this moment
        bundle = "" if facts is None else facts.bundle
        return visibility.Asking(
            name=f"process {caller.pid}" + (f" of {bundle}" if bundle else ""),
            bundle=bundle,
            native=facts is not None and not bundle,
            granted=lambda permission: self._tokens.verify(token, permission),
        )

    # --- doing what the records say --------------------------------------------------------------

    def _apply(self, transition: Callable[[float], list[Action]]) -> None:
        """Change the records, then do what follows from it."""
        with self._lock:
            actions = transition(time.monotonic())
            keys = dict.fromkeys(self._schedule(action) for action in actions)
            self._alarm.set(self._records.next_deadline())
        self._serial.drain(keys)

    def _tick(self) -> None:
        self._apply(self._records.tick)

    def _schedule(self, action: Action) -> Hashable:
        """Queue an action (under the lock); return its queue."""
        if isinstance(action, Forget):
            self._schedulers.pop(action.ability, None)
            return None
        key: Hashable
        if isinstance(action, StartDone):
            key = action.starter
            self._serial.put(
                key,
                lambda: resolve(cast("asyncio.Future[tuple[int, str]]", action.starter), (action.code, action.text)),
            )
        elif isinstance(action, (Connected, Failed, Disconnected)):
            key = action.callback
            self._serial.put(key, lambda: self._tell(action))
        else:
            key = action.process
            self._serial.put(key, lambda: self._have_done(action))
        return key

    def _have_done(self, action: StartProcess | StopProcess | KillProcess | Load | Run) -> None:
        name = action.process
        pid = self._pids.get(name)
        if isinstance(action, StartProcess):
            self._start_process(name)
        elif pid is None:
            return  # it ended meanwhile
        elif isinstance(action, StopProcess):
            self._starter.stop(name)
        elif isinstance(action, KillProcess):
            _log.warning("process %s is killed: %s", name, action.why)
            self._starter.kill(name)
        else:
            try:
                self._order(action)
            except IpcError as error:
                self._unreachable(name, pid, f"process {name} (pid {pid}) cannot be reached: {error}")

    def _unreachable(self, name: str, pid: int, why: str) -> None:
        """Kill a process that does not take orders, unless it ended meanwhile: the name may be another one's now."""

        def end(now: float) -> list[Action]:
            return self._records.end_process(now, name, why) if self._pids.get(name) == pid else []

        self._apply(end)

    def _start_process(self, name: str) -> None:
        bundle = self._bundle_of[name]
        try:
            with self._start_lock:
                self._pids[name] = self._starter.start(
                    name,
                    [sys.executable, "-m", HOST_MODULE],
                    environment={BUNDLE_VARIABLE: os.fspath(bundle.path)},
                    permissions=bundle.request_permissions,
                    bundle=bundle.name,
                )
        except (IpcError, OSError) as error:
            text = f"process {name} could not be started: {error}"
            _log.warning("%s", text)
            self._apply(lambda now: self._records.process_exited(now, name, text))

    def _order(self, action: Load | Run) -> None:
        with self._lock:
            host = self._hosts.get(action.process)
            scheduler = self._schedulers.get(action.ability)
        if isinstance(action, Load):
            if host is not None:
                host.load(action.ability, action.element.ability_name)
        elif scheduler is not None:
            _run(scheduler, action)

    # --- telling clients -------------------------------------------------------------------------

    def _tell(self, action: Connected | Failed | Disconnected) -> None:
        callback: Any = action.callback
        try:
            if isinstance(action, Connected):
                callback.connect_done(action.element, action.remote)
            elif isinstance(action, Failed):
                callback.connect_failed(action.element, action.code, action.text)
            else:
                callback.disconnect_done(action.element, action.result, action.text)
        except IpcError as error:
            self._not_told(action, error)
            return
        if not isinstance(action, Connected):
            self._unmourn(callback)

    def _not_told(self, action: Connected | Failed | Disconnected, error: IpcError) -> None:
        """Take a connection out whose client was not reached, or could not be given an object that just died."""
        callback: Any = action.callback
        _log.warning("a client of %s cannot be told: %s", title(action.element), error)
        self._client_died(callback)
        if not isinstance(action, Connected):
            return
        try:
            callback.connect_failed(
                action.element, codes.INTERNAL, f"{title(action.element)} ended before its object arrived: {error}"
            )
        except IpcError:
            _log.info("that client is gone itself")

    def _mourn(self, callback: IAbilityConnection) -> None:
        """Have the connection taken out when the client's process ends."""
        remote = callback.as_object()
        if not isinstance(remote, RemoteProxy):
            return  # of this very process
        recipient = Watcher(lambda _: self._client_died(callback))
        with self._lock:
            if callback in self._mourned:
                return
            self._mourned[callback] = recipient
        try:
            remote.register_death_recipient(recipient)
        except DeadObjectError as error:
            self._unmourn(callback)
            raise AbilityError(f"the client is gone: {error}") from error

    def _unmourn(self, callback: IAbilityConnection) -> None:
        with self._lock:
            recipient = self._mourned.pop(callback, None)
        if recipient is not None:
            callback.as_object().unregister_death_recipient(recipient)

    def _is_connected(self, callback: IAbilityConnection) -> bool:
        with self._lock:
            return self._records.has(callback)

    def _client_died(self, callback: IAbilityConnection) -> None:
        self._apply(lambda now: self._records.client_died(now, callback))
        self._unmourn(callback)


def _run(scheduler: IAbilityScheduler, action: Run) -> None:
    if action.step is Step.CREATE:
        scheduler.create(action.number, action.want)
    elif action.step is Step.CONNECT:
        scheduler.connect(action.number, action.want)
    elif action.step is Step.DISCONNECT:
        scheduler.disconnect(action.number, action.want)
    elif action.step is Step.COMMAND:
        scheduler.command(action.number, action.want, action.start_id)
    else:
        scheduler.destroy(action.number, action.want)


@contextlib.contextmanager
def _refusals() -> Iterator[None]:
    """Let an AbilityError travel as what the contract declares."""
    try:
        yield
    except AbilityError as error:
        raise Refusal(error.code, str(error.args[0])) from error
