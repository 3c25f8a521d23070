"""Two devices: paired with a secret that both were given, a service of one called from the other, and called back.

On one machine a device is a runtime directory, so this example makes two; with real ones nothing else changes. This
program is on the laptop, and starts itself a second time as the program on the tablet.
Needs: pip install 'binderkit[rpc,services]'
"""

from __future__ import annotations

import os
import queue
import secrets
import signal
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

import binderkit as bk
from binderkit import samgr
from binderkit.interface import Interface, method, oneway, proxy, within
from binderkit.softbus.contracts import DeviceDescription, IDeviceWatcher, IPairingWatcher, ISoftBus

WAIT = 20.0
PROFILE = """
process = "com.example.printing"
remote-abilities = ["com.example.printer"] # what programs of this device may ask others for
"""


class IPage(Interface, descriptor="com.example.IPage"):
    """What the printer calls back."""

    @method
    @oneway
    def printed(self, number: int) -> None: ...


class IPrinter(Interface, descriptor="com.example.IPrinter"):
    """What the tablet offers."""

    @method
    def print_pages(self, picture: bytes, pages: int, page: IPage) -> str: ...


class Printer(IPrinter):
    """Lives on the tablet."""

    def print_pages(self, picture: bytes, pages: int, page: IPage) -> str:
        """Called from the laptop; ``page`` is an object there."""
        for number in range(1, pages + 1):
            page.printed(number)
        device = bk.IPCSkeleton.get_calling_device_id()  # proven by that device's certificate
        return f"{len(picture)} bytes on {pages} pages, for a device with a UDID of {len(device)} digits"


class Page(IPage):
    """Lives on the laptop."""

    def __init__(self) -> None:
        self.numbers: queue.Queue[int] = queue.Queue()

    def printed(self, number: int) -> None:
        """Called from the tablet."""
        self.numbers.put(number)


class Door(IPairingWatcher):
    """Hears how an offer to pair goes."""

    def paired(self, device: DeviceDescription) -> None:
        """Another device has this one's trust now."""

    def ended(self, code: int, text: str) -> None:
        """Offers with a secret end only when they are withdrawn."""


class Devices(IDeviceWatcher):
    """Waits for the tablet."""

    def __init__(self) -> None:
        self.online = threading.Event()

    def device_changed(self, event: str, device: DeviceDescription) -> None:
        """Something happened to a trusted device."""
        if (event, device.name) == ("online", "tablet"):
            self.online.set()


class Ended(threading.Event, bk.DeathRecipient):
    """Is set when an object is gone."""

    def on_remote_died(self) -> None:
        """It is."""
        self.set()


def softbus() -> ISoftBus:
    """Return what speaks for this device; it is started when it does not run."""
    return proxy(ISoftBus, samgr.load_system_ability("binderkit.softbus", timeout=12))


def tablet() -> None:
    """Offer the printer, and pairing with whoever knows the secret, until standard input ends."""
    secret = bytes.fromhex(sys.stdin.readline())
    samgr.add_system_ability(9001, Printer(), name="com.example.printer", distributed=True)
    device, door = softbus(), Door()
    device.set_name("tablet")
    print(device.offer_pairing(secret, WAIT, door).port, flush=True)
    sys.stdin.read()
    end_device()


def laptop(other: subprocess.Popen[str]) -> None:
    """Pair with the tablet, use its printer, and hear that it is gone."""
    assert other.stdin is not None and other.stdout is not None
    secret = secrets.token_bytes(32)
    print(secret.hex(), file=other.stdin, flush=True)
    port = int(other.stdout.readline())
    device, devices = softbus(), Devices()
    device.watch(devices)
    within(WAIT, device.pair)("127.0.0.1", port, "", secret)
    print("the tablet is online:", devices.online.wait(WAIT))
    remote = samgr.get_system_ability("com.example.printer", device_id="tablet")
    remote.register_death_recipient(ended := Ended())
    page = Page()
    print(proxy(IPrinter, remote).print_pages(bytes(300_000), 3, page))
    print("called back for pages", *(page.numbers.get(timeout=WAIT) for _ in range(3)))
    other.stdin.close()
    print("told that the printer is gone:", ended.wait(WAIT))


def end_device() -> None:
    """End this device's daemon, and with it its softbus."""
    daemon = samgr.system_ability_manager().as_object()
    assert isinstance(daemon, bk.RemoteProxy)
    daemon.register_death_recipient(ended := Ended())
    os.kill(daemon.owner.pid, signal.SIGTERM)
    ended.wait(WAIT)


def main() -> None:
    """Make two devices on the loopback, have them talk, end them."""
    with tempfile.TemporaryDirectory(prefix="bk-") as here, tempfile.TemporaryDirectory(prefix="bk-") as there:
        profiles = Path(here, "profiles")
        profiles.mkdir()
        (profiles / "printing.toml").write_text(PROFILE)
        os.environ["BINDERKIT_SOFTBUS_LISTEN"] = "127.0.0.1"
        os.environ["BINDERKIT_RUNTIME_DIR"] = here
        environment = {**os.environ, "BINDERKIT_RUNTIME_DIR": there}
        program = [sys.executable, __file__, "tablet"]
        with subprocess.Popen(
            program, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        ) as other:
            try:
                laptop(other)
            finally:
                end_device()


if __name__ == "__main__":
    if sys.argv[1:] == ["tablet"]:
        tablet()
    else:
        main()
