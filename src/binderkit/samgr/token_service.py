"""SAMgr's answers about access tokens: transactions 110 … 112.

Owns: how the questions of ipc/tokens.py and access.py are read and answered; SystemAbilityManager takes this in as one
of its parts. Everybody whom SAMgr admits may ask: a token is no secret, and having its number gives nothing.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from binderkit.ipc import tokens
from binderkit.samgr import codes
from binderkit.samgr.tokens import TokenInfo, checked_permission

if TYPE_CHECKING:
    from binderkit.ipc.context import Caller
    from binderkit.parcel import MessageSequence
    from binderkit.samgr.tokens import TokenRegistry

Operation = Callable[["MessageSequence", "MessageSequence", "Caller"], "Awaitable[None] | None"]


class TokenService:
    """The part of SAMgr that knows tokens.

    Attributes:
        operations: what SAMgr calls for which transaction code, after it checked the interface token.
    """

    def __init__(self, registry: TokenRegistry) -> None:
        self._registry = registry
        self.operations: dict[int, Operation] = {
            codes.TOKEN_OF_PID: self._token_of_pid,
            codes.VERIFY_TOKEN: self._verify,
            codes.TOKEN_INFO: self._info,
        }

    def permits(self, caller: Caller, permission: str) -> bool:
        """Whether a caller of SAMgr itself has a permission: the rule of access.py."""
        if caller.device_id or not caller.pid:
            return False  # not of this device, or not known which process it is
        token = self._registry.token_of_caller(caller.pid, caller.uid)
        return self._registry.verify(token, permission) if token else caller.uid in (0, self._registry.owner)

    def install(self) -> None:
        """Have this very process answer itself: SAMgr cannot ask itself through its socket."""
        tokens.use_source(self._registry)

    def close(self) -> None:
        """Take ``install`` back."""
        if tokens.source() is self._registry:
            tokens.use_source(None)

    def _token_of_pid(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        pid, uid = data.read_int(), data.read_long()
        token = self._registry.token_of_caller(pid, uid)
        reply.write_int(codes.OK)
        reply.write_long(token)

    def _verify(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        token, permission = data.read_long(), checked_permission(data.read_string())
        reply.write_int(codes.OK)
        reply.write_boolean(self._registry.verify(token, permission))

    def _info(self, data: MessageSequence, reply: MessageSequence, caller: Caller) -> None:
        info = self._registry.info(data.read_long())
        reply.write_int(codes.OK)
        write_info(reply, info)


def write_info(reply: MessageSequence, info: TokenInfo) -> None:
    """Write what is known of a token's holder."""
    reply.write_long(info.token)
    reply.write_int(info.pid)
    reply.write_long(info.uid)
    reply.write_string(info.name)
    reply.write_string(info.bundle)
    reply.write_string_array(list(info.permissions))


def read_info(reply: MessageSequence) -> TokenInfo:
    """Read it again.

    Raises:
        ParcelReadError: not everything is there (1900010).
    """
    token, pid, uid = reply.read_long(), reply.read_int(), reply.read_long()
    name, bundle, permissions = reply.read_string(), reply.read_string(), reply.read_string_array()
    return TokenInfo(token, pid, uid, name, bundle, tuple(permissions))
