"""Two devices with real local drivers and real processes: sockets on both ends, and between them a simulated network.

Device a: a node that speaks for it and a node of an app, connected by a socket. Device b: this process's own driver
speaks for it, its app is a child process.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import binderkit as bk
from binderkit.dbinder.service import DBinderService
from binderkit.driver.unix import handshake
from binderkit.driver.unix.node import Node
from binderkit.ipc.rpc_proxy import RpcProxy
from binderkit.process import local_node
from binderkit.softbus.calls import Calls
from binderkit.softbus.engine import TrustSnapshot
from tests.dbinder.devices import Devices, eventually
from tests.dbinder.service import call

ABILITY = 5000


GET, OFFER = 1, 2
"""What the desk does."""


class Desk(bk.RemoteObject):
    """Gives an app of device a what it asks for, and takes its object as the ability of device a."""

    def __init__(self, dbinder: DBinderService, device: str, abilities: dict[int, Any]) -> None:
        super().__init__("test.IDesk")
        self._dbinder = dbinder
        self._device = device
        self._abilities = abilities

    def on_remote_message_request(self, code: int, data: Any, reply: Any, option: Any) -> bool:
        if code == OFFER:
            self._abilities[ABILITY] = data.read_remote_object()
        else:
            reply.write_remote_object(self._dbinder.get(self._device, ABILITY))
        return True


class Real:
    """The two devices."""

    def __init__(self, offered: str) -> None:
        self.devices = Devices("a", "b")
        a, b = self.devices.all
        a.stop()
        b.stop()
        self.gateway, self.app = Node(title="gateway"), Node(title="app")
        self.child = bk.spawn(offered)
        self.abilities: dict[int, Any] = {}
        self.a, self.a_calls = self._dbinder(a.udid, self.gateway, self.abilities)
        self.b, self.b_calls = self._dbinder(b.udid, local_node(), {ABILITY: self.child.root})
        self.udid = a.udid
        self.b_udid = b.udid
        for calls in (self.a_calls, self.b_calls):
            calls.engine.set_trust(_trust(calls.engine.udid, {a.udid, b.udid}))
        eventually(lambda: self.a._devices and self.b._devices, "the devices see each other")
        self.gateway.become_context(Desk(self.a, b.udid, self.abilities))
        ours, theirs = handshake.pair()
        self.gateway.serve_root(theirs)
        self.desk = self.app.join(ours)

    def _dbinder(self, udid: str, node: Node, abilities: dict[int, Any]) -> tuple[DBinderService, Calls]:
        calls = Calls(self.devices.network.engine(udid))
        return DBinderService(calls, self.devices.bulk.port(udid), abilities.get, udid=udid, driver=node), calls

    def get(self) -> RpcProxy:
        """Return the proxy the app of device a has of device b's ability."""
        proxy = call(self.desk, GET).read_remote_object()
        assert isinstance(proxy, RpcProxy)
        return proxy

    def offer(self, stub: bk.RemoteObject) -> None:
        """Make an object of the app of device a its ability."""
        call(self.desk, OFFER, lambda data: data.write_remote_object(stub))

    def held(self) -> tuple[dict[str, int], dict[str, int]]:
        """Return what the two devices hold of each other, after everything that waits was said."""
        for node in (self.app, self.gateway, local_node()):
            node.flush_released()
        for dbinder in (self.a, self.b):
            assert dbinder.outbox.flush(10)
        return self.a.statistics(), self.b.statistics()

    def close(self) -> None:
        for calls, dbinder in ((self.a_calls, self.a), (self.b_calls, self.b)):
            calls.close()
            dbinder.close()
        self.app.close()
        self.gateway.close()
        self.child.close()
        self.devices.close()


def _trust(udid: str, udids: set[str]) -> Any:
    return TrustSnapshot(udid, frozenset(udids), b"", b"", Path("unused"))
