"""How programs use SAMgr: register, find, wait for and watch system abilities.

Owns: the client's side of SAMgr's interface. The functions of this module ask
the SAMgr of this process's runtime directory, started when none runs (unless
BINDERKIT_NO_AUTOSTART is set); one that died is looked up anew by the next call.
SystemAbilityManagerClient does the same with a given proxy.
"""

from __future__ import annotations

from binderkit import limits
from binderkit import process as process  # says which driver this process uses by default
from binderkit.errors import (
    CallTimeoutError,
    IpcError,
    ParamTypeError,
    ParamValueError,
    ServiceError,
    ServiceNotFoundError,
)
from binderkit.ipc.driver import current_driver
from binderkit.ipc.remote import IRemoteBroker, IRemoteObject
from binderkit.parcel import MessageSequence
from binderkit.samgr import codes
from binderkit.samgr.ability import (
    AbilityInfo,
    AbilityKey,
    checked_dump_flags,
    checked_key,
    checked_name,
    checked_text,
    write_key,
)
from binderkit.samgr.listener import SystemAbilityListener


class SystemAbilityManagerClient:
    """SAMgr's operations on a proxy of it.

    Every method raises DeadObjectError (-32) when SAMgr is gone, RefusedError (303) when its policy does not allow
    the operation, and for an id or name that cannot be one ParamTypeError (401) or ParamValueError (1000, 1001).
    """

    def __init__(self, remote: IRemoteObject) -> None:
        """Use ``remote``, SAMgr's proxy (IPCSkeleton.get_context_object())."""
        self._remote = remote

    def as_object(self) -> IRemoteObject:
        """Return SAMgr's proxy."""
        return self._remote

    def get_system_ability(self, key: AbilityKey, timeout: float | None = None) -> IRemoteObject:
        """Return the object of a system ability.

        Args:
            key: its id, 1 … 0xFFFFFF, or its name.
            timeout: seconds to wait for it to be registered, above 0 … 3000; None: it must be there now.

        Raises:
            ServiceNotFoundError: it is not there and ``timeout`` is None (1008).
            CallTimeoutError: it did not come in time (999).
        """
        if timeout is not None:
            return self.wait_for_system_ability(key, timeout)
        return _object(self._ask(codes.GET_SYSTEM_ABILITY, key))

    def check_system_ability(self, key: AbilityKey) -> IRemoteObject | None:
        """Return the object of a system ability, None when it is not registered; never waits."""
        reply = self._ask(codes.CHECK_SYSTEM_ABILITY, key)
        return _object(reply) if reply.read_boolean() else None

    def wait_for_system_ability(self, key: AbilityKey, timeout: float | None = None) -> IRemoteObject:
        """Return the object of a system ability as soon as it is registered.

        Args:
            key: its id, 1 … 0xFFFFFF, or its name.
            timeout: seconds, above 0 … 3000; None waits for ever (or for the deadline of the call being handled).

        Raises:
            CallTimeoutError: it did not come in time (999).
            ParamTypeError, ParamValueError: ``timeout`` is no number, or out of range (401).
            ServiceError: this process waits 256 times already (1010).
        """
        data = _request()
        write_key(data, checked_key(key))
        data.write_double(_checked_timeout(timeout))
        return _object(self._send(codes.WAIT_SYSTEM_ABILITY, data))

    def add_system_ability(
        self,
        key: AbilityKey,
        remote: IRemoteObject | IRemoteBroker,
        *,
        name: str = "",
        distributed: bool = False,
        dump_flags: int = codes.DUMP_FLAG_PRIORITY_DEFAULT,
        capability: str = "",
        permission: str = "",
    ) -> int:
        """Register an object; it goes when its process ends. An ability with the same id is replaced.

        Args:
            key: the id, 1 … 0xFFFFFF; or a name only, then SAMgr gives an id.
            remote: the object to offer, usually a RemoteObject or typed service of this process.
            name: a name in addition to an id: 1 … 128 characters of A-Z a-z 0-9 _ . : / -, the first a letter or _.
            distributed: whether other devices may see it.
            dump_flags: which listings show it: bits 1 critical, 2 high, 4 normal, 8 default.
            capability, permission: texts that listings show, at most 128 characters.

        Returns:
            The ability's id.

        Raises:
            ParamTypeError: ``remote`` is no remote object (401).
            ServiceError: the name belongs to another ability or the object is dead (1001), or there are 1000
                abilities (1011).
        """
        if not isinstance(remote, IRemoteObject) and isinstance(remote, IRemoteBroker):
            remote = remote.as_object()
        if not isinstance(remote, IRemoteObject):
            raise ParamTypeError(f"a system ability is a RemoteObject or RemoteProxy, got {type(remote).__name__}")
        key = checked_key(key)
        if isinstance(key, str) and name:
            raise ParamValueError(f"two names, {key!r} and {name!r}; give an id and a name, or one name")
        if name:
            checked_name(name)
        data = _request()
        data.write_int(key if isinstance(key, int) else 0)
        data.write_string(key if isinstance(key, str) else name)
        data.write_boolean(distributed)
        data.write_int(checked_dump_flags(dump_flags))
        data.write_string(checked_text("capability", capability))
        data.write_string(checked_text("permission", permission))
        data.write_remote_object(remote)
        return self._send(codes.ADD_SYSTEM_ABILITY, data).read_int()

    def remove_system_ability(self, key: AbilityKey) -> None:
        """Take a system ability out of the registry.

        Raises:
            ServiceNotFoundError: it is not registered (1008).
        """
        self._ask(codes.REMOVE_SYSTEM_ABILITY, key)

    def list_system_abilities(self, dump_flags: int = codes.DUMP_FLAG_PRIORITY_ALL) -> list[AbilityInfo]:
        """Return the abilities that this process may see, by id.

        Args:
            dump_flags: only those with one of these bits, 1 … 15.
        """
        found: list[AbilityInfo] = []
        more = True
        while more:
            data = _request()
            data.write_int(found[-1].id if found else 0)
            data.write_int(checked_dump_flags(dump_flags))
            reply = self._send(codes.LIST_SYSTEM_ABILITIES, data)
            more = reply.read_boolean()
            found += [AbilityInfo.read(reply) for _ in range(min(reply.read_int(), codes.PAGE))]
        return found

    def subscribe_system_ability(self, key: AbilityKey, listener: SystemAbilityListener) -> None:
        """Have ``listener`` told when an ability comes or goes; at once (asynchronously) if it is there.

        Subscribing twice changes nothing.

        Raises:
            ParamTypeError: no SystemAbilityListener (401).
            ServiceError: this process has 256 subscriptions (1010).
        """
        self._send(codes.SUBSCRIBE_SYSTEM_ABILITY, _with_listener(key, listener))

    def unsubscribe_system_ability(self, key: AbilityKey, listener: SystemAbilityListener) -> None:
        """End a subscription.

        Raises:
            ParamTypeError: no SystemAbilityListener (401).
            ServiceError: it is not subscribed (1001).
        """
        self._send(codes.UNSUBSCRIBE_SYSTEM_ABILITY, _with_listener(key, listener))

    def _ask(self, code: int, key: AbilityKey) -> MessageSequence:
        data = _request()
        write_key(data, checked_key(key))
        return self._send(code, data)

    def _send(self, code: int, data: MessageSequence) -> MessageSequence:
        reply = MessageSequence()
        self._remote.send_request(code, data, reply)
        result = reply.read_int()
        if result != codes.OK:
            raise _error(result, reply.read_string())
        return reply


