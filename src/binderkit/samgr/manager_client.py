"""How programs use SAMgr: register, find, wait for and watch system abilities.

Owns: the client's side of SAMgr's interface, for a given proxy of it. client.py has the same for the SAMgr of this
process's runtime directory.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, overload

from binderkit import limits
from binderkit.errors import (
    CallTimeoutError,
    DeadObjectError,
    IpcError,
    ParamTypeError,
    ParamValueError,
    RemoteError,
    ServiceError,
    ServiceNotFoundError,
)
from binderkit.ipc.remote import IRemoteBroker, IRemoteObject
from binderkit.parcel import MessageSequence
from binderkit.samgr import codes
from binderkit.samgr.ability import (
    AbilityInfo,
    AbilityKey,
    checked_dump_flags,
    checked_id,
    checked_key,
    checked_name,
    checked_text,
    write_key,
)
from binderkit.samgr.listener import SystemAbilityListener
from binderkit.samgr.load import SystemAbilityLoadCallback

if TYPE_CHECKING:
    from binderkit.samgr.conditions import EventRule
    from binderkit.samgr.lifecycle_catalog import ProfileChanges
    from binderkit.samgr.lifecycle_events import Payload, PolicyKind

    # Imported where they are used: services that start on demand, and most clients, ask for neither.
    from binderkit.samgr.processes import AbilityStatus, ProcessInfo, SystemProcessListener

ATTEMPTS: Final = 5
"""How often an ability is asked for whose process ends while SAMgr answers."""
_FINDING: Final = frozenset(
    {
        codes.GET_SYSTEM_ABILITY,
        codes.CHECK_SYSTEM_ABILITY,
        codes.WAIT_SYSTEM_ABILITY,
        codes.LOAD_SYSTEM_ABILITY,
        codes.GET_LOCAL_ABILITY_MANAGER,
        codes.GET_RUNNING_EXTENSION_INFOS,
    }
)
"""Transactions whose reply carries an object of another process."""
_MAX_TEXT: Final = 1024
"""Characters of a reported start failure."""


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

        One that a profile has is loaded if it does not run, for which it has 4 seconds if ``timeout`` is None.

        Args:
            key: its id, 1 … 0xFFFFFF, or its name.
            timeout: seconds to wait for it to be registered, above 0 … 3000; None: it must be there, or be loadable.

        Raises:
            ServiceNotFoundError: it is not there, no profile has it, and ``timeout`` is None (1008).
            CallTimeoutError: it did not come in time (999).
            ServiceError: it failed at its start; the text says why (2100).
        """
        if timeout is not None:
            return self.wait_for_system_ability(key, timeout)
        return read_found(self._ask(codes.GET_SYSTEM_ABILITY, key))

    def check_system_ability(self, key: AbilityKey) -> IRemoteObject | None:
        """Return the object of a system ability, None when it is not registered; never waits, and loads nothing."""
        reply = self._ask(codes.CHECK_SYSTEM_ABILITY, key)
        return read_found(reply) if reply.read_boolean() else None

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
        return read_found(self._send(codes.WAIT_SYSTEM_ABILITY, wait_request(key, timeout)))

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
        remote = _remote_of(remote, "a system ability")
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
        return self._send(code, key_request(key))

    def _send(self, code: int, data: MessageSequence) -> MessageSequence:
        for _ in range(ATTEMPTS):
            reply = MessageSequence()
            try:
                self._remote.send_request(code, data, reply)
            except RemoteError as error:
                if died_on_the_way(code, error):
                    continue
                raise
            check_result(reply)
            return reply
        raise gone_again()

    # --- loading ----------------------------------------------------------------------------------

    @overload
    def load_system_ability(self, key: AbilityKey, *, timeout: float = ...) -> IRemoteObject: ...

    @overload
    def load_system_ability(
        self, key: AbilityKey, callback: SystemAbilityLoadCallback, *, timeout: float = ...
    ) -> None: ...

    def load_system_ability(
        self,
        key: AbilityKey,
        callback: SystemAbilityLoadCallback | None = None,
        *,
        timeout: float = limits.LOAD_TIMEOUT,
    ) -> IRemoteObject | None:
        """Have a system ability started if it does not run (reference 2.2, 7).

        Args:
            key: its id, 1 … 0xFFFFFF, or its name.
            callback: is told how it went, once; the same one twice for the same load counts once. None: wait for it.
            timeout: seconds until it counts as failed, above 0 … 12.

        Returns:
            Its object; None with a callback.

        Raises:
            CallTimeoutError: it did not come in time (999).
            ServiceError: no profile has it (1002); it failed at its start, the text says why (2100); this process has
                too many callbacks (1004), or too many loads that wait for an end (1013).
            ParamTypeError, ParamValueError: no callback, or no such time (401).
        """
        data = load_request(key, callback, timeout)
        reply = self._send(codes.LOAD_SYSTEM_ABILITY, data)
        return read_found(reply) if callback is None else None

    def unload_system_ability(self, key: AbilityKey) -> None:
        """Have an ability of this process unloaded when its delay has passed and it says that it is idle.

        Raises:
            ServiceError: another process hosts it (1005), or no profile has it (1021).
        """
        self._ask(codes.UNLOAD_SYSTEM_ABILITY, key)

    def cancel_unload_system_ability(self, key: AbilityKey) -> None:
        """Keep an ability of this process that was to be unloaded.

        Raises:
            ServiceError: another process hosts it (1005), or no profile has it (1021).
        """
        self._ask(codes.CANCEL_UNLOAD_SYSTEM_ABILITY, key)

    def report_start_failure(self, key: AbilityKey, text: str) -> None:
        """Tell that an ability of this process failed at its start; who waits for it gets ``text`` (1024 characters).

        Raises:
            ServiceError: another process hosts it (1005), or no profile has it (1021).
        """
        data = _request()
        write_key(data, checked_key(key))
        data.write_string(text[:_MAX_TEXT])
        self._send(codes.REPORT_START_FAILURE, data)

    def unload_all_idle_system_abilities(self) -> None:
        """End every process none of whose abilities is needed, also low-memory ones (trusted users only, 303)."""
        self._send(codes.UNLOAD_ALL_IDLE, _request())

    # --- other devices ----------------------------------------------------------------------------

    def check_remote_system_ability(self, key: AbilityKey, device_id: str = "") -> int:
        """Return the id of a system ability that another device may have; for softbus only (reference 2.2, 9).

        Args:
            device_id: UDID of that device; "": may programs of this device ask others for the ability? Then 0 is
                returned for one that this device does not have itself.

        Raises:
            ServiceNotFoundError: there is none (1008).
            ServiceError: it is not declared as distributed here (1024); it is not for that device (201); the caller
                does not speak for this device (407).
        """
        data = key_request(key)
        data.write_string(device_id)
        return self._send(codes.CHECK_REMOTE_SYSTEM_ABILITY, data).read_int()

    # --- states -----------------------------------------------------------------------------------

    def list_ability_states(self) -> list[AbilityStatus]:
        """Return all system abilities, those that do not run included, by id (RefusedError, 303: not trusted)."""
        from binderkit.samgr.processes import AbilityStatus

        found: list[AbilityStatus] = []
        more = True
        while more:
            data = _request()
            data.write_int(found[-1].id if found else 0)
            reply = self._send(codes.SYSTEM_ABILITY_INFO_LIST, data)
            more = reply.read_boolean()
            found += [AbilityStatus.read(reply) for _ in range(min(reply.read_int(), codes.PAGE))]
        return found

    def get_on_demand_ability_ids(self) -> list[int]:
        """Return the ids of this process's abilities that are started on demand."""
        return list(self._send(codes.GET_ON_DEMAND_ABILITY_IDS, _request()).read_int_array())

    def get_extension_ability_ids(self, extension: str, *, running: bool = False) -> list[int]:
        """Return the abilities whose profile names an extension, e.g. "backup"; only those that run if ``running``."""
        data = _request()
        data.write_string(extension)
        code = codes.GET_RUNNING_EXTENSION_ABILITIES if running else codes.GET_EXTENSION_ABILITY_IDS
        return list(self._send(code, data).read_int_array())

    def get_running_extension_infos(self, extension: str) -> list[tuple[int, IRemoteObject]]:
        """Return the running abilities whose profile names an extension, each with its ILocalAbilityManager.

        Raises:
            RefusedError: this process has not ohos.permission.ACCESS_EXT_SYSTEM_ABILITY (303).
        """
        data = _request()
        data.write_string(extension)
        return read_infos(self._send(codes.GET_RUNNING_EXTENSION_INFOS, data))

    def add_on_demand_system_ability_info(self, ability_id: int) -> None:
        """Say that this process starts an ability when it is asked for (reference 2.2, 10).

        Its local ability manager (add_system_process) is told start_ability then. For processes that no profile
        describes; the offer ends with the process.

        Args:
            ability_id: 1 … 0xFFFFFF.

        Raises:
            ParamTypeError, ParamValueError: no id (401, 1000).
            ServiceError: this process did not make itself known (1007), the id belongs to another one (1005), the
                profile of this one does not name it (1002), or there are too many (1009).
        """
        self._ask(codes.ADD_ON_DEMAND_ABILITY, checked_id(ability_id))

    def check_on_demand_system_ability_info(self, key: AbilityKey) -> str | None:
        """Return the name of the process that is asked to start an ability, None when nobody can start it."""
        reply = self._ask(codes.CHECK_ON_DEMAND_ABILITY, key)
        return reply.read_string() if reply.read_boolean() else None

    def get_common_event_extra_data_ids(self, key: AbilityKey, event: str = "") -> list[int]:
        """Return the numbers of the payloads kept of the common events that started an ability of this process.

        Args:
            event: only of this event, "": of all.

        Raises:
            ServiceError: another process hosts it (1005).
        """
        data = key_request(key)
        data.write_string(event)
        return list(self._send(codes.GET_COMMON_EVENT_EXTRA_DATA_IDS, data).read_long_array())

    def reload_profiles(self) -> ProfileChanges:
        """Have the daemon read its profile directory again; return what changed (ours, 113).

        Raises:
            ServiceError: a profile has mistakes, the text has them all, one a line, and nothing is changed (1002).
            RefusedError: only root and SAMgr's user may (303).
            UnknownTransactionError: this SAMgr has no profile directory (305).
        """
        from binderkit.samgr.lifecycle_catalog import ProfileChanges

        reply = self._send(codes.RELOAD_PROFILES, _request())
        return ProfileChanges(*(tuple(reply.read_string_array()) for _ in range(4)))

    def get_on_demand_reason_extra_data(self, extra_data_id: int) -> Payload:
        """Return what the common event brought that started an ability.

        Args:
            extra_data_id: OnDemandReason.extra_data_id, as on_start got it.

        Raises:
            ServiceError: no such event, or it was too long ago (1001).
        """
        from binderkit.samgr.lifecycle_events import Payload

        data = _request()
        data.write_long(extra_data_id)
        reply = self._send(codes.GET_ON_DEMAND_REASON_EXTRA_DATA, data)
        code, text, words = reply.read_string(), reply.read_string(), list(reply.read_string_array())
        return Payload(code, text, dict(zip(words[::2], words[1::2], strict=True)))

    def get_on_demand_policy(self, key: AbilityKey, kind: PolicyKind) -> tuple[EventRule, ...]:
        """Return the events that start (or stop) an ability of this process.

        Raises:
            ServiceError: another process hosts it (1005); its profile does not allow that (1021).
        """
        from binderkit.samgr.operations_load import rules_codec

        data = _request()
        write_key(data, checked_key(key))
        data.write_int(kind)
        found: tuple[EventRule, ...] = rules_codec().read(self._send(codes.GET_ON_DEMAND_POLICY, data))
        return found

    def update_on_demand_policy(self, key: AbilityKey, kind: PolicyKind, rules: Sequence[EventRule]) -> None:
        """Replace the events that start (or stop) an ability of this process, until SAMgr ends.

        Raises:
            ServiceError: another process hosts it (1005); its profile does not allow that (1021); a rule cannot be
                used, the text says why (1001).
        """
        from binderkit.samgr.operations_load import rules_codec

        data = _request()
        write_key(data, checked_key(key))
        data.write_int(kind)
        rules_codec().write(data, tuple(rules))
        self._send(codes.UPDATE_ON_DEMAND_POLICY, data)

    # --- processes --------------------------------------------------------------------------------

    def add_system_process(self, name: str, local: IRemoteObject | IRemoteBroker) -> None:
        """Make this process known as one that hosts system abilities (reference 2.2, 20).

        Args:
            name: the process's name, as its profile says; rules as for names of abilities.
            local: its ILocalAbilityManager, an object of this process.

        Raises:
            ServiceError: the name belongs to another process, or SAMgr did not start this one (1005); there are 1000
                processes (1012).
        """
        data = _request()
        data.write_string(checked_name(name))
        data.write_remote_object(_remote_of(local, "a local ability manager"))
        self._send(codes.ADD_SYSTEM_PROCESS, data)

    def list_system_processes(self) -> list[ProcessInfo]:
        """Return the processes that are known, running or not, by name (RefusedError, 303: not trusted)."""
        from binderkit.samgr.processes import ProcessInfo

        found: list[ProcessInfo] = []
        more = True
        while more:
            data = _request()
            data.write_string(found[-1].name if found else "")
            reply = self._send(codes.LIST_SYSTEM_PROCESSES, data)
            more = reply.read_boolean()
            found += [ProcessInfo.read(reply) for _ in range(min(reply.read_int(), codes.PAGE))]
        return found

    def get_system_process_info(self, key: AbilityKey) -> ProcessInfo:
        """Return the process that hosts, or would host, an ability.

        Raises:
            ServiceNotFoundError: no such ability (1008).
        """
        from binderkit.samgr.processes import ProcessInfo

        return ProcessInfo.read(self._ask(codes.GET_SYSTEM_PROCESS_INFO, key))

    def get_idle_processes(self) -> list[str]:
        """Return the processes none of whose abilities is needed, the longest idle first."""
        return list(self._send(codes.GET_IDLE_PROCESSES, _request()).read_string_array())

    def get_local_ability_manager(self, key: AbilityKey) -> IRemoteObject:
        """Return the ILocalAbilityManager of the process that hosts an ability.

        Raises:
            RefusedError: this process has not ohos.permission.CONTROL_SVC_CMD (303).
            ServiceError: the process does not run (1007).
        """
        return read_found(self._ask(codes.GET_LOCAL_ABILITY_MANAGER, key))

    def unload_processes(self, names: Sequence[str]) -> None:
        """End processes, whoever needs their abilities; returns when they were told (reference 2.2, 38).

        Raises:
            RefusedError: only root and SAMgr's user may (303).
            ServiceError: one does not run (1007); those before it were told.
        """
        data = _request()
        data.write_string_array([checked_name(name) for name in names])
        self._send(codes.UNLOAD_PROCESSES, data)

    def subscribe_system_process(self, listener: SystemProcessListener) -> None:
        """Have ``listener`` told of processes that start, stop, and become idle or active.

        Raises:
            ParamTypeError: no SystemProcessListener (401).
            ServiceError: this process has 256 subscriptions (1010).
        """
        self._send(codes.SUBSCRIBE_SYSTEM_PROCESS, _with_process_listener(listener))

    def unsubscribe_system_process(self, listener: SystemProcessListener) -> None:
        """End a subscription.

        Raises:
            ParamTypeError: no SystemProcessListener (401).
            ServiceError: it is not subscribed (1001).
        """
        self._send(codes.UNSUBSCRIBE_SYSTEM_PROCESS, _with_process_listener(listener))


