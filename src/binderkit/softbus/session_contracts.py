"""The contracts between an application and the softbus process, for sessions.

Owns: two interfaces and what travels in them. The application chooses the numbers of its sockets (above 0); those of
sessions that arrive at a listening one are given by the softbus process (below 0).

Nothing here waits for another device: sends are queued or refused for the moment, binds are answered by a call back.
"""

from __future__ import annotations

from dataclasses import dataclass

from binderkit.interface import Int32, Interface, method, oneway, raises

__all__ = ["ISessionListener", "ISessions", "PeerDescription", "SessionRefusal", "SocketDescription"]


@dataclass
class SessionRefusal(Exception):
    """The softbus process does not do it; ``code`` is SoftBus's number."""

    code: Int32
    text: str


@dataclass(frozen=True)
class SocketDescription:
    """What a socket is made with: see ``SocketInfo``."""

    name: str
    peer_name: str
    peer_network_id: str
    pkg_name: str
    data_type: Int32


@dataclass(frozen=True)
class PeerDescription:
    """Who is at the other end: see ``PeerSocketInfo``."""

    name: str
    pkg_name: str
    network_id: str
    udid: str
    data_type: Int32


class ISessionListener(Interface, descriptor="ohos.softbus.ISessionListener"):
    """What an application gives the softbus process to be told of its sockets; one session's calls come in order."""

    @method
    def negotiate(self, number: int, peer: PeerDescription) -> bool:
        """Return whether a listening socket takes a session."""

    @method
    def bound(self, number: int, session: int, peer: PeerDescription) -> None:
        """A session is open: ``session`` is ``number`` itself for a bound socket, a new number for a listening one."""

    @method
    @oneway
    def failed(self, number: int, code: Int32) -> None:
        """A bind did not work."""

    @method
    def received(self, number: int, kind: Int32, data: bytes) -> None:
        """Something came: the bytes of a frame of this kind."""

    @method
    @oneway
    def sent(self, number: int, serial: int, code: Int32) -> None:
        """What was sent with this serial number has arrived (0), or did not for all we know."""

    @method
    @oneway
    def room(self, number: int) -> None:
        """There is room again after a send that was refused."""

    @method
    def ended(self, number: int, reason: Int32) -> None:
        """The session ended, not by ``shutdown``; nothing comes after this."""


class ISessions(Interface, descriptor="ohos.softbus.ISessions"):
    """Sessions of the calling process."""

    @method
    @raises(SessionRefusal)
    def socket(self, listener: ISessionListener, number: int, info: SocketDescription) -> None:
        """Make a socket."""

    @method
    @raises(SessionRefusal)
    def listen(self, number: int, max_idle: int) -> None:
        """Listen at it; ``max_idle``: milliseconds, 0 for ever."""

    @method
    @raises(SessionRefusal)
    def bind(self, number: int, wait: int, max_idle: int) -> None:
        """Begin to bind it, for ``wait`` milliseconds; ``bound`` or ``failed`` follows."""

    @method
    @raises(SessionRefusal)
    def send(self, number: int, kind: Int32, data: bytes, serial: int) -> bool:
        """Queue the bytes of a frame; ``serial`` not 0: tell ``sent``. False: no room, ``room`` will be told."""

    @method
    def shutdown(self, number: int) -> None:
        """Forget it, after what was sent; unknown numbers are forgotten already."""
