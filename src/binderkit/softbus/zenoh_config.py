"""From a list of trusted devices to a Zenoh configuration, and the names of things on the network. Pure.

Owns: the key expressions (``request_key``, ``node_token`` and their parsers)
and ``zenoh_config``: every setting, with the access-control list that turns
"CN of the certificate" into "this device may say only this".

Why: Zenoh hands a request to its receiver without saying who sent it. So the
sender's UDID is part of the key, and the *receiver's* access-control list lets
a certificate with that UDID as its CN use no other. Everything not named there
is dropped before Python sees it.

    sb/rpc/<receiver>/<sender>/<call|ow|ctl>/<target>      requests, answered by the receiver
    sb/live/<udid>/node/<networkId>/<boot>/<session>/<type>/<name>   liveliness token: this device is here
    sb/live/<udid>/back                                    the same: it opens its session anew, and will be back

(type and name in hexadecimal of UTF-8: a token has no payload.)

Rules upheld (each setting that differs from Zenoh's default is there for a
reason, written beside it):

- TLS only, both sides prove themselves, one CA (every CA in the file could
  issue every UDID).
- A peer can say only what concerns itself: call as itself, answer as itself,
  announce itself.
- No shared memory, no admin space, no configuration from the environment.
"""

from __future__ import annotations

import base64
import json
import re
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from binderkit import limits
from binderkit.errors import ParamValueError
from binderkit.softbus.engine import DeviceInfo, Kind, TrustSnapshot

__all__ = [
    "DEFAULT_GROUP",
    "LIVE_TOKENS",
    "ZenohSettings",
    "back_token",
    "check_name",
    "node_token",
    "parse_back_token",
    "parse_node_token",
    "parse_request_key",
    "request_key",
    "requests_of",
    "session_id",
    "zenoh_config",
]

DEFAULT_GROUP: Final = "224.0.0.224:7446"
"""The multicast group of devices that were told no other."""
LIVE_TOKENS: Final = "sb/live/**"
"""The key expression of every device's tokens."""

_WORDS: Final = {Kind.CALL: "call", Kind.ONEWAY: "ow", Kind.CONTROL: "ctl"}
_KINDS: Final = {word: kind for kind, word in _WORDS.items()}
_UDID: Final = re.compile(r"[0-9a-f]{64}")
_REQUEST: Final = re.compile(r"sb/rpc/([0-9a-f]{64})/([0-9a-f]{64})/(call|ow|ctl)/([0-9a-f]{1,16})")
_NODE: Final = re.compile(
    r"sb/live/([0-9a-f]{64})/node/([0-9a-f]{1,64})/([0-9a-f]{16})/[0-9]{1,10}"
    r"/((?:[0-9a-f]{2}){1,64})/((?:[0-9a-f]{2}){1,256})"
)
_BACK: Final = re.compile(r"sb/live/([0-9a-f]{64})/back")
WAIT_BEFORE_CLOSE: Final = 3_000_000
"""Microseconds a blocked sender waits before it closes the link and what is queued is lost without an error. Above the
lease, so that a receiver that stalls is not dropped for it; not much above, because whoever sends over a link that just
died waits as long (seen with 10 s and 60 s), and closing waits for it; what is lost is sent again by ``calls``. Never
-1: documented as "never", it panics and poisons the session (measured)."""
_RETRY: Final = {"period_init_ms": 100, "period_max_ms": 1000, "period_increase_factor": 2}
"""How soon a known address is tried again (default: 1, 2, 4 s)."""
_MAX_SESSIONS: Final = limits.RPC_DEVICES
_MAX_PENDING: Final = 32
"""Links that are shaking hands at once."""


@dataclass(frozen=True)
class ZenohSettings:
    """Where a device listens and whom it looks for.

    Attributes:
        listen: endpoints such as "tls/192.168.1.5:0". A named address rather than 0.0.0.0: each unreachable one that
            is announced costs the others seconds.
        connect: endpoints of devices that are known by address.
        multicast: whether to find the others by multicast as well.
        interface: the interface for multicast: a name, an address, or "auto".
        multicast_address: group and port; devices that use different ones do not find each other.
        lease: seconds of silence after which a device counts as gone.
    """

    listen: tuple[str, ...] = ("tls/0.0.0.0:0",)
    connect: tuple[str, ...] = ()
    multicast: bool = True
    interface: str = "auto"
    lease: float = limits.RPC_LEASE
    multicast_address: str = DEFAULT_GROUP