def _request() -> MessageSequence:
    data = MessageSequence()
    data.write_interface_token(codes.DESCRIPTOR)
    return data


def died_on_the_way(code: int, error: RemoteError) -> bool:
    """Whether a process ended between SAMgr's answer and the moment when its object was to be sent to us.

    Then nothing happened that could happen twice, and SAMgr knows of the end when it is asked again.
    """
    return code in _FINDING and error.type_name.rpartition(".")[2] == DeadObjectError.__name__


def gone_again() -> ServiceError:
    """Return the error for an ability whose process ended each time."""
    return ServiceError(
        f"the process of the system ability ended {ATTEMPTS} times while it was being handed over; see its log",
        code=codes.START_FAILED,
    )


def check_result(reply: MessageSequence) -> None:
    """Read the result at the head of a reply; raise what it stands for unless it is 0."""
    result = reply.read_int()
    if result != codes.OK:
        raise _error(result, reply.read_string())


def key_request(key: AbilityKey) -> MessageSequence:
    """Return a request about one ability (ParamTypeError, 401, ParamValueError, 1000 and 1001, for what is no key)."""
    data = _request()
    write_key(data, checked_key(key))
    return data


def wait_request(key: AbilityKey, timeout: object) -> MessageSequence:
    """Return a WAIT; arguments as SystemAbilityManagerClient.wait_for_system_ability."""
    data = key_request(key)
    data.write_double(_checked_timeout(timeout))
    return data


