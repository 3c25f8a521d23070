"""The distributed scheduler, system ability 1401: connections to service abilities of other devices (reference 3.5).

Owns: the connections of this device's processes to abilities of others (peer_scheduler.py: those of others to ours):

    client -> scheduler (A) --devices--> scheduler (B) -> ability manager (B) -> ability

It lives in the process that speaks for the device, because a proxy of another device's object cannot be passed on
between processes (reference 0, C4): here the object is the stand-in itself, which may be given to the client.

Rules upheld: a client needs ohos.permission.DISTRIBUTED_DATASYNC here, the ability's application there; only the device
that was asked says what became of a connection; whoever is connected is told once when the service, its device or the
network goes; when the client ends, the other device is told.

Locks: ``_lock`` guards the table and the states of its connections; nothing is called while it is held. What a client
is to hear is queued under it, and told in that order.
"""

from __future__ import annotations

import logging
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from binderkit import limits
from binderkit.ability import codes
from binderkit.ability.contracts import (
    IAbilityConnection,
    IDistributedScheduler,
    IPeerScheduler,
    Refusal,
)
from binderkit.ability.serial import Serial
from binderkit.ability.want import ElementName, Want
from binderkit.dbinder.peer_scheduler import Managers, PeerScheduler, State, Watcher
from binderkit.errors import CallTimeoutError, IpcError, RefusedError, ServiceError
from binderkit.interface import proxy
from binderkit.ipc.context import Caller, calling_identity, known_caller
from binderkit.ipc.proxy import RemoteProxy
from binderkit.ipc.tokens import token_of
from binderkit.samgr.access import verify_access_token

if TYPE_CHECKING:
    from binderkit.dbinder.service import DBinderService
    from binderkit.ipc.remote import IRemoteObject

__all__ = ["DistributedScheduler", "may_connect_devices"]

_log = logging.getLogger("binderkit.dbinder")
_OUR_DEVICE: Final = "leave device_id empty for an ability of this device"


def may_connect_devices(caller: Caller) -> bool:
    """Whether a process of this device has ohos.permission.DISTRIBUTED_DATASYNC.

    Raises:
        NoServiceManagerError, DeadObjectError, CallTimeoutError: SAMgr cannot be asked (1007, -32, 502).
    """
    return verify_access_token(token_of(caller), codes.DISTRIBUTED_DATASYNC)


