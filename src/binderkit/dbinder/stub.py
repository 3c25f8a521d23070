"""RemoteStub: stands on this device for an object of another one, and forwards its calls.

Owns: what is known of the object, and who is to be told of its death.

It is an ordinary object of the process that speaks for this device, so everything the local driver does holds for it:
one proxy per process, references, deadlines, nested calls, and the end of the processes that hold it.

Rules upheld (reference 0, 4.4): only the death of a registered system ability is told, and that of an anonymous one
refused, never silently; each notice is told once; a dead object stays dead.
"""

from __future__ import annotations

import logging
import sys
import threading
from typing import TYPE_CHECKING, Final

from binderkit.errors import ERR_DEAD_OBJECT, ERR_NOT_SUPPORTED, IpcError, ParamTypeError, RefusedError, RpcLimitError
from binderkit.ipc.dispatch import Failure, Forwarded
from binderkit.ipc.option import MessageOption
from binderkit.ipc.proxy import (
    INTERFACE_TRANSACTION,
    OBITUARY_TRANSACTION,
    PING_TRANSACTION,
    SYNCHRONIZE_REFERENCE,
    RemoteProxy,
)
from binderkit.ipc.remote import ForeignObject
from binderkit.ipc.rpc_proxy import DIED
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.dbinder.service import DBinderService
    from binderkit.dbinder.wire import ObjectRef

__all__ = ["RemoteStub"]

_log = logging.getLogger("binderkit.dbinder")
_ONE_WAY: Final = MessageOption(MessageOption.TF_ASYNC)
_MAX_NOTICES: Final = 1024


class RemoteStub(ForeignObject):
    """An object of another device. Made by DBinderService; there is one per object.

    Attributes:
        device: UDID of its device; object_id: its number there; generation: of that device when it was received.
        ability: whether it is a registered system ability there.
        why_dead: "" while it lives.
    """

    def __init__(self, service: DBinderService, reference: ObjectRef, generation: int) -> None:
        super().__init__(reference.descriptor)
        self._service = service
        self.device = reference.owner
        self.object_id = reference.object_id
        self.generation = generation
        self.ability = reference.ability
        self.why_dead = ""
        self._watched = False
        self._notices: list[RemoteProxy] = []
        self._lock = threading.Lock()

    def learn(self, reference: ObjectRef) -> None:
        """The object was received again: perhaps more is known of it now."""
        self.ability = self.ability or reference.ability
        self._descriptor = self._descriptor or reference.descriptor

    def on_remote_message_request(
        self, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption
    ) -> bool:
        """Forward a call to the other device.

        Raises:
            Forwarded: what the caller gets: dead object (-32), timeout (502), or what the object's process said.
            RpcLimitError, TooBigError, QuotaError: it cannot be sent; nothing was.
        """
        self.check_alive()
        self._service.forward(self, code, data, reply, oneway=option.is_async())
        return True

    def on_reserved(self, code: int, data: MessageSequence, reply: MessageSequence) -> bool:
        """PING goes there, INTERFACE only while the answer is unknown; OBITUARY stays here; nothing else is allowed."""
        if code == PING_TRANSACTION:
            self.check_alive()
            self._service.forward(self, code, MessageSequence(), MessageSequence(), oneway=False)
        elif code == INTERFACE_TRANSACTION:
            reply.write_string(self._asked_descriptor())
        elif code == SYNCHRONIZE_REFERENCE:
            reply.write_int(sys.getrefcount(self))
        elif code == OBITUARY_TRANSACTION:
            self._notify(data)
        else:
            raise RefusedError(f"code {code:#x} is not for objects of another device; ask on that device")
        return True

    def get_descriptor(self) -> str:
        """Return the descriptor, "" while nobody asked for it."""
        return self._descriptor

    def is_object_dead(self) -> bool:
        """Whether the object's process, its device, or the way there is known to be gone."""
        return bool(self.why_dead)

    def check_alive(self) -> None:
        """Raise what the caller of a dead object gets."""
        if self.why_dead:
            raise Forwarded(Failure(ERR_DEAD_OBJECT, "", self.why_dead, ""))

    def _asked_descriptor(self) -> str:
        if not self._descriptor:
            self.check_alive()
            answer = MessageSequence()
            self._service.forward(self, INTERFACE_TRANSACTION, MessageSequence(), answer, oneway=False)
            self._descriptor = answer.read_string()
        return self._descriptor

    def _notify(self, data: MessageSequence) -> None:
        """A proxy wants to be told of the death: ask the other device to tell us, once."""
        notice = data.read_remote_object()
        if not isinstance(notice, RemoteProxy):
            raise ParamTypeError(f"a death notice is an object of the process that asks, got {notice!r}")
        if not self.ability:
            raise RpcLimitError(
                f"{self!r} is no registered system ability, and nobody tells of the death of an anonymous object of "
                "another device: have it registered there with add_system_ability, or ping it now and then",
                code=ERR_NOT_SUPPORTED,
            )
        with self._lock:
            self.check_alive()
            self._notices = [known for known in self._notices if not known.is_object_dead()]
            if len(self._notices) >= _MAX_NOTICES:
                raise RefusedError(f"{len(self._notices)} death notices wait for {self!r} already")
            self._notices.append(notice)
            watched = self._watched
        if watched:
            return
        try:
            self._service.watch(self)
        except BaseException:
            with self._lock:
                self._notices = [known for known in self._notices if known is not notice]
            raise
        self._watched = True

    def died(self, why: str) -> None:
        """The object is gone: tell everybody who asked, once."""
        with self._lock:
            if self.why_dead:
                return
            self.why_dead = why
            notices, self._notices = self._notices, []
        for notice in notices:
            try:
                notice.send_request(DIED, MessageSequence(), MessageSequence(), _ONE_WAY)
            except IpcError as error:
                _log.debug("nobody left to tell of the death of %r: %s", self, error)

    def __repr__(self) -> str:
        name = f" {self._descriptor!r}" if self._descriptor else ""
        return f"<RemoteStub{name} object={self.object_id:#x} device={self.device[:8]}{' dead' * bool(self.why_dead)}>"
