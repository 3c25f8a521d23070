"""Android's IServiceManager, answered from a registry of ours: list, get, check and add, as libgbinder's tools ask.

Owns: which number means what in which generation (``Variant``), and the way from request to reply. Pure: who is
registered is the ``Registry``'s business, how requests come and replies go is the driver's. So whoever owns handle 0
answers Android's programs beside its own:

    if android.is_addressed(data):
        return android.handle(code, data, reply, calling_identity())

Which generation speaks is told by the header as far as headers differ (aidl, aidl2, the rest), so that tools without
any configuration find services too. What it cannot tell (the numbers since Android 15, the stability word of Android
12) follows the API level that the device is set to.

    | API level | codes               | wire  | list                      | reply of get and check     |
    |-----------|---------------------|-------|---------------------------|----------------------------|
    | below 28  | 1 get 2 check       | aidl  | a name for an index       | object                     |
    | 28        | 3 add 4 list        | aidl  | the same, with priorities | the same                   |
    | 29        |                     | aidl2 | the same                  | the same                   |
    | 30, 33    |                     | aidl3 | all names, by priorities  | int32 0, object, stability |
    | 31        |                     | aidl4 |                           |                            |
    | 35        | 1 get 3 check 4 add 5 list | aidl3 |                    |                            |
    | 36        | 1 get 3 check 5 add 6 list | aidl3 |                    |                            |

How a failure is told: up to aidl2 as a status alone, which is an error of the call (``StatusReply``); from aidl3 on as
an exception in the reply. What cannot be read, or is not known, is a status everywhere. A caller that may not have a
service gets null, as if it were not there.

Rules upheld: any bytes are answered or refused; the registry is only asked with a checked name (reference
kernel-binder 6).
"""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Protocol, TypeVar
from weakref import WeakKeyDictionary

from binderkit import limits
from binderkit.errors import IpcError, ParamError, ParamValueError, ParcelReadError, RefusedError, ServiceError
from binderkit.interop.android_parcel import (
    AIDL,
    AIDL2,
    AIDL3,
    AIDL4,
    EX_ILLEGAL_ARGUMENT,
    EX_ILLEGAL_STATE,
    EX_SECURITY,
    AndroidParcel,
    Stability,
    Wire,
    layout_of,
)
from binderkit.ipc.dispatch import MAX_ERROR_TEXT, Failure, Forwarded
from binderkit.ipc.remote import IRemoteObject

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.ipc.remote import HandlerResult
    from binderkit.parcel import MessageSequence

_log = logging.getLogger("binderkit.interop")

INTERFACE: Final = "android.os.IServiceManager"

# Statuses: a reply that is nothing but one of these is an error of the call.
PERMISSION_DENIED: Final = -1
NAME_NOT_FOUND: Final = -2
BAD_VALUE: Final = -22
INVALID_OPERATION: Final = -38
UNKNOWN_TRANSACTION: Final = -74

PRIORITY_DEFAULT: Final = 8
PRIORITY_ALL: Final = 15
"""Bits 1 critical, 2 high, 4 normal, 8 default: the same as the dump flags of a system ability."""

_Found = TypeVar("_Found")
_ANSWERS_NO: Final = (RefusedError, ParamError, ServiceError)


class Registry(Protocol):
    """Names <-> objects, as Android's programs see them. A refusal is a RefusedError, ParamError or ServiceError."""

    def get(self, name: str, caller: Caller) -> IRemoteObject | Awaitable[IRemoteObject | None] | None:
        """Return the object of a service, None if there is none; one that can be started is started."""

    def check(self, name: str, caller: Caller) -> IRemoteObject | None:
        """Return the object of a service that runs, None if none does."""

    def add(self, name: str, remote: IRemoteObject, priorities: int, caller: Caller) -> None:
        """Register a service of ``caller``, and take it out when its process ends.

        Args:
            name: 1 … limits.MAX_ANDROID_NAME characters.
            remote: its object.
            priorities: bits of PRIORITY_ALL, at least one.
        """

    def names(self, priorities: int, caller: Caller) -> Sequence[str]:
        """Return the names of the services that ``caller`` may see and that have one of ``priorities``, sorted."""


