"""``binderkit device …``: this device, those it trusts, and those near by.

Owns: what the commands print. They start softbus when it does not run: without it there is nothing to look at; only the
completion of names does not.

Rules upheld: names and texts of other devices are shown without markup; a PIN is asked for, so that it need not stand
on a command line that others can see.
"""

from __future__ import annotations

import json
import queue
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from rich.markup import escape
from rich.table import Table

from binderkit.cli.tables import print_table
from binderkit.errors import IpcError, PairingError, ParamValueError, ServiceError

if TYPE_CHECKING:
    from binderkit.softbus.contracts import DeviceDescription, ISoftBus, NearbyDevice

device_commands = typer.Typer(
    help="This device, and the others: who is trusted, who is there.\n\n"
    "A device is named by its name, by its UDID or 8 digits or more of its beginning, or by its network id. "
    "Settings (addresses, port, devices to connect to) stand in softbus.toml in the state directory. "
    "Needs the packages of pip install 'binderkit\\[rpc]'.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)
PAIR_WAIT: Final = 30.0
"""Seconds a pairing may take."""
COMPLETION_WAIT: Final = 2.0
"""Seconds a shell waits for names."""
NEAR_WAIT: Final = 3.0
"""Seconds in which devices near by are found."""
_CAPABILITY: Final = 6  # DDMP, the one for applications' middleware
_SPANS: Final = ((86400, "day"), (3600, "hour"), (60, "minute"))


def complete_device(incomplete: str) -> list[str]:
    """Return the names (or UDIDs, where several have one) of trusted devices that begin so, for the shell's completion.

    Nothing is started for it: without softbus nothing is completed.
    """
    from binderkit.cli import target
    from binderkit.interface import proxy, within
    from binderkit.samgr.remote import SOFTBUS_ID
    from binderkit.softbus.contracts import ISoftBus

    try:
        found = target.manager().check_system_ability(SOFTBUS_ID)
        if found is None:
            return []
        devices = within(COMPLETION_WAIT, proxy(ISoftBus, found).trusted_devices)()
    except (IpcError, OSError):
        return []  # the shell waits for words; an error cannot be told here, and the command itself will tell it
    names = [one.name for one in devices]
    words = {one.name if names.count(one.name) == 1 else one.udid[:16] for one in devices} | {
        one.udid for one in devices if incomplete and one.udid.startswith(incomplete)
    }
    return sorted(word for word in words if word.startswith(incomplete) and word.isprintable())


_Device = Annotated[
    str,
    typer.Argument(
        metavar="NAME|UDID",
        help="Name, or first 8 digits or more of the UDID.",
        autocompletion=complete_device,
    ),
]


@device_commands.callback()
def group() -> None:
    """Show, pair, rename and watch devices."""


def _softbus() -> ISoftBus:
    from binderkit.cli import target
    from binderkit.interface import proxy
    from binderkit.samgr.remote import SOFTBUS_ID, SOFTBUS_WAIT
    from binderkit.softbus.contracts import ISoftBus

    return proxy(ISoftBus, target.manager().load_system_ability(SOFTBUS_ID, timeout=SOFTBUS_WAIT))


@contextmanager
def _problems() -> Iterator[None]:
    from binderkit.samgr.remote import Problem

    try:
        yield
    except Problem as problem:
        raise IpcError(problem.text, code=problem.code) from None


@device_commands.command(
    "list", epilog="Examples: binderkit device list · binderkit device list --near · binderkit device list --json"
)
def list_devices(
    near: Annotated[
        bool, typer.Option("--near", help="Those near by instead, trusted or not (takes 3 seconds).")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a JSON array instead of a table.")] = False,
) -> None:
    """List this device and those it trusts, also those that are off.

    With --json: name, udid, network_id ("" when off), device_type, online, owner (of the circle), since (paired) and
    last_seen in seconds since 1970 (0: never), this (whether it is this device).
    """
    softbus = _softbus()
    if near:
        _show_near(_near(softbus), as_json)
        return
    own, trusted = softbus.own_device(), softbus.trusted_devices()
    if as_json:
        print(json.dumps([{**asdict(one), "this": one is own} for one in (own, *trusted)], indent=2))
        return
    table = _table("name", "state", "type", "last seen", "udid", "network id")
    now = time.time()
    for one in (own, *trusted):
        state = "this device" if one is own else "online" if one.online else "offline"
        seen = "now" if one.online else _ago(now - one.last_seen) if one.last_seen else "never"
        name = escape(_plain(one.name))
        table.add_row(name, state, escape(one.device_type), seen, one.udid[:16], one.network_id[:16] or "-")
    print_table(table)


def _ago(seconds: float) -> str:
    """Return how long ago something was, in the largest unit."""
    for span, unit in _SPANS:
        count = int(seconds // span)
        if count >= 1:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"


def _show_near(found: list[NearbyDevice], as_json: bool) -> None:
    if as_json:
        print(json.dumps([asdict(one) for one in found], indent=2))
        return
    table = _table("name", "type", "addresses", "pairing port", "known")
    for one in found:
        port = str(one.pairing_port) if one.pairing_port else "-"
        known = "yes" if one.known else "no"
        table.add_row(escape(_plain(one.name)), escape(one.device_type), " ".join(one.addresses), port, known)
    print_table(table)


def _table(*columns: str) -> Table:
    return Table(*columns, box=None, header_style="bold", pad_edge=False)


def _near(softbus: ISoftBus, wanted: str = "") -> list[NearbyDevice]:
    """Return the devices near by; at once when the one called ``wanted`` was found and offers pairing."""
    from binderkit.softbus.contracts import IFinder, NearbyDevice

    said: queue.Queue[NearbyDevice] = queue.Queue()

    class Finder(IFinder):
        def found(self, number: int, device: NearbyDevice) -> None:
            said.put(device)

        def lost(self, number: int, device: NearbyDevice) -> None:
            """Whoever goes while we look was near by."""

    finder, found = Finder(), dict[str, NearbyDevice]()
    with _problems():
        softbus.refresh(1, _CAPABILITY, finder)
    until = time.monotonic() + NEAR_WAIT
    while (left := until - time.monotonic()) > 0:
        try:
            device = said.get(timeout=left)
        except queue.Empty:
            break
        found[device.device_id] = device
        if wanted and device.name == wanted and device.pairing_port:
            break
    with _problems():
        softbus.stop_refresh(1)
    return sorted(found.values(), key=lambda one: (one.name, one.device_id))


@device_commands.command(
    epilog="Examples: binderkit device pair (shows a PIN) · binderkit device pair kitchen (asks for the PIN) · "
    "binderkit device pair 192.168.1.5:40123"
)
def pair(
    device: Annotated[
        str, typer.Argument(metavar="[NAME|ADDRESS:PORT]", help="The device that shows a PIN; none: show one here.")
    ] = "",
    pin: Annotated[str, typer.Option("--pin", help="The PIN; default: it is asked for.")] = "",
    secret: Annotated[
        Path | None, typer.Option("--secret", help="File with a secret both devices were given, instead of a PIN.")
    ] = None,
    lifetime: Annotated[float, typer.Option("--lifetime", help="Seconds the PIN shown here can be used.")] = 120.0,
) -> None:
    """Make this device and another one trust each other."""
    softbus = _softbus()
    key = b"" if secret is None else secret.read_bytes()
    if not device:
        _offer(softbus, key, lifetime)
        return
    host, port = _address(softbus, device)
    if not key and not pin:
        pin = typer.prompt("PIN", hide_input=True)
    from binderkit.interface import within

    with _problems():
        other = within(PAIR_WAIT, softbus.pair)(host, port, pin, key)
    _say_paired(other)


def _address(softbus: ISoftBus, device: str) -> tuple[str, int]:
    host, colon, port = device.rpartition(":")
    if colon and port.isdecimal():
        return host.strip("[]"), int(port)
    found = [one for one in _near(softbus, device) if one.name == device and one.pairing_port]
    if not found:
        raise ServiceError(
            f"no device called {device!r} near by offers pairing; run 'binderkit device pair' on it, or use the "
            "ADDRESS:PORT it shows",
            code=108,
        )
    if len(found) > 1:
        raise ServiceError(f"{len(found)} devices near by are called {device!r}; use ADDRESS:PORT", code=108)
    if not found[0].addresses:
        raise ServiceError(f"device {device!r} announces no address; use ADDRESS:PORT", code=108)
    return found[0].addresses[0], found[0].pairing_port


def _offer(softbus: ISoftBus, secret: bytes, lifetime: float) -> None:
    from binderkit.softbus.contracts import IFinder, IPairingWatcher

    ends: queue.Queue[DeviceDescription | tuple[int, str]] = queue.Queue()

    class Watcher(IPairingWatcher):
        def paired(self, device: DeviceDescription) -> None:
            ends.put(device)

        def ended(self, code: int, text: str) -> None:
            ends.put((code, text))

    class Holder(IFinder):
        def found(self, number: int, device: NearbyDevice) -> None:
            """This one only announces."""

        def lost(self, number: int, device: NearbyDevice) -> None:
            """This one only announces."""

    watcher, holder = Watcher(), Holder()
    with _problems():
        softbus.publish(1, _CAPABILITY, "", holder)
        offer = softbus.offer_pairing(secret, lifetime, watcher)
    own = softbus.own_device()
    addresses = " ".join(f"[{one}]:{offer.port}" if ":" in one else f"{one}:{offer.port}" for one in offer.addresses)
    print(f"PIN {offer.pin}" if offer.pin else "waiting for a device with the secret", flush=True)
    print(f"on the other device: binderkit device pair {own.name!r}   (or one of: {addresses})", flush=True)
    try:
        end = ends.get()
    finally:
        softbus.withdraw_offer()
    if isinstance(end, tuple):
        raise PairingError(end[1], code=end[0])
    _say_paired(end)


def _say_paired(device: DeviceDescription) -> None:
    print(f"paired with {_plain(device.name)} ({device.udid})")


def _plain(text: str) -> str:
    return "".join(one if one.isprintable() else "\ufffd" for one in text)


@device_commands.command(
    epilog="Examples: binderkit device unpair kitchen · binderkit device unpair 3f2a9c01 --everywhere"
)
def unpair(
    device: _Device,
    everywhere: Annotated[
        bool, typer.Option("--everywhere", help="Put it out of the circle, for all devices (the owner's right).")
    ] = False,
) -> None:
    """Trust a device no more.

    It learns nothing of it but that nobody answers; with --everywhere all members of the circle are told.
    """
    softbus = _softbus()
    with _problems():
        gone = softbus.revoke(device) if everywhere else softbus.unpair(device)
    if not gone:
        raise ParamValueError(f"device {device!r} was not trusted")
    print(f"{device} is not trusted any more" + (", by no device of this circle" if everywhere else ""))


@device_commands.command(epilog="Examples: binderkit device name · binderkit device name kitchen")
def name(
    new: Annotated[str, typer.Argument(metavar="[NAME]", help="1 to 64 printable characters; none: show it.")] = "",
) -> None:
    """Show this device's name, or give it another one."""
    softbus = _softbus()
    if not new:
        print(_plain(softbus.own_device().name))
        return
    with _problems():
        softbus.set_name(new)
    print(f"this device is called {_plain(new)} now")


@device_commands.command(epilog="Example: binderkit device leave")
def leave() -> None:
    """Leave the circle: this device trusts nobody then, and can be paired with another circle.

    The others are not told; their owner puts it out with 'binderkit device unpair NAME --everywhere'.
    """
    with _problems():
        _softbus().leave()
    print("this device has left its circle and trusts no other any more")


@device_commands.command(epilog="Examples: binderkit device watch · binderkit device watch -c 1")
def watch(
    count: Annotated[int, typer.Option("--count", "-c", min=0, help="End after so many events; 0: never.")] = 0,
) -> None:
    """Print which devices come, go, change, are paired and unpaired, until Ctrl-C or until softbus ends."""
    import binderkit
    from binderkit.softbus.contracts import IDeviceWatcher

    lines: queue.Queue[str | None] = queue.Queue()

    class Watcher(IDeviceWatcher):
        def device_changed(self, event: str, device: DeviceDescription) -> None:
            lines.put(f"{_plain(event)} {_plain(device.name)} ({device.udid[:16]})")

    class Ended(binderkit.DeathRecipient):
        def on_remote_died(self) -> None:
            lines.put(None)

    softbus, watcher, ended = _softbus(), Watcher(), Ended()
    softbus.as_object().register_death_recipient(ended)
    with _problems():
        softbus.watch(watcher)
    shown = 0
    while not count or shown < count:
        line = lines.get()
        if line is None:
            raise ServiceError("softbus ended; it is started again by the daemon: watch again")
        print(time.strftime("%H:%M:%S"), line, flush=True)
        shown += 1
    softbus.unwatch(watcher)


def show_abilities(device: str, as_json: bool) -> None:
    """Print what another device offers (``binderkit list --device``)."""
    from binderkit.samgr import remote

    _softbus()  # fails when no SAMgr runs; what follows would start one
    found = remote.abilities_of(device)
    if as_json:
        rows: list[dict[str, Any]] = [asdict(one) for one in found]
        print(json.dumps(rows, indent=2))
        return
    table = _table("id", "hex", "name", "state")
    for one in found:
        table.add_row(str(one.id), f"{one.id:#x}", escape(one.name) or "-", "LOADED" if one.running else "on demand")
    print_table(table)