def _request() -> MessageSequence:
    data = MessageSequence()
    data.write_interface_token(codes.DESCRIPTOR)
    return data


def _object(reply: MessageSequence) -> IRemoteObject:
    remote: IRemoteObject = reply.read_remote_object()
    return remote


def _with_listener(key: AbilityKey, listener: object) -> MessageSequence:
    if not isinstance(listener, SystemAbilityListener):
        raise ParamTypeError(f"expected a SystemAbilityListener, got {type(listener).__name__}")
    data = _request()
    write_key(data, checked_key(key))
    data.write_remote_object(listener)
    return data


def _checked_timeout(timeout: object) -> float:
    """Return the seconds as they travel: 0 is for ever."""
    if timeout is None:
        return 0.0
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise ParamTypeError(f"timeout is a number of seconds or None, got {type(timeout).__name__}")
    if not 0 < timeout <= limits.MAX_WAIT_TIME:
        raise ParamValueError(f"timeout must be above 0 and at most {limits.MAX_WAIT_TIME} seconds, got {timeout}")
    return float(timeout)


def _error(result: int, text: str) -> IpcError:
    if result == codes.LOAD_SA_TIMEOUT:
        return CallTimeoutError(text, code=result)
    if result == codes.ABILITY_NOT_FOUND:
        return ServiceNotFoundError(text)
    return ServiceError(text, code=result)


def system_ability_manager() -> SystemAbilityManagerClient:
    """Return the client of this runtime directory's SAMgr, which is started when none runs.

    Raises:
        NoServiceManagerError: none runs, and none may be or could be started (1007).
    """
    return SystemAbilityManagerClient(current_driver().context_object(start=True))


def get_system_ability(key: AbilityKey, timeout: float | None = None) -> IRemoteObject:
    """Return the object of a system ability; see SystemAbilityManagerClient.get_system_ability."""
    return system_ability_manager().get_system_ability(key, timeout)


def check_system_ability(key: AbilityKey) -> IRemoteObject | None:
    """Return the object of a system ability, None when it is not registered."""
    return system_ability_manager().check_system_ability(key)


def wait_for_system_ability(key: AbilityKey, timeout: float | None = None) -> IRemoteObject:
    """Return the object of a system ability once it is there; see SystemAbilityManagerClient."""
    return system_ability_manager().wait_for_system_ability(key, timeout)


def add_system_ability(
    key: AbilityKey,
    remote: IRemoteObject | IRemoteBroker,
    *,
    name: str = "",
    distributed: bool = False,
    dump_flags: int = codes.DUMP_FLAG_PRIORITY_DEFAULT,
    capability: str = "",
    permission: str = "",
) -> int:
    """Register an object and return its id; see SystemAbilityManagerClient.add_system_ability."""
    return system_ability_manager().add_system_ability(
        key,
        remote,
        name=name,
        distributed=distributed,
        dump_flags=dump_flags,
        capability=capability,
        permission=permission,
    )


def remove_system_ability(key: AbilityKey) -> None:
    """Take a system ability out of the registry (ServiceNotFoundError, 1008, when it is not there)."""
    system_ability_manager().remove_system_ability(key)


def list_system_abilities(dump_flags: int = codes.DUMP_FLAG_PRIORITY_ALL) -> list[AbilityInfo]:
    """Return the abilities that this process may see, by id."""
    return system_ability_manager().list_system_abilities(dump_flags)


def subscribe_system_ability(key: AbilityKey, listener: SystemAbilityListener) -> None:
    """Have ``listener`` told when an ability comes or goes; see SystemAbilityManagerClient."""
    system_ability_manager().subscribe_system_ability(key, listener)


def unsubscribe_system_ability(key: AbilityKey, listener: SystemAbilityListener) -> None:
    """End a subscription; see SystemAbilityManagerClient."""
    system_ability_manager().unsubscribe_system_ability(key, listener)