class StatusReply(Forwarded):
    """Answer a request with one of Android's statuses and nothing else; ``text`` is for programs of ours that ask."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(Failure(status, "", text[:MAX_ERROR_TEXT], ""))


@dataclass(frozen=True, slots=True)
class Variant:
    """One generation of the service manager.

    Attributes:
        name: libgbinder's name of it.
        wire: how its parcels are written.
        codes: transaction code -> operation.
        by_index: whether ``list`` gives one name for an index, and replies have no exception in front.
        priorities: whether ``add`` and ``list`` carry some.
    """

    name: str
    wire: Wire
    codes: Mapping[int, str]
    by_index: bool = False
    priorities: bool = True


_FIRST: Final = {1: "get", 2: "check", 3: "add", 4: "list"}
# Code 2, and 4 of the last one, are questions whose answer is a union; no tool asks them, and they are refused.
_SINCE_15: Final = {1: "get", 3: "check", 4: "add", 5: "list"}
_SINCE_16: Final = {1: "get", 3: "check", 5: "add", 6: "list"}

_VARIANTS: Final = (
    (36, Variant("aidl6", AIDL3, _SINCE_16)),
    (35, Variant("aidl5", AIDL3, _SINCE_15)),
    (33, Variant("aidl3", AIDL3, _FIRST)),
    (31, Variant("aidl3", AIDL4, _FIRST)),
    (30, Variant("aidl3", AIDL3, _FIRST)),
    (29, Variant("aidl2", AIDL2, _FIRST, by_index=True)),
    (28, Variant("aidl2", AIDL, _FIRST, by_index=True)),
    (0, Variant("aidl", AIDL, _FIRST, by_index=True, priorities=False)),
)
DEFAULT_API_LEVEL: Final = 30


def variant_for(api_level: int) -> Variant:
    """Return the generation of an Android, by its API level (29 is Android 10), as libgbinder chooses it.

    Raises:
        ParamValueError: no API level (401).
    """
    if api_level < 0:
        raise ParamValueError(f"API level {api_level}: it is the number of an Android version, for example 30")
    return next(variant for first, variant in _VARIANTS if api_level >= first)


_BY_HEADER: Final = {wire: variant_for(level) for wire, level in ((AIDL, 27), (AIDL2, 29), (AIDL3, 30))}
"""What a header means that the device's own generation does not write."""


class AndroidServiceManager:
    """Answers requests to Android's service manager.

    Args:
        registry: who is registered.
        api_level: the Android that programs on this device are set to (libgbinder: ApiLevel in /etc/gbinder.conf).

    Used by several threads at once.
    """

    def __init__(self, registry: Registry, api_level: int = DEFAULT_API_LEVEL) -> None:
        self._registry = registry
        self._variant = variant_for(api_level)
        # What a service said of its object when it was added; whoever gets it must be told the same.
        self._levels: WeakKeyDictionary[IRemoteObject, Stability] = WeakKeyDictionary()

    def is_addressed(self, data: MessageSequence) -> bool:
        """Whether a request at its start is one for Android's service manager; reads nothing."""
        return layout_of(data, INTERFACE) is not None

    def handle(self, code: int, data: MessageSequence, reply: MessageSequence, caller: Caller) -> HandlerResult:
        """Answer a request; as ``RemoteObject.on_remote_message_request`` does.

        Returns:
            True, or an awaitable of it while a service is being started.

        Raises:
            StatusReply: the answer is a status alone: no such operation, a request that cannot be read or is none for
                this interface, the end of a list, or (up to aidl2) a refusal.
        """
        variant = self._variant_of(data)
        operation = variant.codes.get(code)
        if operation is None:
            raise StatusReply(UNKNOWN_TRANSACTION, f"{INTERFACE} of {variant.name} does not answer transaction {code}")
        question = _Question(variant, AndroidParcel(data, variant.wire), AndroidParcel(reply, variant.wire), caller)
        try:
            question.data.read_interface_token()
            return _OPERATIONS[operation](self, question)
        except ParcelReadError as error:
            raise StatusReply(BAD_VALUE, f"{operation} of {INTERFACE}: {error.args[0]}") from None

    def _variant_of(self, data: MessageSequence) -> Variant:
        layout = layout_of(data, INTERFACE)
        if layout is None:
            raise StatusReply(PERMISSION_DENIED, f"the request does not start with a header for {INTERFACE}")
        own = self._variant
        return own if own.wire.interface_offset == layout.interface_offset else _BY_HEADER[layout]

    # --- get and check ------------------------------------------------------------------------------

    def _get(self, question: _Question) -> HandlerResult:
        found = _asked(question, self._registry.get)
        if isinstance(found, Awaitable):
            return self._got_later(question, found)
        return self._give(question, found)

    async def _got_later(self, question: _Question, started: Awaitable[IRemoteObject | None]) -> bool:
        found = None
        try:
            found = await started
        except _ANSWERS_NO as error:
            _note(question, error)
        return self._give(question, found)

    def _check(self, question: _Question) -> bool:
        return self._give(question, _asked(question, self._registry.check))

    def _give(self, question: _Question, found: IRemoteObject | None) -> bool:
        reply = question.reply
        if not question.variant.by_index:
            reply.write_no_exception()
        level = Stability.UNDECLARED if found is None else self._levels.get(found, Stability.SYSTEM)
        reply.write_binder(found, level)
        return True

    # --- add ----------------------------------------------------------------------------------------

    def _add(self, question: _Question) -> bool:
        data, variant = question.data, question.variant
        name = data.read_string16()
        remote, level = data.read_binder()
        data.sequence.read_int()  # whether isolated processes of Android may use it; there are none here
        priorities = data.sequence.read_int() & PRIORITY_ALL if variant.priorities else 0
        try:
            if name is None or not _is_name(name):
                raise ParamValueError(
                    f"the name of a service has 1 … {limits.MAX_ANDROID_NAME} characters, got {_short(name)}"
                )
            if remote is None:
                raise ParamValueError(f"no object was given for the service {name!r}")
            self._registry.add(name, remote, priorities or PRIORITY_DEFAULT, question.caller)
        except _ANSWERS_NO as error:
            return _refuse(question, error)
        if level:
            self._levels.setdefault(remote, level)  # the first word counts: nobody changes what others were told
        question.reply.write_no_exception()  # the int32 0 that every generation answers with
        return True

    # --- list ---------------------------------------------------------------------------------------

    def _list(self, question: _Question) -> bool:
        data, variant = question.data.sequence, question.variant
        index = data.read_int() if variant.by_index else 0
        priorities = data.read_int() & PRIORITY_ALL if variant.priorities else PRIORITY_ALL
        try:
            names = self._registry.names(priorities, question.caller)
        except _ANSWERS_NO as error:
            return _refuse(question, error)
        if not variant.by_index:
            return _write_names(question.reply, names)
        if not 0 <= index < len(names):
            raise StatusReply(NAME_NOT_FOUND, f"no service {index}: {len(names)} are registered, the list ends there")
        question.reply.write_string16(names[index])
        return True


