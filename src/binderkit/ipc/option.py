"""How a call is made (MessageOption) and what came of it (RequestResult, CallingInfo).

Owns: the flags of reference 1.5 and the records of 1.6 and 1.7.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, NamedTuple

from binderkit import limits
from binderkit.errors import ParamTypeError, ParamValueError

if TYPE_CHECKING:
    from binderkit.parcel import MessageSequence


class MessageOption:
    """How a call is made: synchronous or one-way, and how long to wait (reference 1.5).

    Args:
        flags: TF_SYNC (default), or TF_ASYNC for a one-way call. ``True`` means TF_ASYNC.
        wait_time: seconds an RPC to another device waits, 1–3000 (<= 0 means 8).
        timeout: seconds this call may take on this device as well, None = no limit.
            The remaining time travels with the call and nested calls inherit it.

    Raises:
        ParamTypeError, ParamValueError: not a number, or a timeout outside (0, 3000] (401).
    """

    TF_SYNC: ClassVar[int] = 0
    TF_ASYNC: ClassVar[int] = 1
    TF_ACCEPT_FDS: ClassVar[int] = 0x10
    TF_WAIT_TIME: ClassVar[int] = limits.DEFAULT_WAIT_TIME

    __slots__ = ("_flags", "_timeout", "_wait_time")

    def __init__(
        self,
        flags: int | bool = 0,
        wait_time: int = limits.DEFAULT_WAIT_TIME,
        *,
        timeout: float | None = None,
    ) -> None:
        self._flags = _checked_flags(flags)
        self._wait_time = _clamped(wait_time)
        self._timeout = _checked_timeout(timeout)

    def get_flags(self) -> int:
        """Return the flags."""
        return self._flags

    def set_flags(self, flags: int) -> None:
        """Set the flags (they replace the old ones; OpenHarmony ORs them)."""
        self._flags = _checked_flags(flags)

    def is_async(self) -> bool:
        """Whether the call is one-way: no reply, no result, no error of the handler."""
        return bool(self._flags & 1)

    def set_async(self, is_async: bool) -> None:
        """Make the call one-way, or synchronous again."""
        self._flags = self._flags | 1 if is_async else self._flags & ~1

    def get_wait_time(self) -> int:
        """Return the seconds an RPC waits for its reply."""
        return self._wait_time

    def set_wait_time(self, wait_time: int) -> None:
        """Set the seconds an RPC waits: <= 0 gives 8, more than 3000 gives 3000."""
        self._wait_time = _clamped(wait_time)

    @property
    def timeout(self) -> float | None:
        """Seconds the call may take on this device, None = no limit."""
        return self._timeout

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self._timeout = _checked_timeout(seconds)

    def __repr__(self) -> str:
        kind = "TF_ASYNC" if self._flags & 1 else "TF_SYNC"
        return f"MessageOption({kind}, wait_time={self._wait_time}, timeout={self._timeout})"


class ReceivedOption(MessageOption):
    """The option a handler sees; shared by all requests, hence read-only."""

    __slots__ = ()

    def set_flags(self, flags: int) -> None:
        """Refused: a handler cannot change how it was called."""
        raise ParamValueError("the option of a received call is read-only; make a MessageOption for your own calls")

    def set_async(self, is_async: bool) -> None:
        """Refused: a handler cannot change how it was called."""
        self.set_flags(0)

    def set_wait_time(self, wait_time: int) -> None:
        """Refused: a handler cannot change how it was called."""
        self.set_flags(0)

    @property
    def timeout(self) -> float | None:
        """None: ask IPCSkeleton.get_remaining_time() for what is left of the caller's deadline."""
        return None

    @timeout.setter
    def timeout(self, seconds: float | None) -> None:
        self.set_flags(0)


def _checked_flags(flags: int | bool) -> int:
    if not isinstance(flags, int):
        raise ParamTypeError(f"flags must be an int such as MessageOption.TF_ASYNC, got {type(flags).__name__}")
    return int(flags)


def _clamped(wait_time: int) -> int:
    if isinstance(wait_time, bool) or not isinstance(wait_time, int):
        raise ParamTypeError(f"wait_time must be a whole number of seconds, got {type(wait_time).__name__}")
    if wait_time <= 0:
        return limits.DEFAULT_WAIT_TIME
    return min(wait_time, limits.MAX_WAIT_TIME)


def _checked_timeout(timeout: float | None) -> float | None:
    if timeout is None:
        return None
    if isinstance(timeout, bool) or not isinstance(timeout, (int, float)):
        raise ParamTypeError(f"timeout must be a number of seconds or None, got {type(timeout).__name__}")
    if not 0 < timeout <= limits.MAX_WAIT_TIME:
        raise ParamValueError(f"timeout must be above 0 and at most {limits.MAX_WAIT_TIME} seconds, got {timeout}")
    return float(timeout)


RECEIVED_SYNC = ReceivedOption(MessageOption.TF_SYNC)
RECEIVED_ASYNC = ReceivedOption(MessageOption.TF_ASYNC)


class RequestResult(NamedTuple):
    """What send_message_request gives back (reference 1.6); ``err, code, data, reply = ...`` works.

    Attributes:
        err_code: 0; every other outcome is raised as an error whose ``code`` is the native result.
        code: the transaction code that was sent.
        data: the sequence that was sent.
        reply: the sequence the stub answered with.
    """

    err_code: int
    code: int
    data: MessageSequence
    reply: MessageSequence


class CallingInfo(NamedTuple):
    """Who calls, as handed to on_remote_message_request(code, data, reply, option, calling_info) (reference 1.7)."""

    caller_pid: int
    caller_uid: int
    caller_token_id: int
    remote_device_id: str
    local_device_id: str
    is_local_calling: bool