def request_key(receiver: str, sender: str, kind: Kind, target: int) -> str:
    """Return the key of a request."""
    return f"sb/rpc/{receiver}/{sender}/{_WORDS[kind]}/{target:x}"


def requests_of(receiver: str) -> str:
    """Return the key expression of all requests to a device."""
    return f"sb/rpc/{receiver}/**"


def parse_request_key(key: str) -> tuple[str, str, Kind, int] | None:
    """Return receiver, sender, kind and target of a request's key; None for anything else.

    A wildcard anywhere, above all in the sender's place, is anything else.
    """
    match = _REQUEST.fullmatch(key)
    if match is None:
        return None
    receiver, sender, word, target = match.groups()
    return receiver, sender, _KINDS[word], int(target, 16)


def node_token(info: DeviceInfo, session: int) -> str:
    """Return the key of a device's token in its ``session``-th session.

    Each session has a key of its own, so that the end of one never hides the next.
    """
    kind = info.device_type.encode().hex()
    return f"sb/live/{info.udid}/node/{info.network_id}/{info.boot}/{session}/{kind}/{info.name.encode().hex()}"


def back_token(udid: str) -> str:
    """Return the key of the token of a device that opens its session anew."""
    return f"sb/live/{udid}/back"


def parse_back_token(key: str) -> str | None:
    """Return the UDID in such a key; None for anything else."""
    match = _BACK.fullmatch(key)
    return None if match is None else match[1]


def parse_node_token(key: str) -> DeviceInfo | None:
    """Return what a token says of its device; None when it is malformed."""
    match = _NODE.fullmatch(key)
    if match is None:
        return None
    udid, network_id, boot, kind, name = match.groups()
    try:
        info = DeviceInfo(udid, network_id, boot, bytes.fromhex(name).decode(), bytes.fromhex(kind).decode())
    except UnicodeDecodeError:
        return None
    if len(info.name) > limits.MAX_DEVICE_NAME or not info.name.isprintable() or not info.device_type.isprintable():
        return None
    return info


def check_name(name: str) -> str:
    """Return ``name`` when it can be a device's name.

    Raises:
        ParamValueError: empty, longer than limits.MAX_DEVICE_NAME characters, or not printable (401).
    """
    if not 0 < len(name) <= limits.MAX_DEVICE_NAME or not name.isprintable():
        raise ParamValueError(
            f"{name!r} cannot be the name of a device: use 1 to {limits.MAX_DEVICE_NAME} printable characters"
        )
    return name


def session_id(udid: str, boot: str, generation: int) -> str:
    """Return the Zenoh id of a session: a hint, not a proof.

    The generation counts the sessions of one boot: others may still hold the id of the one just closed.
    """
    return sha256(f"{udid}{boot}{generation}".encode()).hexdigest()[:32].lstrip("0")


def zenoh_config(trust: TrustSnapshot, settings: ZenohSettings, identity: str) -> str:
    """Return the whole configuration as JSON.

    Args:
        trust: whom to let speak, and with what to prove oneself.
        settings: where to listen, whom to look for.
        identity: the session's id (``session_id``).

    Raises:
        ParamValueError: a UDID that is not 64 hexadecimal digits: it would become part of a rule (401).
    """
    for udid in (trust.own, *trust.trusted):
        if not _UDID.fullmatch(udid):
            raise ParamValueError(f"{udid!r} is not a UDID: 64 hexadecimal digits in lower case are expected")
    return json.dumps(
        {
            "id": identity,
            "mode": "peer",
            "listen": {"endpoints": list(settings.listen), "exit_on_failure": True},
            # -1: tries for ever, in the background; a device that is away is no reason to fail.
            "connect": {
                "endpoints": list(settings.connect),
                "timeout_ms": -1,
                "exit_on_failure": False,
                "retry": _RETRY,
            },
            # Readiness is a token seen, never "open() returned": so it need not wait either (default: 500 ms).
            "open": {"return_conditions": {"connect_scouted": False, "declares": False}},
            "scouting": _scouting(settings),
            "queries_default_timeout": int(limits.RPC_SLICE * 1000),
            "adminspace": {"enabled": False},
            "timestamping": {"enabled": False},
            "plugins_loading": {"enabled": False, "search_dirs": []},
            "transport": _transport(trust, settings),
            "access_control": access_control(trust.own, trust.trusted - {trust.own}),
        }
    )