class DistributedScheduler(IDistributedScheduler):
    """System ability 1401. Register it with SAMgr, and give ``peer_side`` to other devices that ask for 1401.

    Args:
        dbinder: the objects of other devices.
        network_id: of this device.
        manager: returns the ability manager of this device (AbilityError: it is not there).
        permitted: whether a process of this device may connect to abilities of others.
    """

    def __init__(
        self,
        dbinder: DBinderService,
        network_id: str,
        manager: Managers,
        permitted: Callable[[Caller], bool] = may_connect_devices,
    ) -> None:
        self._dbinder = dbinder
        self._own_names = (dbinder.udid, network_id)
        self._permitted = permitted
        self._lock = threading.Lock()
        self._serial = Serial()
        self._links: dict[IAbilityConnection, _Link] = {}
        self._per_client: Counter[tuple[int, int]] = Counter()
        self.peer_side = PeerScheduler(manager)
        dbinder.on_device_lost(self._device_lost)

    def is_local_device(self, device_id: str) -> bool:
        """Return whether ``device_id`` is this device."""
        return device_id in self._own_names

    def connect_remote_ability(self, want: Want, callback: IAbilityConnection) -> None:
        """Connect ``callback`` to an ability of another device.

        Raises:
            Refusal: the caller lacks the permission, or is of another device (201); no such device is online
                (16000001); it has no scheduler, left, or does not answer, or there are too many connections (16000050).
        """
        caller = known_caller()
        self._check_permission(caller, want)
        udid = self._resolved(want)
        link = self._added(caller, udid, want, callback)
        try:
            link.watch_client()
            peer = proxy(IPeerScheduler, self._dbinder.get(udid, codes.SCHEDULER_ID))
            peer.connect_from_remote(replace(want, device_id=""), link)
        except IpcError as error:
            if self.over(link, None):
                raise Refusal(codes.INTERNAL, _why_not_reached(want, error)) from error
            return  # the device left meanwhile, and the client was told
        with self._lock:
            link.peer = peer
            left = link.state in (State.DISCONNECTING, State.OVER)
        if left:
            link.leave()  # the client ended before there was anybody to tell

    def disconnect_remote_ability(self, callback: IAbilityConnection) -> None:
        """End a connection.

        Raises:
            Refusal: it does not exist, is another caller's, or is not connected (16000050).
        """
        caller = known_caller()
        with self._lock:
            link = self._links.get(callback)
            if link is None or link.client != _client(caller):
                raise Refusal(
                    codes.INTERNAL, "CONNECTION_NOT_EXIST: this caller has no such connection; it ended, or never was"
                )
            if link.state is not State.CONNECTED:
                raise Refusal(
                    codes.INTERNAL,
                    f"INVALID_CONNECTION_STATE: the connection to {link.element} is {link.state.value}; only a "
                    "CONNECTED one can be disconnected",
                )
            link.state = State.DISCONNECTING
        link.leave()

    def connections(self) -> int:
        """Return how many connections to abilities of other devices there are."""
        with self._lock:
            return len(self._links)

    # --- checks ----------------------------------------------------------------------------------

    def _check_permission(self, caller: Caller, want: Want) -> None:
        if caller.device_id or not self._permitted(caller):
            raise Refusal(
                codes.PERMISSION_DENIED,
                f"process {caller.pid} lacks {codes.DISTRIBUTED_DATASYNC}, needed for {want.element} of another "
                "device; its manifest must ask for it and this device's permissions.toml must grant it",
            )

    def _resolved(self, want: Want) -> str:
        if want.device_id in ("", *self._own_names):
            raise Refusal(codes.INTERNAL, f"{want.element} is of this device; {_OUR_DEVICE}")
        try:
            return self._dbinder.resolve(want.device_id)
        except ServiceError as error:
            raise Refusal(codes.ABILITY_NOT_FOUND, str(error.args[0])) from error

    def _added(self, caller: Caller, udid: str, want: Want, callback: IAbilityConnection) -> _Link:
        client = _client(caller)
        with self._lock:
            if callback in self._links:
                raise Refusal(
                    codes.INTERNAL,
                    "this callback object is in use for a connection; make a new one for each connection",
                )
            if self._per_client[client] >= limits.MAX_CONNECTIONS_PER_CLIENT:
                raise Refusal(
                    codes.INTERNAL,
                    f"process {caller.pid} has {limits.MAX_CONNECTIONS_PER_CLIENT} connections to abilities of other "
                    "devices, which is the limit; disconnect those that are not needed",
                )
            self._per_client[client] += 1
            link = self._links[callback] = _Link(self, client, udid, want, callback)
        return link

    # --- what becomes of a connection ------------------------------------------------------------

    def connected(self, link: _Link, remote: IRemoteObject) -> None:
        """The other device gave the ability's object."""
        with self._lock:
            wanted = link.state is State.CONNECTING
            if wanted:
                link.state = State.CONNECTED
                self._serial.put(link, lambda: link.tell_connected(remote))
        if wanted:
            self._serial.drain([link])

    def over(self, link: _Link, tell: Callable[[], None] | None) -> bool:
        """End a connection, and have ``tell`` tell the client; return whether it had not ended already."""
        with self._lock:
            known = self._links.get(link.callback) is link
            link.state = State.OVER
            if known:
                del self._links[link.callback]
                self._per_client[link.client] -= 1
                if not self._per_client[link.client]:
                    del self._per_client[link.client]
                if tell is not None:
                    self._serial.put(link, tell)
        if known:
            link.forget_client()
            self._serial.drain([link])
        return known

    def client_died(self, link: _Link) -> None:
        """Nobody is connected any more."""
        if self.over(link, None):
            link.leave()

    def _device_lost(self, udid: str, why: str) -> None:
        """A device left, or began anew: what it was asked, and what it asked, is over (dbinder)."""
        with self._lock:
            lost = [link for link in self._links.values() if link.device == udid]
        visits = self.peer_side.lost_visits(udid)

        def end() -> None:
            for link in lost:
                link.device_lost(why)
            for visit in visits:
                visit.leave(silently=True)

        if lost or visits:
            self._dbinder.driver.submit(end)  # not here: who tells us must not wait for clients


