"""SystemAbilityListener: what a program subclasses to hear of abilities that come and go.

Locks: each listener has two. ``_telling`` is held while its methods run: they are called from two sides, SAMgr's
one-way calls and, after a restart of SAMgr, this process itself, and the lock keeps them one at a time; it is reentrant
and nobody else's. ``_lock`` guards what the listener was told, for a few statements, so that noting SAMgr's death never
waits for a listener that takes its time.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from binderkit.errors import UnknownTransactionError
from binderkit.ipc.context import calling_identity
from binderkit.ipc.remote import RemoteObject
from binderkit.samgr import codes
from binderkit.samgr.known import KnownAbilities
from binderkit.samgr.requests import check_token

if TYPE_CHECKING:
    from binderkit.ipc.option import MessageOption
    from binderkit.ipc.remote import HandlerResult
    from binderkit.parcel import MessageSequence


class SystemAbilityListener(RemoteObject):
    """Hears of the system abilities it is subscribed to (reference 2.2, 6 and 18).

    Override one or both methods. They run on a worker thread, one at a time per listener, in the order in which
    the things happened. When SAMgr was restarted, an ability that is there again is told as Removed, then Added, and
    one that is not as Removed.
    """

    def __init__(self) -> None:
        super().__init__(codes.LISTENER_DESCRIPTOR)
        self._known = KnownAbilities()
        self._lock = threading.Lock()
        self._telling = threading.RLock()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        """An ability was registered, or was there when the listener was subscribed.

        Args:
            ability_id: its id, also when the subscription was for its name.
            device_id: UDID of its device, "" for this one.
        """

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        """An ability was removed, replaced, or its process ended; arguments as on_add_system_ability."""

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> HandlerResult:
        """Call the method that ``code`` stands for.

        Raises:
            RefusedError: another interface token (303).
            UnknownTransactionError: another code (305).
        """
        check_token(data, codes.LISTENER_DESCRIPTOR)
        ability_id, device_id = data.read_int(), data.read_string()
        if code == codes.ON_ADD_SYSTEM_ABILITY:
            self._tell_added(ability_id, device_id)
        elif code == codes.ON_REMOVE_SYSTEM_ABILITY:
            self._tell_removed(ability_id, device_id)
        else:
            raise UnknownTransactionError(f"a system ability listener does not know transaction {code}")
        return True

    def _tell_added(self, ability_id: int, device_id: str) -> None:
        with self._telling:
            with self._lock:
                replaced = self._known.added(ability_id, calling_identity().pid)
            if replaced:
                self.on_remove_system_ability(ability_id, device_id)
            self.on_add_system_ability(ability_id, device_id)

    def tell_of_device(self, ability_id: int, device_id: str, *, there: bool) -> None:
        """Tell of an ability of another device (called by remote_watch.py)."""
        with self._telling:
            told = self.on_add_system_ability if there else self.on_remove_system_ability
            told(ability_id, device_id)

    def _tell_removed(self, ability_id: int, device_id: str) -> None:
        with self._telling:
            with self._lock:
                self._known.removed(ability_id)
            self.on_remove_system_ability(ability_id, device_id)

    def manager_lost(self, manager_pid: int) -> None:
        """Note that SAMgr's process ended (called by reconnect.py)."""
        with self._lock:
            self._known.lost(manager_pid)

    def manager_settled(self) -> None:
        """Tell what did not come back after SAMgr did (called by reconnect.py)."""
        with self._telling:
            with self._lock:
                gone = self._known.settle()
            for ability_id in gone:
                self.on_remove_system_ability(ability_id, "")
