"""IPCSkeleton: who is calling, as whom we act, and the settings of this process (reference 1.8).

Owns: nothing; it reads the current call context and the driver.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.errors import ParamTypeError, ParamValueError
from binderkit.ipc.context import RemoteCaller, calling_identity, current, own_identity
from binderkit.ipc.driver import current_driver
from binderkit.ipc.option import CallingInfo
from binderkit.ipc.remote import IRemoteObject, calling_info
from binderkit.ipc.tokens import token_of

if TYPE_CHECKING:
    from binderkit.ipc.proxy import RemoteProxy

_stopped = threading.Event()


class IPCSkeleton:
    """Static methods about the call being handled; outside a call they tell about this process itself."""

    @staticmethod
    def get_context_object() -> RemoteProxy:
        """Return the proxy of SAMgr, starting it if allowed (raises NoServiceManagerError, 1007)."""
        return current_driver().context_object(start=True)

    @staticmethod
    def get_calling_pid() -> int:
        """Return the caller's pid as the kernel reported it; our own outside a call."""
        return calling_identity().pid

    @staticmethod
    def get_calling_uid() -> int:
        """Return the caller's uid as the kernel reported it; our own outside a call."""
        return calling_identity().uid

    @staticmethod
    def get_calling_token_id() -> int:
        """Return the caller's access token as SAMgr knows it for the caller's pid; our own outside a call.

        SAMgr is asked once per connection and never started for it.

        Returns:
            0 when the process was not started by SAMgr, when it runs on another device, or without a SAMgr.
        """
        return token_of(calling_identity())

    @staticmethod
    def get_calling_device_id() -> str:
        """Return the caller's device, "" for a caller of this device."""
        return calling_identity().device_id

    @staticmethod
    def get_dcalling_pid() -> int:
        """Return the pid another device claims for the caller, untrusted; -1 on this device (reference 1.8)."""
        caller = calling_identity()
        return caller.remote_pid if isinstance(caller, RemoteCaller) else -1

    @staticmethod
    def get_dcalling_uid() -> int:
        """Return the uid another device claims for the caller, untrusted; -1 on this device (reference 1.8)."""
        caller = calling_identity()
        return caller.remote_uid if isinstance(caller, RemoteCaller) else -1

    @staticmethod
    def get_dcalling_token_id() -> int:
        """Return the token another device claims for the caller, untrusted; 0 on this device (reference 1.8)."""
        caller = calling_identity()
        return caller.remote_token_id if isinstance(caller, RemoteCaller) else 0

    @staticmethod
    def get_local_device_id() -> str:
        """Return this device's UDID while a call of another device is handled, "" otherwise (reference 1.8)."""
        caller = calling_identity()
        return caller.local_device_id if isinstance(caller, RemoteCaller) else ""

    @staticmethod
    def is_local_calling() -> bool:
        """Whether the caller is on this device (True outside a call)."""
        return not calling_identity().device_id

    @staticmethod
    def is_handling_transaction() -> bool:
        """Whether a request is being handled here and now."""
        return current.get() is not None

    @staticmethod
    def get_calling_info() -> CallingInfo:
        """Return all of the above in one record."""
        return calling_info()

    @staticmethod
    def get_remaining_time() -> float | None:
        """Return the seconds until the caller stops waiting; None without a deadline or outside a call."""
        context = current.get()
        return None if context is None else context.remaining()

    @staticmethod
    def is_call_cancelled() -> bool:
        """Whether nobody waits for the result any more: deadline passed, caller gave up or died."""
        context = current.get()
        return context is not None and context.cancelled

    @staticmethod
    def check_call_cancelled() -> None:
        """Raise CallCancelledError when nobody waits for the result any more. Call it in long loops."""
        context = current.get()
        if context is not None:
            context.check_cancelled()

    @staticmethod
    def get_call_chain_id() -> int:
        """Return the id shared by all calls of the chain being handled; 0 outside a call."""
        context = current.get()
        return 0 if context is None else context.chain

    @staticmethod
    def reset_calling_identity() -> str:
        """Act as ourselves until restore_calling_identity; return the caller's identity ("" outside a call).

        The string is the decimal of (uid << 32 | pid) (reference 1.8).
        """
        context = current.get()
        if context is None:
            return ""
        identity = context.caller.identity()
        context.caller = own_identity()
        return identity

    @staticmethod
    def restore_calling_identity(identity: str) -> None:
        """Act for the caller again.

        Args:
            identity: what reset_calling_identity returned in this call.

        Raises:
            ParamTypeError, ParamValueError: no string, or not the identity of this call's caller (401).
        """
        if not isinstance(identity, str):
            raise ParamTypeError(f"expected the string of reset_calling_identity, got {type(identity).__name__}")
        context = current.get()
        if context is None:
            return
        if identity == context.origin.identity():
            context.caller = context.origin
        elif identity != context.caller.identity():
            raise ParamValueError("this identity does not belong to the caller of the current call")

    @staticmethod
    def flush_cmd_buffer(remote: IRemoteObject) -> None:
        """Send what is queued for the process of ``remote`` (released references) now."""
        if not isinstance(remote, IRemoteObject):
            raise ParamTypeError(f"expected a remote object, got {type(remote).__name__}")
        connection = getattr(remote, "_connection", None)
        if connection is not None:
            connection.flush()

    @staticmethod
    def set_max_work_thread_num(count: int) -> None:
        """Handle at most ``count`` requests at once, 1–32 (default 16).

        Raises:
            ParamTypeError, ParamValueError: no int, or out of range (401).
        """
        if isinstance(count, bool) or not isinstance(count, int):
            raise ParamTypeError(f"expected a number of threads, got {type(count).__name__}")
        if not limits.MIN_WORK_THREADS <= count <= limits.MAX_WORK_THREADS:
            raise ParamValueError(
                f"the number of work threads is {limits.MIN_WORK_THREADS} to {limits.MAX_WORK_THREADS}, got {count}"
            )
        current_driver().set_max_threads(count)

    @staticmethod
    def join_work_thread() -> None:
        """Serve until stop_work_thread is called; a service's main thread waits here."""
        current_driver()
        _stopped.wait()
        _stopped.clear()

    @staticmethod
    def stop_work_thread() -> None:
        """Let join_work_thread return."""
        _stopped.set()