def _scouting(settings: ZenohSettings) -> dict[str, Any]:
    return {
        "delay": 0,
        "gossip": {"enabled": True},
        "multicast": {
            "enabled": settings.multicast,
            "address": settings.multicast_address,
            "interface": settings.interface,
        },
    }


def _transport(trust: TrustSnapshot, settings: ZenohSettings) -> dict[str, Any]:
    certificate = base64.b64encode(trust.certificate_pem).decode()
    key = str(trust.key_file)
    return {
        "unicast": {
            # A link that says nothing must not hold up the ones behind it (default: 10 s, one after the other).
            "open_timeout": 2000,
            "accept_timeout": 2000,
            "accept_pending": _MAX_PENDING,
            "max_sessions": _MAX_SESSIONS,
            # lowlatency gains nothing and forbids fragments (measured).
            "lowlatency": False,
        },
        "link": {
            # A whitelist: a plain TCP peer is refused.
            "protocols": ["tls"],
            "tx": {
                "lease": int(settings.lease * 1000),
                "keep_alive": 4,
                "queue": {"congestion_control": {"block": {"wait_before_close": WAIT_BEFORE_CLOSE}}},
            },
            # Default 1 GiB: what one peer could make this device hold.
            "rx": {"max_message_size": 2 * limits.RPC_PAYLOAD},
            "tls": {
                "root_ca_certificate_base64": base64.b64encode(trust.ca_pem).decode(),
                "listen_certificate_base64": certificate,
                "listen_private_key": key,
                "connect_certificate_base64": certificate,
                "connect_private_key": key,
                "enable_mtls": True,
                # Addresses come from DHCP and are in no certificate; the UDID in the CN is what counts (see the list).
                "verify_name_on_connect": False,
                "close_link_on_expiration": True,
            },
        },
        # It reaches past TLS through /dev/shm, leaves files after a kill, and loses queries (measured).
        "shared_memory": {"enabled": False, "transport_optimization": {"enabled": False}},
    }


def access_control(own: str, trusted: frozenset[str]) -> dict[str, Any]:
    """Return the list: nothing is allowed but what each trusted certificate may say, and what we ourselves send."""
    rules: list[dict[str, Any]] = [
        # To trusted devices only: nobody else shall even see our tokens.
        _rule("own", "egress", list(_EVERY_MESSAGE), ["sb/**"]),
        # Whoever looks for devices hears of the tokens; they name nothing that a trusted device may not know.
        _rule("look", "ingress", ["declare_liveliness_subscriber", "liveliness_query"], ["sb/live/**"]),
    ]
    subjects: list[dict[str, Any]] = []
    policies: list[dict[str, Any]] = []
    for udid in sorted(trusted):
        rules += [
            _rule(f"call-{udid}", "ingress", ["query"], [f"sb/rpc/{own}/{udid}/**"]),
            _rule(f"serve-{udid}", "ingress", ["declare_queryable", "reply"], [f"sb/rpc/{udid}/**"]),
            _rule(f"live-{udid}", "ingress", ["liveliness_token"], [f"sb/live/{udid}/**"]),
        ]
        subjects.append({"id": udid, "cert_common_names": [udid]})
        names = ["own", "look", f"call-{udid}", f"serve-{udid}", f"live-{udid}"]
        policies.append({"rules": names, "subjects": [udid]})
    return {
        "enabled": True,
        "default_permission": "deny",
        "rules": rules,
        "subjects": subjects,
        "policies": policies,
    }


_EVERY_MESSAGE: Final = (
    "query",
    "reply",
    "declare_queryable",
    "liveliness_token",
    "liveliness_query",
    "declare_liveliness_subscriber",
)


def _rule(name: str, flow: str, messages: list[str], keys: list[str]) -> dict[str, Any]:
    return {
        "id": name,
        "permission": "allow",
        "flows": [flow],
        "messages": messages,
        "key_exprs": keys,
    }
