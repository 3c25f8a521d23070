"""Objects of other processes that this one holds: one proxy, one kernel reference and one death notice each.

Owns: ``Targets``, from the kernel's handle to the ``Target`` behind a proxy. The kernel counts references for each
process and handle; this table takes exactly one (BC_ACQUIRE) when the first message brings a handle and gives it back
(BC_RELEASE) when the proxy is gone, together with the request to be told of the death.

How races end well: the end of a proxy only enqueues its target (a finalizer may run anywhere). Whoever works the queue
off looks again under the lock: if the handle came once more meanwhile, the target has a new proxy and nothing is given
back. Taking and giving back are written to the device under the lock, so the kernel sees them in this order. The
system call under it does not wait: it only writes.

Rules upheld: one proxy for each remote object and process; a death is told once, to the object it belongs to (cookies
are never used twice, handles are).
"""

from __future__ import annotations

import threading
import weakref
from queue import SimpleQueue
from typing import TYPE_CHECKING

from binderkit import limits
from binderkit.driver.kernel import protocol as p
from binderkit.driver.kernel.target import Target
from binderkit.errors import QuotaError
from binderkit.ipc.proxy import RemoteProxy

if TYPE_CHECKING:
    from binderkit.driver.kernel.device import Channel
    from binderkit.driver.kernel.node import KernelNode

_handle_command = p.COMMAND_HANDLE.pack
_death_command = p.COMMAND_DEATH.pack


class Targets:
    """The objects of other processes that somebody here holds."""

    def __init__(self, node: KernelNode) -> None:
        self._node = node
        self._lock = threading.Lock()
        self._by_handle: dict[int, Target] = {}
        self._by_cookie: dict[int, Target] = {}
        self._next_cookie = 1
        self.dropped: SimpleQueue[Target | None] = SimpleQueue()

    def receive(self, channel: Channel, handle: int, flags: int) -> RemoteProxy:
        """Return the proxy of ``handle``, which a message that is not freed yet brought (or which is 0).

        Args:
            flags: what came with the handle; those of ours are kept (NODE_OURS, NODE_FOREIGN).

        Raises:
            QuotaError: too many objects are held.
        """
        with self._lock:
            target = self._by_handle.get(handle)
            if target is None:
                if len(self._by_handle) >= limits.MAX_REFERENCES_PER_PEER:
                    raise QuotaError(
                        f"this process holds {len(self._by_handle)} objects of others, the limit is "
                        f"{limits.MAX_REFERENCES_PER_PEER}; drop proxies that are no longer needed"
                    )
                target = Target(self._node, handle, self._next_cookie, flags & (p.NODE_OURS | p.NODE_FOREIGN))
                self._next_cookie += 1
                channel.out += _handle_command(p.BC_ACQUIRE, handle)
                channel.out += _death_command(p.BC_REQUEST_DEATH_NOTIFICATION, handle, target.cookie)
                channel.flush()
                self._by_handle[handle] = self._by_cookie[target.cookie] = target
            proxy = None if target.proxy is None else target.proxy()
            if proxy is None:
                proxy = _proxy_of(target)
                target.proxy = weakref.ref(proxy, target.proxy_gone)
        return proxy

    def give_back(self, channel: Channel, target: Target) -> None:
        """The proxy of ``target`` ended: give its reference back, unless the handle came again meanwhile."""
        with self._lock:
            if target.proxy is not None and target.proxy() is not None:
                return
            if self._by_handle.get(target.handle) is not target:
                return
            del self._by_handle[target.handle]
            self._by_cookie.pop(target.cookie, None)
            channel.out += _death_command(p.BC_CLEAR_DEATH_NOTIFICATION, target.handle, target.cookie)
            channel.out += _handle_command(p.BC_RELEASE, target.handle)
            channel.flush()

    def replace_dead_root(self, channel: Channel) -> None:
        """Give the reference to a context manager that died back at once: a new one is handle 0 again."""
        with self._lock:
            target = self._by_handle.get(0)
            if target is None or not target.is_dead:
                return
            del self._by_handle[0]
            self._by_cookie.pop(target.cookie, None)
            channel.out += _death_command(p.BC_CLEAR_DEATH_NOTIFICATION, 0, target.cookie)
            channel.out += _handle_command(p.BC_RELEASE, 0)
            channel.flush()

    def died(self, cookie: int) -> Target | None:
        """Return the target a death notice is for, None if it was let go meanwhile."""
        with self._lock:
            return self._by_cookie.get(cookie)

    def live(self) -> list[RemoteProxy]:
        """Return the proxies of living objects that somebody holds."""
        with self._lock:
            targets = [target for target in self._by_handle.values() if not target.is_dead]
        proxies = [target.proxy() for target in targets if target.proxy is not None]
        return [proxy for proxy in proxies if proxy is not None]

    def all(self) -> list[Target]:
        """Return the targets of all handles."""
        with self._lock:
            return list(self._by_handle.values())


def _proxy_of(target: Target) -> RemoteProxy:
    if not target.flags & p.NODE_FOREIGN:
        return RemoteProxy(target, target.handle)
    from binderkit.ipc.rpc_proxy import RpcProxy  # only who has objects of other devices pays for it

    return RpcProxy(target, target.handle)
