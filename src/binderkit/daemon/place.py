"""Where SAMgr is found: the socket of its runtime directory, or handle 0 of a binder device.

Owns: what the daemon must know of the driver it serves by. How it becomes SAMgr there, whether another one is there
already, and when nobody can find it any more.

Rules upheld: who may not use SAMgr is refused by the user that the kernel names: over sockets when it connects, over a
device, which has no connections, with every request.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Final, Protocol

from binderkit.driver.unix import rendezvous
from binderkit.driver.unix.node import Node
from binderkit.errors import IpcError, NoServiceManagerError, RefusedError, ServiceError
from binderkit.interop.service_manager import variant_for
from binderkit.ipc.driver import Driver

if TYPE_CHECKING:
    from binderkit.driver.kernel.node import KernelNode
    from binderkit.ipc.context import Caller
    from binderkit.ipc.remote import RemoteObject

    Admission = Callable[[Caller], str | None]

VACATED_WAIT: Final = 5.0
"""Seconds a device may take until its last context manager, which was killed, is gone."""
_PAUSE: Final = 0.02


class Place(Protocol):
    """Where the daemon of one runtime directory is found."""

    @property
    def title(self) -> str:
        """What it is called in texts."""

    def taken(self) -> bool:
        """Whether somebody answers there."""

    def take(self, stub: RemoteObject, admission: Admission) -> Callable[[], None]:
        """Make ``stub`` SAMgr; return what is to be called at the end.

        Args:
            admission: says why a caller may not use SAMgr, None if it may.

        Raises:
            RefusedError: there is a SAMgr already (303).
        """

    def lost(self) -> str | None:
        """Return why nobody can find SAMgr there any more, None as long as it is found."""

    def check_android(self, level: int) -> None:
        """Raise unless programs of an Android of this API level can find SAMgr there.

        Raises:
            ServiceError: they cannot (1001). ParamValueError: no API level (401).
        """


def place_of(driver: Driver, directory: Path) -> Place:
    """Return where the daemon of a runtime directory is found by ``driver``.

    Raises:
        IpcError: it cannot be found by that driver at all.
    """
    if isinstance(driver, Node):
        return SocketPlace(driver, directory)
    if driver.name == "kernel":
        return DevicePlace(driver, directory)  # type: ignore[arg-type]  # the module is loaded where it is used
    raise IpcError(f"a daemon serves by the driver unix or kernel, this process uses {driver.name!r}")


class _File:
    """A file or folder that must stay what it is now."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._now = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            facts = os.stat(self._path)
        except FileNotFoundError:
            return None
        return facts.st_dev, facts.st_ino

    def lost(self) -> str | None:
        """Return what became of it, None if nothing did."""
        found = self._look()
        if found is None:
            return f"{self._path} was removed, nobody can find this daemon any more"
        return None if found == self._now else f"{self._path} belongs to somebody else now"


class SocketPlace:
    """The listening socket of a runtime directory."""

    def __init__(self, node: Node, directory: Path) -> None:
        self._node = node
        self._directory = directory
        self._socket: _File | None = None
        self.title = str(directory)

    def taken(self) -> bool:
        """Whether a SAMgr listens."""
        sock = rendezvous.connect(self._directory)
        if sock is None:
            return False
        sock.close()
        return True

    def take(self, stub: RemoteObject, admission: Admission) -> Callable[[], None]:
        """Listen (see Place.take)."""
        end = rendezvous.serve_context(self._node, stub, admission=admission)
        self._socket = _File(self._directory / rendezvous.SOCKET)
        return end

    def lost(self) -> str | None:
        """Say so when the socket was taken away."""
        return None if self._socket is None else self._socket.lost()

    def check_android(self, level: int) -> None:
        """Refuse: they know binder devices only."""
        raise ServiceError(
            f"Android's programs (API level {level}) find SAMgr on a binder device only; set BINDERKIT_DRIVER=kernel, "
            "or take 'android' out of the policy"
        )


class DevicePlace:
    """The context manager of a binder device.

    The kernel lets go of the place when this process leaves the device, so there is nothing to undo at the end; whoever
    looks for SAMgr while it still ends its services finds it. The runtime directory has the files of the device all the
    same, and the daemon ends with it.
    """

    def __init__(self, node: KernelNode, directory: Path) -> None:
        self._node = node
        self._folder = _File(directory)
        self.title = f"{node.device.path}, with its files in {directory}"

    def taken(self) -> bool:
        """Whether the device has a context manager that answers."""
        try:
            self._node.context_object(start=False)
        except NoServiceManagerError:
            return False
        except RefusedError:
            return True  # it answers that we may not use it
        return True

    def take(self, stub: RemoteObject, admission: Admission) -> Callable[[], None]:
        """Become the context manager (see Place.take).

        Raises:
            RefusedError: another process is it, whichever; or a process of another user was it before (303).
        """
        until, rest = time.monotonic() + VACATED_WAIT, threading.Event()
        while True:
            try:
                self._node.become_context(stub, admission)
                return _nothing
            except RefusedError as refusal:
                # The kernel takes its time to let go of a manager that was killed.
                if self.taken():
                    text = f"{self._node.device.path} has a context manager already: {self._whose()}"
                    raise RefusedError(text) from refusal
                if time.monotonic() > until:
                    raise
            rest.wait(_PAUSE)

    def _whose(self) -> str:
        try:
            owner = self._node.context_object(start=False).owner
        except IpcError as error:
            return str(error.args[0])
        if not owner.pid:
            return "a program that is not binderkit's, for example Android's servicemanager; name another device"
        return f"process {owner.pid} of uid {owner.uid}; end it, or name another device by BINDERKIT_DEVICE"

    def lost(self) -> str | None:
        """Say so when the runtime directory was taken away."""
        return self._folder.lost()

    def check_android(self, level: int) -> None:
        """Check the level alone."""
        variant_for(level)


def _nothing() -> None:
    """There is nothing to undo."""
