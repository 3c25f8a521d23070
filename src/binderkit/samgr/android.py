"""System abilities as the services of Android's service manager: SAMgr answers both interfaces from one registry.

Owns: what an ability is called there, and asking SAMgr's own transactions on behalf of Android's programs. Why through
the transactions: policy, permissions, profiles, quotas and starting on demand hold for both alike, in one place.

An ability with a name has that name, one without has the decimal of its id; whoever registers a name that is a number
registers the ability of that id. Names that Android allows and SAMgr does not (digits first, then something else) are
refused. An ability registered this way is not offered to other devices.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping, Sequence
from typing import TYPE_CHECKING

from binderkit.errors import ServiceNotFoundError
from binderkit.ipc.remote import IRemoteObject
from binderkit.parcel import MessageSequence
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo, AbilityKey, write_key

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.samgr.operations import Operation


class AndroidNames:
    """The registry that Android's programs see (interop/service_manager.py: Registry).

    Args:
        operations: SAMgr's transactions by their codes; asked are GET, CHECK, ADD and LIST.
    """

    def __init__(self, operations: Mapping[int, Operation]) -> None:
        self._operations = operations

    def get(self, name: str, caller: Caller) -> IRemoteObject | Awaitable[IRemoteObject | None] | None:
        """Return the ability's object, None if there is none; one that can be started is started.

        Raises:
            RefusedError, ServiceError, ParamError: as SAMgr refuses it.
        """
        data, reply = _question(name), MessageSequence()
        try:
            started = self._operations[codes.GET_SYSTEM_ABILITY](data, reply, caller)
        except ServiceNotFoundError:
            return None
        return _object(reply) if started is None else _started(started, reply)

    def check(self, name: str, caller: Caller) -> IRemoteObject | None:
        """Return the ability's object if it runs, else None; raises as ``get``."""
        reply = MessageSequence()
        self._operations[codes.CHECK_SYSTEM_ABILITY](_question(name), reply, caller)
        return _object(reply, optional=True)

    def add(self, name: str, remote: IRemoteObject, priorities: int, caller: Caller) -> None:
        """Register an ability; raises as ``get``."""
        data = _question(name)
        if isinstance(key_of(name), int):
            data.write_string("")
        data.write_boolean(False)
        data.write_int(priorities)
        data.write_string("")
        data.write_string("")
        data.write_remote_object(remote)
        self._operations[codes.ADD_SYSTEM_ABILITY](data, MessageSequence(), caller)

    def names(self, priorities: int, caller: Caller) -> Sequence[str]:
        """Return the names of the abilities that ``caller`` may see and that have one of ``priorities``, sorted."""
        if not priorities:
            return []
        found: list[AbilityInfo] = []
        more = True
        while more:
            data, reply = MessageSequence(), MessageSequence()
            data.write_int(found[-1].id if found else 0)
            data.write_int(priorities)
            self._operations[codes.LIST_SYSTEM_ABILITIES](data, reply, caller)
            reply.read_int()
            more = reply.read_boolean()
            found += [AbilityInfo.read(reply) for _ in range(reply.read_int())]
        return sorted(info.name or str(info.id) for info in found)


def key_of(name: str) -> AbilityKey:
    """Return the id that a name is the decimal of, else the name."""
    is_number = name.isascii() and name.isdigit() and name[0] != "0" and len(name) < 10  # fits an int32
    return int(name) if is_number else name


def _question(name: str) -> MessageSequence:
    data = MessageSequence()
    write_key(data, key_of(name))
    return data


def _object(reply: MessageSequence, *, optional: bool = False) -> IRemoteObject | None:
    """Return the object of a reply whose result is 0; an ``optional`` one has a word before it: whether it is there."""
    reply.read_int()
    if optional and not reply.read_boolean():
        return None
    remote: IRemoteObject = reply.read_remote_object()
    return remote


async def _started(started: Awaitable[None], reply: MessageSequence) -> IRemoteObject | None:
    await started
    return _object(reply)
