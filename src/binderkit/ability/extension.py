"""ServiceExtensionAbility: what an application subclasses to offer a service ability (reference 3.3).

Owns: the class and its context. Nothing here runs by itself: host.py makes the object and calls it, one method at a
time, each on a worker thread or, if it is ``async def``, on the event loop that also runs the process's async handlers.

Rule upheld: connections that an ability made through its context end with it; that it did not disconnect them
is reported (reference 3.2, connection leak).
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from binderkit.ability import client
from binderkit.ipc.remote import IRemoteBroker, IRemoteObject

if TYPE_CHECKING:
    from binderkit.ability.options import ConnectOptions
    from binderkit.ability.want import ElementName, Want

_log = logging.getLogger("binderkit.ability")


class ServiceExtensionContext:
    """What an ability knows of itself, and what it can do.

    Attributes:
        element: where it is: bundle, module, ability.
    """

    def __init__(self, element: ElementName, terminate: Callable[[], None]) -> None:
        self.element = element
        self._terminate = terminate
        self._lock = threading.Lock()
        self._connections: set[int] = set()

    def terminate_self(self) -> None:
        """End this ability: clients get on_disconnect, then on_destroy is called. Returns before that.

        Raises:
            AbilityError: the ability manager is gone (16000050).
        """
        self._terminate()

    def connect_service_extension_ability(self, want: Want, options: ConnectOptions) -> int:
        """As the function of this name; the connection ends with this ability at the latest."""
        connection = client.connect_service_extension_ability(want, options)
        with self._lock:
            self._connections.add(connection)
        return connection

    def disconnect_service_extension_ability(self, connection: int) -> None:
        """As the function of this name."""
        with self._lock:
            self._connections.discard(connection)
        client.disconnect_service_extension_ability(connection)

    def start_service_extension_ability(self, want: Want) -> None:
        """As the function of this name."""
        client.start_service_extension_ability(want)

    def stop_service_extension_ability(self, want: Want) -> None:
        """As the function of this name."""
        client.stop_service_extension_ability(want)

    def close(self) -> None:
        """Disconnect what the ability left connected (called by its host at the end)."""
        with self._lock:
            left, self._connections = self._connections & client.open_connections(), set()
        for connection in left:
            _log.warning("%s was destroyed without disconnecting connection %d; it is ended", self.element, connection)
            client.disconnect_service_extension_ability(connection)


class ServiceExtensionAbility:
    """A service ability. Subclass it, override what you need, and name the class in the bundle's manifest.

    The methods are called one at a time. Each may be ``async def``. One that does not return in time (on_create and
    on_connect 10 s, on_request 5 s, on_destroy 5 s) ends the ability.

    Attributes:
        context: set before on_create.
    """

    context: ServiceExtensionContext

    def on_create(self, want: Want) -> Awaitable[None] | None:
        """Called once, first. Raising ends the ability, and everybody who waits for it is told.

        Args:
            want: of the first connect or start.
        """
        return None

    def on_connect(
        self, want: Want
    ) -> IRemoteObject | IRemoteBroker | Awaitable[IRemoteObject | IRemoteBroker | None] | None:
        """Return the object that clients get: a RemoteObject, or an object with a typed interface.

        Called for the first client only; later ones get the same object. None disconnects who waits.

        Args:
            want: of the first client that connected.
        """
        return None

    def on_request(self, want: Want, start_id: int) -> Awaitable[None] | None:
        """Called for every start.

        Args:
            want: of that start. start_id: its number, from 1.
        """
        return None

    def on_disconnect(self, want: Want) -> Awaitable[None] | None:
        """Called when the last client is gone; it has 1 s. The ability lives on if it was started.

        Args:
            want: of the first connect or start.
        """
        return None

    def on_destroy(self) -> Awaitable[None] | None:
        """Called once, last."""
        return None

    def on_dump(self, arguments: list[str]) -> list[str]:
        """Return lines that describe the ability's state; called by dump_ability, on any thread."""
        return [repr(self)]
