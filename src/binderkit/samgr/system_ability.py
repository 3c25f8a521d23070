"""SystemAbility: what a service subclasses to be started, found, asked whether it is idle, and stopped (reference 2.7).

Owns: the callbacks and the convenience calls. When they are called, and that they are called one at a time, is
hosted.py's business; where the class comes from is the profile's.

    class Photos(SystemAbility):
        def on_start(self, reason: OnDemandReason) -> None:
            self.publish(PhotoService())
"""

from __future__ import annotations

from collections.abc import Awaitable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.reason import OnDemandReason

if TYPE_CHECKING:
    from binderkit.ipc.remote import IRemoteBroker, IRemoteObject
    from binderkit.samgr.ability import AbilityKey


class Services(Protocol):
    """What an ability can ask of the process that hosts it."""

    def publish(self, remote: IRemoteObject | IRemoteBroker) -> int:
        """Register the ability's object."""

    def listen(self, key: AbilityKey, device_id: str = "") -> None:
        """Have the ability told of another one."""

    def cancel_idle(self) -> None:
        """Take back a pending unload."""

    def stop_requested(self) -> None:
        """Ask SAMgr to stop the ability."""


class SystemAbility:
    """Base of system abilities. Override what you need; every ``on_…`` method may be ``async def``.

    The callbacks of one ability run one at a time, on a thread of its own (an ``async def`` on the event loop of
    handlers), so they need no locks among themselves; ``on_extension`` and ``on_dump`` come at any time. Each start
    makes a new object of the class, with no arguments.

    Attributes:
        ability_id: the id of the profile; 0 in ``__init__``.
        reason: why it was started.
    """

    ability_id: int = 0
    reason: OnDemandReason = OnDemandReason()
    _services: Services | None = None

    # --- callbacks --------------------------------------------------------------------------------

    def on_start(self, reason: OnDemandReason) -> Awaitable[None] | None:
        """Start; call ``publish``, here or later. An exception is a failed start: SAMgr and its callers are told.

        All abilities of the profile's ``depend`` are registered.
        """
        return None

    def on_stop(self, reason: OnDemandReason) -> Awaitable[None] | None:
        """Stop: the ability is unregistered when this returns. The process is killed after 5 s (reference 2.5)."""
        return None

    def on_idle(self, reason: OnDemandReason) -> Awaitable[int] | int:
        """Return whether the ability can be stopped: 0 now, n after n milliseconds, a negative number not."""
        return 0

    def on_active(self, reason: OnDemandReason) -> Awaitable[None] | None:
        """Be needed again, after ``on_idle`` had answered 0 and before the stop."""
        return None

    def on_add_system_ability(self, ability_id: int, device_id: str) -> Awaitable[None] | None:
        """Hear that an ability of ``add_system_ability_listener`` is there ("" is this device, else a UDID)."""
        return None

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> Awaitable[None] | None:
        """Hear that an ability of ``add_system_ability_listener`` is gone."""
        return None

    def on_dump(self, descriptor: int, arguments: list[str]) -> Any:
        """Write what the ability wants to tell of itself to ``descriptor`` (``binderkit dump ID``).

        It is called when the published object has no ``on_dump`` of its own. The default writes id, class and reason.
        What it returns is not used (Any, so that a class can be an ability and a RemoteObject at once).
        """
        import os

        kind = type(self).__qualname__
        os.write(descriptor, f"system ability {self.ability_id} ({kind}), started by {self.reason.id.name}\n".encode())

    def on_extension(self, name: str, data: bytes) -> Awaitable[bytes] | bytes:
        """Answer an extension that the profile names, e.g. "backup" (reference 2.6)."""
        raise ServiceError(
            f"{type(self).__qualname__} has no on_extension, so it cannot answer {name!r}", code=codes.INVALID_INPUT
        )

    # --- what an ability can do -------------------------------------------------------------------

    def publish(self, remote: IRemoteObject | IRemoteBroker) -> int:
        """Register the object that others get for this ability; return the id. A second call replaces the object.

        Args:
            remote: a RemoteObject, an object that implements an interface, or this ability itself if it is one.

        Raises:
            ServiceError: nothing was given (1022), or the ability does not run (1001); SAMgr's refusals.
        """
        return self._running("publish").publish(remote)

    def add_system_ability_listener(self, *keys: AbilityKey, device_id: str = "") -> None:
        """Have on_add_system_ability and on_remove_system_ability called for these ids or names until the stop.

        Args:
            device_id: of which device; see samgr.subscribe_system_ability.

        Raises:
            ServiceError: the ability does not run (1001); SAMgr's refusals, and those for other devices.
        """
        services = self._running("add_system_ability_listener")
        for key in keys:
            services.listen(key, device_id)

    def cancel_idle(self) -> None:
        """Take a pending unload back: there is work again (reference 2.2, 22)."""
        self._running("cancel_idle").cancel_idle()

    def stop_ability(self) -> None:
        """Ask SAMgr to stop this ability, as if nobody needed it (reference 2.2, 21); returns at once."""
        self._running("stop_ability").stop_requested()

    def _running(self, what: str) -> Services:
        if self._services is None:
            raise ServiceError(
                f"{type(self).__qualname__}.{what} was called while the ability does not run; "
                "call it between on_start and the end of on_stop",
                code=codes.INVALID_INPUT,
            )
        return self._services


class PublishedObject(SystemAbility):
    """The ability of an entry that is no SystemAbility but simply an object to offer."""

    def __init__(self, remote: IRemoteObject | IRemoteBroker) -> None:
        self._remote = remote

    def on_start(self, reason: OnDemandReason) -> None:
        """Publish the object."""
        self.publish(self._remote)


def bind(ability: SystemAbility, ability_id: int, reason: OnDemandReason, services: Services) -> None:
    """Give an ability what it has while it runs."""
    ability.ability_id = ability_id
    ability.reason = reason
    ability._services = services


def unbind(ability: SystemAbility) -> None:
    """Take it away: the ability does not run any more."""
    ability._services = None


def overridden(ability: SystemAbility, names: Sequence[str]) -> list[str]:
    """Return which of the callbacks ``names`` the ability's class defines itself."""
    return [name for name in names if getattr(type(ability), name) is not getattr(SystemAbility, name)]
