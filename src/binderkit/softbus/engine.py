"""What carries requests between trusted devices: the narrow interface, and the records that cross it.

Owns: ``Engine`` and what it speaks in (``Incoming``, ``Presence``,
``DeviceInfo``, ``TrustSnapshot``), and the three ways in which a request ends
without an answer.

Why so narrow: two engines stand behind it, Zenoh (``zenoh_engine``) and a
simulated network (``memory``), and another may come. Everything above asks for
no more than "send these bytes to that device, tell me what came back, and tell
me who is there".

Rules upheld here:

- ``Incoming.source`` is proven by the device's certificate, never taken from
  the message.
- The engine promises at most one delivery per request sent, and *nothing* about
  requests that end without an answer: they may have been delivered. Whoever
  sends again must number its requests (``calls`` does).
- Requests of one device to another arrive in the order in which they were sent,
  as long as the link between the two stands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum, IntEnum
from pathlib import Path
from typing import Final, Protocol

from binderkit import limits
from binderkit.errors import (
    ERR_DEAD_OBJECT,
    ERR_FAILED_REPLY,
    ERR_WAIT_REPLY_TIMEOUT,
    ParamValueError,
    TransactionError,
)

__all__ = [
    "Busy",
    "DeviceInfo",
    "Engine",
    "EngineError",
    "EngineTimeout",
    "Incoming",
    "Kind",
    "NoAnswer",
    "Outcome",
    "Presence",
    "PresenceEvent",
    "TrustSnapshot",
    "check_request",
]


class EngineError(TransactionError):
    """A request ended without an answer; which way is said by the subclass."""


class NoAnswer(EngineError):
    """No reply at all: nobody is there, the link broke, or the request was refused. Perhaps executed (-32)."""

    code = ERR_DEAD_OBJECT


class EngineTimeout(EngineError):
    """No reply in time; perhaps executed (502)."""

    code = ERR_WAIT_REPLY_TIMEOUT


class Busy(EngineError):
    """The other device took the request but has no room for it; not executed (29201)."""

    code = ERR_FAILED_REPLY


Outcome = bytes | EngineError
"""How a posted request ended: the answer, or why there is none."""


class Kind(IntEnum):
    """What a request is for."""

    CALL = 1
    ONEWAY = 2
    CONTROL = 3


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """What a device says of itself.

    Attributes:
        udid: its stable identity, 64 hexadecimal digits (SHA-256 of its public key); proven by its certificate.
        network_id: its name in the network, new with every boot of its softbus (reference 4.7).
        boot: 16 hexadecimal digits, new with every boot: old proxies of an older boot are dead.
        name: for people, at most 64 characters.
        device_type: for people: "phone", "tv", "linux" …
    """

    udid: str
    network_id: str
    boot: str
    name: str
    device_type: str


class PresenceEvent(Enum):
    """What happened to a device (reference 4.7)."""

    ONLINE = "online"
    OFFLINE = "offline"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class Presence:
    """A device came, went, or changed its name; ``device`` is its state now (for OFFLINE: its last)."""

    event: PresenceEvent
    device: DeviceInfo


@dataclass(frozen=True, slots=True)
class TrustSnapshot:
    """Whom this device trusts, and what it proves itself with.

    Attributes:
        own: this device's UDID.
        trusted: UDIDs of the devices that may speak with it (``own`` itself is not needed).
        ca_pem: the circle's one CA certificate. One only: every CA in it could issue every UDID.
        certificate_pem: this device's certificate; its common name is ``own``.
        key_file: the private key of that certificate, mode 0600.
    """

    own: str
    trusted: frozenset[str]
    ca_pem: bytes
    certificate_pem: bytes
    key_file: Path


@dataclass(slots=True)
class Incoming:
    """A request of another device.

    Attributes:
        source: UDID of the device, proven by its certificate.
        kind, target: what for and to whom, as the sender gave them.
        header, payload: its bytes: hostile until checked.
        reply: takes the answer; what is given after the sender stopped waiting is dropped.
        refuse: tells the sender that there is no room.
        may_execute: whether the thread that hands it over may execute it as well.
    """

    source: str
    kind: Kind
    target: int
    header: bytes
    payload: bytes
    reply: Callable[[bytes], None]
    refuse: Callable[[], None]
    may_execute: bool = False

    def answer(self, payload: bytes) -> None:
        """Send the answer; any thread, once. Too late, or after the engine closed: dropped without a word."""
        self.reply(payload)

    def busy(self) -> None:
        """Tell the sender that there is no room for this request: it gets ``Busy``."""
        self.refuse()


Handler = Callable[[Incoming], Callable[[], None] | None]
"""What gets the requests of other devices; see Engine.open."""


class Engine(Protocol):
    """Requests between trusted devices."""

    @property
    def udid(self) -> str:
        """This device's UDID."""

    @property
    def info(self) -> DeviceInfo:
        """What this device says of itself; ``boot`` and ``network_id`` stay the same for the engine's life."""

    def open(self, handler: Handler, presence: Callable[[Presence], None]) -> None:
        """Join the network.

        Args:
            handler: gets every request of a trusted device; must not block. What it returns is executed on the same
                thread, and may take its time; it may return something only if the request's ``may_execute`` is set.
            presence: hears who comes and goes, one event at a time, in order; must not block either.
        """

    def request(
        self, udid: str, kind: Kind, target: int, header: bytes, payload: bytes, timeout: float, patience: float = 0.0
    ) -> bytes:
        """Send a request and wait for its answer.

        Args:
            udid: the device; target: 0 … 2**64 - 1, meaning left to the users of the engine.
            header: at most limits.RPC_HEADER bytes; payload: at most limits.RPC_PAYLOAD bytes.
            timeout: seconds, above 0 and at most limits.RPC_SLICE (an engine keeps memory per request until then).
            patience: seconds the sender would wait in all; an engine that notices losses by itself may take as long.

        Returns:
            The answer's bytes.

        Raises:
            NoAnswer: zero replies: nobody is there, or the link broke (then it may have been executed).
            EngineTimeout: no reply in time; perhaps executed.
            Busy: the other side has no room; not executed.
            ParamValueError: an argument outside its limits.
        """

    def post(
        self,
        udid: str,
        kind: Kind,
        target: int,
        header: bytes,
        payload: bytes,
        timeout: float,
        done: Callable[[Outcome], None],
    ) -> None:
        """Send a request without waiting; ``done`` is called exactly once with how it ended, perhaps before the return.

        Requests posted by one thread to one device arrive in that order. ``done`` must not block.
        """

    def devices(self) -> Mapping[str, DeviceInfo]:
        """Return the trusted devices that are online, by UDID: a snapshot, and cheap, because every call asks."""

    def set_trust(self, trust: TrustSnapshot) -> None:
        """Take a new list of trusted devices; the session may be opened anew.

        Calls under way are waited for (at most limits.RPC_REOPEN_WAIT seconds); what still runs then ends in
        ``NoAnswer``, and who numbers its requests sends them again.
        """

    def set_name(self, name: str) -> None:
        """Change this device's name; the others hear CHANGED.

        Raises:
            ParamValueError: empty or longer than limits.MAX_DEVICE_NAME characters (401).
        """

    def close(self) -> None:
        """Leave the network; requests under way end in NoAnswer. May be called twice."""


_MAX_TARGET: Final = 2**64 - 1


def check_request(target: int, header: bytes, payload: bytes, timeout: float) -> None:
    """Refuse a request that no engine carries, before anything of it is sent.

    Raises:
        ParamValueError: says which argument, its size and the limit (401).
    """
    if not 0 <= target <= _MAX_TARGET:
        raise ParamValueError(f"target {target} does not fit 64 bits: use 0 to 2**64 - 1")
    if len(header) > limits.RPC_HEADER:
        raise ParamValueError(f"a header of {len(header)} bytes; at most {limits.RPC_HEADER} are carried")
    if len(payload) > limits.RPC_PAYLOAD:
        raise ParamValueError(
            f"a request of {len(payload)} bytes; at most {limits.RPC_PAYLOAD} are carried: send more as raw data"
        )
    if not 0 < timeout <= limits.RPC_SLICE:
        raise ParamValueError(f"a timeout of {timeout} s; it must lie above 0 and be at most {limits.RPC_SLICE} s")