def _client(caller: Caller) -> tuple[int, int]:
    return caller.uid, caller.pid


def _why_not_reached(want: Want, error: IpcError) -> str:
    text = error.args[0] if error.args else error
    if isinstance(error, CallTimeoutError):
        return f"device {want.device_id[:16]} does not answer, so {want.element} was not connected: {text}"
    return f"{want.element} cannot be connected: {text}"


class _Link(IAbilityConnection):
    """A connection of a process of this device to an ability of another one; that device's scheduler calls it."""

    def __init__(
        self,
        scheduler: DistributedScheduler,
        client: tuple[int, int],
        device: str,
        want: Want,
        callback: IAbilityConnection,
    ) -> None:
        self._scheduler = scheduler
        self._recipient = Watcher(lambda: scheduler.client_died(self))
        self.client = client
        self.device = device
        self.element = want.element
        self.callback = callback
        self.peer: IPeerScheduler | None = None
        self.state = State.CONNECTING

    # --- called by the other device --------------------------------------------------------------

    def connect_done(self, element: ElementName, remote: IRemoteObject) -> None:
        """The ability's object is there."""
        self._check_caller()
        self.element = replace(element, device_id=self.element.device_id)
        self._scheduler.connected(self, remote)

    def connect_failed(self, element: ElementName, code: int, text: str) -> None:
        """There will be no connection."""
        self._check_caller()
        self._scheduler.over(self, lambda: self._tell(lambda: self.callback.connect_failed(self.element, code, text)))

    def disconnect_done(self, element: ElementName, result: int, text: str) -> None:
        """The connection is over."""
        self._check_caller()
        self._scheduler.over(
            self, lambda: self._tell(lambda: self.callback.disconnect_done(self.element, result, text))
        )

    def _check_caller(self) -> None:
        caller = calling_identity()
        if caller.device_id != self.device:
            raise RefusedError(f"only device {self.device[:8]} says what became of this connection, not {caller!r}")

    # --- done here -------------------------------------------------------------------------------

    def leave(self) -> None:
        """Have the other device disconnect."""
        if self.peer is None:
            return  # whoever is about to ask it will
        try:
            self.peer.disconnect_from_remote(self)
        except IpcError as error:
            # Only a device that is gone takes no one-way call: there, everything of ours ended.
            self.device_lost(str(error))

    def device_lost(self, why: str) -> None:
        """Nothing more will be heard from the other device."""
        if self.state is State.CONNECTING:
            text = f"{self.element} was not connected: {why}"
            self._scheduler.over(
                self, lambda: self._tell(lambda: self.callback.connect_failed(self.element, codes.INTERNAL, text))
            )
            return
        self._scheduler.over(
            self, lambda: self._tell(lambda: self.callback.disconnect_done(self.element, codes.TARGET_DIED, why))
        )

    def tell_connected(self, remote: IRemoteObject) -> None:
        """Give the client the object."""
        try:
            self.callback.connect_done(self.element, remote)
        except IpcError as error:
            _log.info("a client of %s cannot be given its object: %s", self.element, error)
            self._scheduler.client_died(self)

    def _tell(self, call: Callable[[], None]) -> None:
        try:
            call()
        except IpcError as error:
            _log.info("a client of %s is gone itself: %s", self.element, error)

    def watch_client(self) -> None:
        """Have the connection ended when the client's process ends (DeadObjectError: it did)."""
        remote = self.callback.as_object()
        if isinstance(remote, RemoteProxy):
            remote.register_death_recipient(self._recipient)

    def forget_client(self) -> None:
        """It is told, or gone."""
        remote = self.callback.as_object()
        if isinstance(remote, RemoteProxy):
            remote.unregister_death_recipient(self._recipient)
