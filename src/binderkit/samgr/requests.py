"""What is read from a request to SAMgr, checked, and how a refusal is written. Pure.

Rule upheld: everything received is hostile until it went through here (ids, names, texts, flags, objects).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from binderkit.errors import InvalidObjectError, IpcError, ParcelReadError, RefusedError, ServiceError
from binderkit.ipc.remote import IRemoteObject
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo, checked_dump_flags, checked_key, checked_name, checked_text

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.parcel import MessageSequence


def check_token(data: MessageSequence, descriptor: str = codes.DESCRIPTOR) -> None:
    """Raise RefusedError (303) unless ``data`` starts with this interface token, default SAMgr's (reference 2.1)."""
    try:
        token = data.read_interface_token()
    except ParcelReadError as error:
        raise RefusedError(
            f"a request to this object starts with the interface token {descriptor!r}: {error.args[0]}"
        ) from None
    if token != descriptor:
        raise RefusedError(f"interface token {token[:80]!r} is not {descriptor!r}")


def read_info(data: MessageSequence, caller: Caller) -> AbilityInfo:
    """Return what an ADD says of the ability; id 0 and a name mean that SAMgr gives the id.

    Raises:
        ParamValueError: a wrong id (1000), or a wrong name, flag or text (1001).
        ParcelReadError: not everything is there (1900010).
    """
    ability, name = data.read_int(), data.read_string()
    if ability or not name:
        checked_key(ability)
    if name:
        checked_name(name)
    return AbilityInfo(
        id=ability,
        name=name,
        pid=caller.pid,
        uid=caller.uid,
        distributed=data.read_boolean(),
        dump_flags=checked_dump_flags(data.read_int()),
        capability=checked_text("the capability", data.read_string()),
        permission=checked_text("the permission", data.read_string()),
    )


def read_object(data: MessageSequence, what: str, code: int) -> IRemoteObject:
    """Return the remote object at the read position.

    Raises:
        ServiceError: there is none; ``what`` names it in the text, ``code`` is the error's code.
    """
    try:
        remote: Any = data.read_remote_object()
    except InvalidObjectError:
        remote = None
    if not isinstance(remote, IRemoteObject):
        raise ServiceError(f"{what} is missing; pass a RemoteObject or a RemoteProxy", code=code)
    return remote


def answer_no(reply: MessageSequence, error: IpcError) -> bool:
    """Write a result and its text; return True: the request was handled."""
    reply.write_int(error.code)
    reply.write_string(str(error.args[0]))
    return True
