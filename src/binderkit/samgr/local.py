"""What SAMgr asks of the processes that host system abilities (reference 2.1, 2.7).

Owns: the contract. host.py implements it, SAMgr calls it. Starting, stopping and the end of the process are one-way:
SAMgr never waits for an ability, it waits for the registration, or for its own deadline.
"""

from __future__ import annotations

from binderkit.interface import Int32, Interface, method, oneway
from binderkit.samgr.reason import OnDemandReason


class ILocalAbilityManager(Interface, descriptor="OHOS.ILocalAbilityManager"):
    """The abilities of one process. Only SAMgr and the process itself steer and count; extensions are for others."""

    @method
    @oneway
    def start_ability(self, ability_id: Int32, reason: OnDemandReason) -> None:
        """Start an ability; it tells of its success by registering, of a failure by report_start_failure."""

    @method
    @oneway
    def stop_ability(self, ability_id: Int32, reason: OnDemandReason) -> None:
        """Stop an ability; it tells of the end by removing itself from SAMgr."""

    @method
    def idle_ability(self, ability_id: Int32, reason: OnDemandReason) -> Int32:
        """Ask an ability whether it can be unloaded: 0 now, n after n ms, negative: no (reference 2.5)."""

    @method
    def active_ability(self, ability_id: Int32, reason: OnDemandReason) -> bool:
        """Tell an ability that it is needed again after all; return whether it runs."""

    @method
    def extension(self, ability_id: Int32, name: str, data: bytes) -> bytes:
        """Run an extension of an ability, e.g. backup or restore, and return its answer (reference 2.7)."""

    @method
    @oneway
    def stop_process(self) -> None:
        """Stop all abilities, then end the process."""

    @method
    def references(self, ability_id: Int32) -> Int32:
        """Return how many other processes hold the object of an ability; SAMgr is one of them (reference 2.5)."""
