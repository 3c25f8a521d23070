"""Who is calling, in which call: the context of the request that is being handled.

Owns: ``Caller`` (identity vouched for by the kernel), ``CallContext`` (one
request being handled) and ``current`` (the innermost one of this thread or
task). A ContextVar serves both threads and asyncio tasks; each nested request
has its own context, so the identity is right at every level (ARCHITECTURE,
Re-entrancy).
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from contextvars import ContextVar
from itertools import count
from typing import Any

from binderkit.errors import CallCancelledError, RefusedError


class Caller:
    """Identity of a calling process: what the kernel says, never what the peer claims.

    Attributes:
        pid: process id, uid and gid as the kernel reported them. The kernel's Binder names no process for a one-way
            call: pid is 0 then; what depends on the process asks ``known_caller`` or ``comes_from``.
        token_id: access token; 0 until ipc/tokens.py asked SAMgr for it, and when there is none.
        token_known: whether SAMgr was asked.
        device_id: "" for this device.
    """

    __slots__ = ("device_id", "gid", "pid", "token_id", "token_known", "uid")

    def __init__(self, pid: int, uid: int, gid: int, *, token_id: int = 0, device_id: str = "") -> None:
        self.pid = pid
        self.uid = uid
        self.gid = gid
        self.token_id = token_id
        self.token_known = token_id != 0
        self.device_id = device_id

    def identity(self) -> str:
        """Return the decimal of (uid << 32 | pid) as reset_calling_identity gives it (reference 1.8)."""
        return f"{self.device_id}{self.uid << 32 | self.pid}"

    def __repr__(self) -> str:
        device = f" device={self.device_id}" if self.device_id else ""
        return f"<Caller pid={self.pid} uid={self.uid}{device}>"


class RemoteCaller(Caller):
    """A process of another device: only ``device_id`` is proven, by that device's certificate.

    pid, uid and gid are -1 and there is no token, so that no check meant for processes of this device can be passed
    with numbers another device made up (reference 1.8, 4.3).

    Attributes:
        local_device_id: this device, as the other one knows it.
        remote_pid, remote_uid, remote_token_id: what that device says of the process; untrusted.
    """

    __slots__ = ("local_device_id", "remote_pid", "remote_token_id", "remote_uid")

    def __init__(
        self, device_id: str, local_device_id: str, remote_pid: int, remote_uid: int, remote_token_id: int
    ) -> None:
        super().__init__(-1, -1, -1, device_id=device_id)
        self.local_device_id = local_device_id
        self.token_known = True
        self.remote_pid = remote_pid
        self.remote_uid = remote_uid
        self.remote_token_id = remote_token_id


def own_identity() -> Caller:
    """Return this process as a caller."""
    return Caller(os.getpid(), os.getuid(), os.getgid())


class CallContext:
    """One request that is being handled.

    Attributes:
        caller: who calls (replaced by ourselves between reset and restore of the identity).
        origin: who calls, always.
        peer: the driver's connection the request came from.
        lane: where its reply goes; a nested call to the same peer uses it too.
        thread: ident of the thread that owns ``lane``.
        seq: the request's number on its lane.
        chain: id of the call chain, the same in every process of a chain.
        deadline: time.monotonic() at which the caller stops waiting, None = never.
        parent: the context this one is nested in.
    """

    __slots__ = (
        "_cancelled",
        "_on_cancel",
        "caller",
        "chain",
        "deadline",
        "lane",
        "origin",
        "parent",
        "peer",
        "seq",
        "thread",
    )

    def __init__(
        self,
        caller: Caller,
        peer: Any,
        lane: Any,
        thread: int,
        seq: int,
        chain: int,
        deadline: float | None,
        parent: CallContext | None,
    ) -> None:
        self.caller = self.origin = caller
        self.peer = peer
        self.lane = lane
        self.thread = thread
        self.seq = seq
        self.chain = chain
        self.deadline = deadline
        self.parent = parent
        self._cancelled = False
        self._on_cancel: Callable[[], object] | None = None

    def remaining(self) -> float | None:
        """Return the seconds left until the caller stops waiting, None without a deadline; never negative."""
        if self.deadline is None:
            return None
        return max(0.0, self.deadline - time.monotonic())

    @property
    def cancelled(self) -> bool:
        """Whether the caller gave up, died, or its deadline passed."""
        if self._cancelled or (self.peer is not None and self.peer.is_dead):
            return True
        return self.deadline is not None and time.monotonic() >= self.deadline

    def check_cancelled(self) -> None:
        """Raise CallCancelledError when nobody waits for the result any more."""
        if self.cancelled:
            raise CallCancelledError("the caller no longer waits for this call; stop working on it")

    def cancel(self) -> None:
        """Note that the caller gave up (called by the driver, from any thread)."""
        self._cancelled = True
        on_cancel = self._on_cancel
        if on_cancel is not None:
            on_cancel()

    def on_cancel(self, action: Callable[[], object] | None) -> None:
        """Have ``action`` called once when the caller gives up; at once if it already did."""
        self._on_cancel = action
        if action is not None and self._cancelled:
            action()


current: ContextVar[CallContext | None] = ContextVar("binderkit_call", default=None)
"""The innermost request being handled by this thread or task."""


def calling_identity() -> Caller:
    """Return the caller of the request being handled; this process itself outside a call."""
    context = current.get()
    return own_identity() if context is None else context.caller


def known_caller() -> Caller:
    """Return the same, for who decides or keeps something by the process that calls.

    Raises:
        RefusedError: the driver does not say which process it is: a one-way call over the kernel's Binder (303).
    """
    caller = calling_identity()
    if not caller.pid:
        raise RefusedError(
            f"which process of uid {caller.uid} calls is not known: the kernel's Binder does not tell it for a one-way "
            "call; make a call that waits for its answer"
        )
    return caller


def comes_from(caller: Caller, owner: Caller) -> bool:
    """Whether a call is one of the process that ``owner`` names, for objects that were given to that process alone.

    Of a one-way call over the kernel's Binder only the user is known, and that it came by a reference to the object,
    which nobody has to whom it was not given; so the user decides then.

    Args:
        caller: who calls. owner: whom the object is for, as ``RemoteProxy.owner`` of something of that process says.
    """
    return caller.pid == owner.pid if caller.pid else caller.uid == owner.uid


def _seed() -> count[int]:
    """Return a new series of chain ids: 32 random bits of this process above a running number."""
    return count(int.from_bytes(os.urandom(4), "little") << 32 | 1)


_chains = _seed()


def new_chain() -> int:
    """Return the id of a new call chain."""
    return next(_chains) & 0xFFFFFFFFFFFFFFFF


def _reseed() -> None:
    global _chains
    _chains = _seed()


os.register_at_fork(after_in_child=_reseed)