def read_found(reply: MessageSequence) -> IRemoteObject:
    """Return the object in a reply."""
    remote: IRemoteObject = reply.read_remote_object()
    return remote


def read_infos(reply: MessageSequence) -> list[tuple[int, IRemoteObject]]:
    """Return the abilities in a reply, each with its local ability manager."""
    return [(reply.read_int(), read_found(reply)) for _ in range(reply.read_int())]


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


def load_request(key: AbilityKey, callback: object, timeout: object) -> MessageSequence:
    """Return a LOAD; arguments as SystemAbilityManagerClient.load_system_ability."""
    if callback is not None and not isinstance(callback, SystemAbilityLoadCallback):
        raise ParamTypeError(f"expected a SystemAbilityLoadCallback, got {type(callback).__name__}")
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise ParamTypeError(f"timeout is a number of seconds, got {type(timeout).__name__}")
    if not 0 < timeout <= limits.MAX_LOAD_TIMEOUT:
        raise ParamValueError(
            f"the timeout of a load is above 0 and at most {limits.MAX_LOAD_TIMEOUT:g} seconds, got {timeout}"
        )
    data = _request()
    write_key(data, checked_key(key))
    data.write_double(float(timeout))
    data.write_boolean(callback is not None)
    if callback is not None:
        data.write_remote_object(callback)
    return data


def _with_process_listener(listener: object) -> MessageSequence:
    from binderkit.samgr.processes import SystemProcessListener

    if not isinstance(listener, SystemProcessListener):
        raise ParamTypeError(f"expected a SystemProcessListener, got {type(listener).__name__}")
    data = _request()
    data.write_remote_object(listener)
    return data


def _remote_of(remote: object, what: str) -> IRemoteObject:
    if not isinstance(remote, IRemoteObject) and isinstance(remote, IRemoteBroker):
        remote = remote.as_object()
    if not isinstance(remote, IRemoteObject):
        raise ParamTypeError(f"{what} is a RemoteObject or RemoteProxy, got {type(remote).__name__}")
    return remote
