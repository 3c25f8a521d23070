"""One ability in its host: does what the ability manager says, one step at a time, and reports each.

Owns: the ability's object from its making to its end. The code comes from the bundle's manifest, a file of this
device; the manager sends only the ability's name.

Rules upheld: whatever the user's code raises is reported as text, and logged with its traceback; steps of one ability
never overlap, those of different abilities are independent.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from binderkit.ability.connections import unwrapped
from binderkit.ability.contracts import IAbilityManager, IAbilityScheduler, Refusal
from binderkit.ability.extension import ServiceExtensionAbility, ServiceExtensionContext
from binderkit.ability.want import ElementName, Want
from binderkit.errors import IpcError, RefusedError, ServiceError
from binderkit.ipc.context import calling_identity, comes_from
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.remote import IRemoteBroker, IRemoteObject
from binderkit.samgr.entries import load_entry

if TYPE_CHECKING:
    from binderkit.ability.manifest import AbilityManifest, Bundle

_log = logging.getLogger("binderkit.ability")
MAX_TEXT = 4096
"""Characters of an exception's text that are reported."""


class AbilityScheduler(IAbilityScheduler):
    """What the ability manager calls for one ability.

    Args:
        manager: who is told. record: the manager's number of the ability.
        bundle, ability: what the manifest says. on_end: called when the ability was destroyed or could not be created.
    """

    def __init__(
        self,
        manager: IAbilityManager,
        record: int,
        bundle: Bundle,
        ability: AbilityManifest,
        on_end: Callable[[], object],
    ) -> None:
        self._manager = manager
        self._record = record
        self._manifest = ability
        self._directory: Path = bundle.path
        self._on_end = on_end
        self.element = ElementName(bundle.name, ability.name, bundle.module)
        self._context = ServiceExtensionContext(self.element, self._terminate)
        self._turn = threading.Lock()
        self._ability: ServiceExtensionAbility | None = None
        self._remote: IRemoteObject | None = None  # lives while clients may come

    # --- steps -----------------------------------------------------------------------------------

    def create(self, number: int, want: Want) -> None:
        """Import the ability's class, make its object, call on_create."""

        def create() -> None:
            ability = self._made()
            ability.context = self._context
            _result(ability.on_create(want))
            self._ability = ability

        if not self._step(number, "on_create", create):
            self._ended()

    def connect(self, number: int, want: Want) -> None:
        """Call on_connect; report its object."""

        def connect() -> None:
            self._remote = _checked_object(_result(self._living().on_connect(want)))

        self._step(number, "on_connect", connect)

    def disconnect(self, number: int, want: Want) -> None:
        """Call on_disconnect; the object may go."""

        def disconnect() -> None:
            self._remote = None
            _result(self._living().on_disconnect(want))

        self._step(number, "on_disconnect", disconnect)

    def command(self, number: int, want: Want, start_id: int) -> None:
        """Call on_request."""
        self._step(number, "on_request", lambda: _result(self._living().on_request(want, start_id)))

    def destroy(self, number: int, want: Want) -> None:
        """Call on_destroy."""
        self._step(number, "on_destroy", self._destroy)
        self._ended()

    def dump(self, arguments: list[str]) -> list[str]:
        """Return what on_dump says (ServiceError: it is not created, or on_dump returned something else)."""
        self._check_caller()
        lines: object = self._living().on_dump(arguments)
        if not isinstance(lines, list) or not all(isinstance(line, str) for line in lines):
            raise ServiceError(f"on_dump of {self.element} returned {type(lines).__name__}; a list of str was expected")
        return lines

    def close(self, seconds: float) -> None:
        """Destroy the ability because the process ends; a step that is under way has ``seconds`` to return."""
        if not self._turn.acquire(timeout=seconds):
            _log.warning("%s is in a step that does not return; on_destroy is not called", self.element)
            return
        try:
            self._destroy()
        except Exception:
            _log.exception("on_destroy of %s raised", self.element)
        finally:
            self._turn.release()

    # --- inside ----------------------------------------------------------------------------------

    def _step(self, number: int, name: str, work: Callable[[], object]) -> bool:
        """Do one step and report it; return whether it went well."""
        self._check_caller()
        error = ""
        with self._turn:
            try:
                work()
            except (Exception, SystemExit) as raised:  # whatever it is: the manager must be told
                _log.exception("%s of %s raised", name, self.element)
                error = f"{type(raised).__name__}: {raised}"[:MAX_TEXT]
        remote = self._remote if name == "on_connect" and not error else None
        try:
            self._manager.step_done(self._record, number, remote, error)
        except (Refusal, IpcError) as problem:
            # The manager is gone, which ends this process, or thinks that we are not the ability's host.
            _log.warning("%s of %s cannot be reported: %s", name, self.element, problem)
        return not error

    def _made(self) -> ServiceExtensionAbility:
        made = load_entry(self._manifest.entry, self._directory)()
        if not isinstance(made, ServiceExtensionAbility):
            raise ServiceError(
                f"the entry {self._manifest.entry!r} made {type(made).__name__}; a ServiceExtensionAbility was expected"
            )
        return made

    def _living(self) -> ServiceExtensionAbility:
        if self._ability is None:
            raise ServiceError(f"{self.element} does not live: it was not created, or is destroyed")
        return self._ability

    def _destroy(self) -> None:
        ability, self._ability, self._remote = self._ability, None, None
        try:
            if ability is not None:
                _result(ability.on_destroy())
        finally:
            self._context.close()

    def _ended(self) -> None:
        self._context.close()
        self._on_end()

    def _terminate(self) -> None:
        try:
            self._manager.terminate_ability(self._record)
        except Refusal as refusal:
            raise unwrapped(refusal) from None

    def _check_caller(self) -> None:
        check_manager(self._manager)


def check_manager(manager: IAbilityManager) -> None:
    """Raise RefusedError (303) unless the call that is handled comes from the ability manager's process."""
    remote, caller = manager.as_object(), calling_identity()
    if isinstance(remote, RemoteProxy) and not comes_from(caller, remote.owner):
        raise RefusedError(f"only the ability manager (pid {remote.owner.pid}) may call this, not {caller!r}")


def _result(value: Any) -> Any:
    """Return what a method returned; await it on the loop of async handlers if it is ``async def``."""
    if not isinstance(value, Awaitable):
        return value
    from binderkit.ipc import loop  # asyncio: a host of plain abilities does without

    return loop.run(value, None)


def _checked_object(value: object) -> IRemoteObject | None:
    if value is None or isinstance(value, IRemoteObject):
        return value
    if isinstance(value, IRemoteBroker):
        return value.as_object()
    raise ServiceError(
        f"on_connect returned {type(value).__name__}; expected was a RemoteObject, an object with a typed interface, "
        "or None"
    )
