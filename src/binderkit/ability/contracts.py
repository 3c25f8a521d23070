"""The contracts between client, ability manager, host of abilities and the schedulers of two devices.

Owns: six interfaces and what travels in them. Whatever the manager calls is one-way: it never waits for an
application. Results come back as calls of their own, with the number of the step they belong to.
"""

from __future__ import annotations

from dataclasses import dataclass

from binderkit.ability.want import ElementName, Want
from binderkit.interface import Int32, Interface, method, oneway, raises
from binderkit.ipc.remote import IRemoteObject

__all__ = [
    "AbilityReport",
    "IAbilityConnection",
    "IAbilityHost",
    "IAbilityManager",
    "IAbilityScheduler",
    "IDistributedScheduler",
    "IPeerScheduler",
    "Refusal",
]


@dataclass
class Refusal(Exception):
    """The ability manager does not do it; ``code`` is one of reference 3.1."""

    code: Int32
    text: str


@dataclass(frozen=True)
class AbilityReport:
    """One service ability that lives.

    Attributes:
        state: LOADING, ACTIVE or TERMINATING. pid: of its process, 0 while that is being started.
        connections: how many clients are connected or wait for it. start_id: number of the last start, 0: not started.
    """

    element: ElementName
    state: str
    process: str
    pid: Int32
    connections: Int32
    start_id: Int32


class IAbilityConnection(Interface, descriptor="ohos.aafwk.AbilityConnection"):
    """What a client gives the manager to be told of its connection."""

    @method
    @oneway
    def connect_done(self, element: ElementName, remote: IRemoteObject) -> None:
        """The ability's object is there."""

    @method
    @oneway
    def connect_failed(self, element: ElementName, code: Int32, text: str) -> None:
        """There will be no connection."""

    @method
    @oneway
    def disconnect_done(self, element: ElementName, result: Int32, text: str) -> None:
        """The connection is over: 0 as asked for, -1 because the service ended."""


class IAbilityScheduler(Interface, descriptor="ohos.aafwk.AbilityScheduler"):
    """One ability in its host. Every step is answered by IAbilityManager.step_done."""

    @method
    @oneway
    def create(self, number: int, want: Want) -> None: ...

    @method
    @oneway
    def connect(self, number: int, want: Want) -> None: ...

    @method
    @oneway
    def disconnect(self, number: int, want: Want) -> None: ...

    @method
    @oneway
    def command(self, number: int, want: Want, start_id: Int32) -> None: ...

    @method
    @oneway
    def destroy(self, number: int, want: Want) -> None: ...

    @method
    def dump(self, arguments: list[str]) -> list[str]: ...


class IAbilityHost(Interface, descriptor="ohos.appexecfwk.AppScheduler"):
    """One process of a bundle."""

    @method
    @oneway
    def load(self, ability: int, name: str) -> None:
        """Make the scheduler of one of the bundle's abilities; answered by IAbilityManager.ability_loaded."""


class IAbilityManager(Interface, descriptor="ohos.aafwk.AbilityManager"):
    """System ability 180."""

    @method
    @raises(Refusal)
    def connect_ability(self, want: Want, callback: IAbilityConnection) -> None:
        """Connect; the outcome is told to ``callback``. Refused when it is clear already that it cannot be."""

    @method
    @raises(Refusal)
    def disconnect_ability(self, callback: IAbilityConnection) -> None:
        """End the connection of ``callback``, which is told when it is over."""

    @method
    @raises(Refusal)
    def start_ability(self, want: Want) -> None:
        """Start a service ability; returns when it was created."""

    @method
    @raises(Refusal)
    def stop_ability(self, want: Want) -> None:
        """Take all starts of a service ability back."""

    @method
    def list_abilities(self) -> list[AbilityReport]:
        """Return the service abilities that live."""

    @method
    @raises(Refusal)
    def dump_ability(self, want: Want, arguments: list[str]) -> list[str]:
        """Return what the ability's on_dump says."""

    # For hosts only:

    @method
    @raises(Refusal)
    def attach_host(self, host: IAbilityHost) -> None:
        """A process that the manager started is there."""

    @method
    @raises(Refusal)
    def ability_loaded(self, ability: int, scheduler: IAbilityScheduler) -> None:
        """The scheduler of an ability is there."""

    @method
    @raises(Refusal)
    def step_done(self, ability: int, number: int, remote: IRemoteObject | None, error: str) -> None:
        """A step ended; ``error``: what it raised, "" for nothing."""

    @method
    @raises(Refusal)
    def terminate_ability(self, ability: int) -> None:
        """An ability wants to end."""

    # For the distributed scheduler only:

    @method
    @raises(Refusal)
    def connect_ability_of_device(self, device_id: str, want: Want, callback: IAbilityConnection) -> None:
        """Connect on behalf of another device, which proved that it is ``device_id``; else as connect_ability."""


class IDistributedScheduler(Interface, descriptor="OHOS.DistributedSchedule.IDms"):
    """System ability 1401, for the processes of its device: connections to abilities of others (reference 3.5)."""

    @method
    def is_local_device(self, device_id: str) -> bool:
        """Return whether ``device_id``, a network id or UDID, is this device."""

    @method
    @raises(Refusal)
    def connect_remote_ability(self, want: Want, callback: IAbilityConnection) -> None:
        """Connect; the outcome is told to ``callback``. Refused when it is clear already that it cannot be."""

    @method
    @raises(Refusal)
    def disconnect_remote_ability(self, callback: IAbilityConnection) -> None:
        """End the connection of ``callback``, which is told when it is over."""


class IPeerScheduler(Interface, descriptor="OHOS.DistributedSchedule.IDmsPeer"):
    """What the scheduler of one device asks of that of another one.

    One-way, because such messages arrive in order and as long as the device does not leave: no answer can be lost
    whose question was executed. The answers are calls of ``callback``.
    """

    @method
    @oneway
    def connect_from_remote(self, want: Want, callback: IAbilityConnection) -> None:
        """Connect on behalf of the calling device; the outcome, a refusal, too, is told to ``callback``."""

    @method
    @oneway
    def disconnect_from_remote(self, callback: IAbilityConnection) -> None:
        """End the connection of ``callback``, which is told when it is over."""
