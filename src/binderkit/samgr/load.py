"""SystemAbilityLoadCallback: what a program subclasses to be told how a load went; and the message of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from binderkit.errors import UnknownTransactionError
from binderkit.ipc.remote import RemoteObject
from binderkit.samgr import codes
from binderkit.samgr.requests import check_token

if TYPE_CHECKING:
    from binderkit.errors import IpcError
    from binderkit.ipc.option import MessageOption
    from binderkit.ipc.remote import HandlerResult, IRemoteObject
    from binderkit.parcel import MessageSequence
    from binderkit.samgr.ability import AbilityKey


class SystemAbilityLoadCallback(RemoteObject):
    """Is told, once, how the load of a system ability went (reference 2.2, 7).

    Override the methods. They run on a worker thread.
    """

    def __init__(self) -> None:
        super().__init__(codes.LOAD_CALLBACK_DESCRIPTOR)

    def on_load_system_ability_success(self, ability_id: int, remote: IRemoteObject) -> None:
        """The ability is there; ``remote`` is its object."""

    def on_load_system_ability_fail(self, ability_id: int, code: int, text: str) -> None:
        """It does not come.

        Args:
            code: 999 too late, 1008 gone again, 2100 it failed at its start (samgr/codes.py).
            text: what happened, and what to do.
        """

    def on_load_system_ability_complete_for_remote(
        self, device_id: str, ability: AbilityKey, remote: IRemoteObject | None, error: IpcError | None
    ) -> None:
        """The load of an ability of another device is over; the methods above are for those of this device.

        Args:
            device_id, ability: as they were asked for.
            remote: its object; None: it cannot be had, and ``error`` says why (remote.get lists the codes).
        """

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> HandlerResult:
        """Call the method that ``code`` stands for.

        Raises:
            RefusedError: another interface token (303).
            UnknownTransactionError: another code (305).
        """
        check_token(data, codes.LOAD_CALLBACK_DESCRIPTOR)
        ability_id = data.read_int()
        if code == codes.ON_LOAD_SUCCESS:
            self.on_load_system_ability_success(ability_id, data.read_remote_object())
        elif code == codes.ON_LOAD_FAIL:
            self.on_load_system_ability_fail(ability_id, data.read_int(), data.read_string())
        else:
            raise UnknownTransactionError(f"the callback of a load does not know transaction {code}")
        return True


def success(ability: int, remote: IRemoteObject) -> Callable[[MessageSequence], None]:
    """Return what writes ON_LOAD_SUCCESS."""

    def write(data: MessageSequence) -> None:
        data.write_interface_token(codes.LOAD_CALLBACK_DESCRIPTOR)
        data.write_int(ability)
        data.write_remote_object(remote)

    return write


def failure(ability: int, code: int, text: str) -> Callable[[MessageSequence], None]:
    """Return what writes ON_LOAD_FAIL."""

    def write(data: MessageSequence) -> None:
        data.write_interface_token(codes.LOAD_CALLBACK_DESCRIPTOR)
        data.write_int(ability)
        data.write_int(code)
        data.write_string(text)

    return write