@dataclass(frozen=True, slots=True)
class _Question:
    """A request that is being answered."""

    variant: Variant
    data: AndroidParcel
    reply: AndroidParcel
    caller: Caller


_OPERATIONS: Final[Mapping[str, Callable[[AndroidServiceManager, _Question], HandlerResult]]] = {
    "get": AndroidServiceManager._get,
    "check": AndroidServiceManager._check,
    "add": AndroidServiceManager._add,
    "list": AndroidServiceManager._list,
}


def _is_name(name: str) -> bool:
    return 0 < len(name) <= limits.MAX_ANDROID_NAME


def _short(name: str | None) -> str:
    return "null" if name is None else f"{len(name)}: {name[:140]!r}"


def _asked(question: _Question, ask: Callable[[str, Caller], _Found]) -> _Found | None:
    """Read a name and return what the registry says of it, None if it refuses or it can be nobody's name."""
    name = question.data.read_string16()
    if name is None or not _is_name(name):
        return None
    try:
        return ask(name, question.caller)
    except _ANSWERS_NO as error:
        _note(question, error)
        return None


def _note(question: _Question, error: IpcError) -> None:
    """A service that the caller may not have, or that did not start, looks to it as if it were not there."""
    _log.info("%r gets null from %s: %s", question.caller, INTERFACE, error.args[0])


def _refuse(question: _Question, error: IpcError) -> bool:
    """Say no: as an exception, or up to aidl2 as a status."""
    text = str(error.args[0])
    if isinstance(error, RefusedError):
        status, exception = PERMISSION_DENIED, EX_SECURITY
    elif isinstance(error, ParamError):
        status, exception = BAD_VALUE, EX_ILLEGAL_ARGUMENT
    else:
        status, exception = INVALID_OPERATION, EX_ILLEGAL_STATE
    if question.variant.by_index:
        raise StatusReply(status, text)
    question.reply.write_exception(exception, text[:MAX_ERROR_TEXT])
    return True


def _write_names(reply: AndroidParcel, names: Sequence[str]) -> bool:
    """Write all names; for more than fit an ordinary transaction, the sequence's limit is raised."""
    sequence = reply.sequence
    size = 8 + sum(4 + len(name.encode("utf-16-le", "surrogatepass")) + 4 for name in names)
    if size > limits.MAX_TRANSACTION:
        sequence.set_capacity(min(size, limits.MAX_CAPACITY))
    reply.write_no_exception()
    sequence.write_int(len(names))
    for name in names:
        reply.write_string16(name)
    return True
