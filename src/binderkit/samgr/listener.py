"""SystemAbilityListener: what a program subclasses to hear of abilities that come and go."""

from __future__ import annotations

from typing import TYPE_CHECKING

from binderkit.errors import RefusedError, UnknownTransactionError
from binderkit.ipc.remote import RemoteObject
from binderkit.samgr import codes

if TYPE_CHECKING:
    from binderkit.ipc.option import MessageOption
    from binderkit.ipc.remote import HandlerResult
    from binderkit.parcel import MessageSequence


class SystemAbilityListener(RemoteObject):
    """Hears of the system abilities it is subscribed to (reference 2.2, 6 and 18).

    Override one or both methods. They run on a worker thread, one at a time per listener, in the order in which
    the things happened.
    """

    def __init__(self) -> None:
        super().__init__(codes.LISTENER_DESCRIPTOR)

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        """An ability was registered, or was there when the listener was subscribed.

        Args:
            ability_id: its id, also when the subscription was for its name.
            device_id: "" for this device.
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
        token = data.read_interface_token()
        if token != codes.LISTENER_DESCRIPTOR:
            raise RefusedError(f"interface token {token[:80]!r} is not {codes.LISTENER_DESCRIPTOR!r}")
        ability_id, device_id = data.read_int(), data.read_string()
        if code == codes.ON_ADD_SYSTEM_ABILITY:
            self.on_add_system_ability(ability_id, device_id)
        elif code == codes.ON_REMOVE_SYSTEM_ABILITY:
            self.on_remove_system_ability(ability_id, device_id)
        else:
            raise UnknownTransactionError(f"a system ability listener does not know transaction {code}")
        return True
