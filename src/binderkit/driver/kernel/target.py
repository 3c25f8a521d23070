"""Where the calls of one proxy go: a handle of the device.

Owns: ``Target``, the Connection of one remote object. The kernel tells of deaths for each object and knows no
connections, so there is one of these for each handle, not one for the device.
"""

from __future__ import annotations

import weakref
from typing import TYPE_CHECKING

from binderkit.driver.kernel import calls
from binderkit.errors import DeadObjectError
from binderkit.ipc.context import Caller
from binderkit.ipc.proxy import RemoteProxy

if TYPE_CHECKING:
    from binderkit.driver.kernel.node import KernelNode
    from binderkit.ipc.option import MessageOption
    from binderkit.parcel import MessageSequence


class Target:
    """An object of another process (see ipc/driver.py: Connection).

    Attributes:
        node: the driver it belongs to.
        handle: the kernel's number of the object in this process.
        cookie: what the kernel says when it died.
        flags: NODE_OURS and NODE_FOREIGN, as whoever brought it says.
        proxy: weak reference to its one proxy.
        is_dead: whether its process is known to be gone.
    """

    __slots__ = ("_owner", "cookie", "flags", "handle", "is_dead", "node", "proxy")

    def __init__(self, node: KernelNode, handle: int, cookie: int, flags: int) -> None:
        self.node = node
        self.handle = handle
        self.cookie = cookie
        self.flags = flags
        self.is_dead = False
        self.proxy: weakref.ref[RemoteProxy] | None = None
        self._owner: Caller | None = None

    @property
    def caller(self) -> Caller:
        """Identity of the object's process: its user from the kernel, its pid as the process itself says.

        The kernel tells nobody whose object a handle is. An object of this package is asked once, and so is whatever
        is handle 0; a process that cannot be asked has pid 0 and uid -1.
        """
        if self._owner is None and not self.is_dead:
            self._owner = calls.ask_owner(self)
        return self._owner or Caller(0, -1, -1)

    def transact(
        self, handle: int, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
    ) -> int:
        """Make a synchronous or one-way call (see Connection.transact)."""
        return calls.transact(self, code, data, reply, option)

    async def transact_async(
        self, handle: int, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
    ) -> int:
        """The same for a coroutine, on a thread kept for that (see Connection.transact_async)."""
        from binderkit.driver.kernel.coroutines import transact_async  # asyncio: only programs that use it pay for it

        return await transact_async(self, code, data, reply, option)

    def flush(self) -> None:
        """Give released references back now."""
        self.node.flush_released()

    def proxy_gone(self, _: weakref.ref[RemoteProxy]) -> None:
        """The proxy ended (runs anywhere: enqueue only)."""
        self.node.targets.dropped.put(self)

    def learn_owner(self, owner: Caller) -> None:
        """Note whose object this is: who brought it says that it is its own."""
        self._owner = owner

    def dead_error(self) -> DeadObjectError:
        """Return the error of a call to an object that is gone."""
        whose = f"process {self._owner.pid}" if self._owner else "the process"
        return DeadObjectError(
            f"{whose} of object {self.handle} is gone, or its thread ended; look the object up again"
        )

    def __repr__(self) -> str:
        whose = f", {self._owner!r}" if self._owner else ""  # asking would be a call
        return f"<Target {self.handle} of {self.node.device.path}{whose}{' dead' if self.is_dead else ''}>"
