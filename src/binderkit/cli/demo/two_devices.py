"""The story with two devices: ``binderkit demo --devices 2``. This process is a program of one of them, the desk.

Owns: the order of things, and the exit code: 0 only if every step was right.
"""

from __future__ import annotations

import statistics
import subprocess
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Final

from rich.console import Console

import binderkit as bk
from binderkit import samgr
from binderkit.cli.demo import interface
from binderkit.cli.demo.client import DeathNotice, Progress, Receiver, make_thumbnails
from binderkit.cli.demo.network import DESK, KITCHEN, Network, network
from binderkit.cli.demo.processes import Device, Stage, end_in_order
from binderkit.cli.demo.report import Report, StepFailed, check
from binderkit.cli.demo.run import WAIT, difference
from binderkit.interface import proxy, within
from binderkit.samgr.remote import SOFTBUS_ID, SOFTBUS_WAIT, Problem

if TYPE_CHECKING:
    from binderkit.softbus.contracts import ISoftBus, NearbyDevice

WIDTHS: Final = [1280, 640, 320]
CALLS: Final = 200
_CAPABILITY: Final = 6  # DDMP, the one for applications' middleware
NEEDED: Final = ("PIL", "zenoh", "cryptography", "zeroconf", "ifaddr", "msgspec", "spake2")


def main() -> int:
    """Run the demo; return the exit code."""
    from importlib.util import find_spec

    report = Report(Console())
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        report.failure(f"it needs {', '.join(missing)}; install it: pip install 'binderkit[demo,rpc]'")
        return 1
    try:
        with ExitStack() as stack:
            end_in_order(stack)
            between = network(stack)
            report.title(
                "binderkit demo: two devices find each other, trust each other, and call each other's objects",
                f"desk and kitchen: each with a runtime directory, a daemon and a softbus. {between.explanation}",
            )
            desk = stack.enter_context(Stage(between.place(DESK)))
            kitchen = stack.enter_context(Device(between.place(KITCHEN)))
            Demo(desk, kitchen, between, report).run()
        check(not (desk.directory.exists() or kitchen.directory.exists()), f"{desk.directory} was left behind")
    except Problem as problem:
        report.failure(problem.text)
        return 1
    except (StepFailed, bk.IpcError) as error:
        report.failure(str(error))
        return 1
    report.end("every step was right, and nothing is left behind")
    return 0


class Demo:
    """A program on the desk, which has the kitchen do things with its commands."""

    def __init__(self, desk: Device, kitchen: Device, between: Network, report: Report) -> None:
        from binderkit.cli.demo.watching import Watcher

        self._desk = desk
        self._kitchen = kitchen
        self._between = between
        self._report = report
        self._watcher = Watcher()
        self._udid = ""
        self._received: dict[int, bytes] = {}

    def run(self) -> None:
        """Play all steps (StepFailed, Problem or IpcError when one goes wrong)."""
        softbus = self._start()
        self._pair(softbus)
        service, remote = self._find_service()
        self._call(remote)
        jpeg = self._send_photo(remote)
        self._kill_service(service, remote)
        remote = self._cut()
        self._come_back(remote, jpeg)

    def _start(self) -> ISoftBus:
        from binderkit.softbus.contracts import ISoftBus

        with self._report.step("Two devices start, each with a key of its own"):
            self._desk.add_profile("photos.toml", interface.USER_PROFILE)
            for device in (self._desk, self._kitchen):
                device.start_samgr()
            naming = self._kitchen.start_command("device", "name", KITCHEN)
            softbus = proxy(ISoftBus, samgr.load_system_ability(SOFTBUS_ID, timeout=SOFTBUS_WAIT))
            softbus.set_name(DESK)
            softbus.watch(self._watcher)
            check(naming.wait(WAIT) == 0, "the kitchen could not be given its name")
            self._report.note(f"a profile on desk says that its programs may ask others for {interface.ABILITY!r}")
            own = softbus.own_device()
            self._report.note(f"desk is device {own.udid[:16]}… (the hash of its public key); it trusts nobody yet")
        return softbus

    def _pair(self, softbus: ISoftBus) -> None:
        with self._report.step("kitchen shows a PIN ('binderkit device pair'), desk finds kitchen near by (mDNS)"):
            start = time.perf_counter()
            offer = self._kitchen.start_command("device", "pair")
            pin, port = _shown(offer)
            shown = time.perf_counter()
            self._report.note(f"kitchen shows PIN {pin}, {(shown - start) * 1e3:.0f} ms after it was asked to")
            found = self._find_nearby(softbus, port)
            self._report.note(
                f"found {(time.perf_counter() - shown) * 1e3:.0f} ms later at {found.addresses[0]}:{port}"
            )
        with self._report.step("The PIN is typed at desk: both trust each other from now on"):
            start = time.perf_counter()
            device = within(WAIT, softbus.pair)(found.addresses[0], port, pin, b"")
            paired = time.perf_counter()
            self._udid = device.udid
            self._report.note(
                f"paired with {device.name}, device {device.udid[:16]}…, in {(paired - start) * 1e3:.0f} ms"
            )
            online = self._watcher.wait_for("online", self._udid, WAIT)
            check(online > 0, f"kitchen was not online within {WAIT} s: {self._watcher.events}")
            check(offer.wait(WAIT) == 0, "the kitchen says that it was not paired")
            self._report.note(f"online for desk {max(0.0, online - paired) * 1e3:.0f} ms later (mutual TLS)")

    def _find_nearby(self, softbus: ISoftBus, port: int) -> NearbyDevice:
        from binderkit.cli.demo.watching import Finder

        finder = Finder(port)
        softbus.refresh(1, _CAPABILITY, finder)
        found = finder.wait(WAIT)
        softbus.stop_refresh(1)
        if found is None or not found.addresses:
            raise StepFailed(f"kitchen was not found near by within {WAIT} s")
        return found

    def _find_service(self) -> tuple[subprocess.Popen[bytes], bk.IRemoteObject]:
        with self._report.step("A photo service starts on kitchen; desk asks for it by name, and for the device"):
            service = self._kitchen.start_distributed_service()
            start = time.perf_counter()
            remote = samgr.get_system_ability(interface.ABILITY, device_id=KITCHEN)
            millis = (time.perf_counter() - start) * 1e3
            self._report.note(f"get_system_ability({interface.ABILITY!r}, device_id={KITCHEN!r}) took {millis:.1f} ms")
            descriptor = remote.get_descriptor()
            check(descriptor == interface.SERVICE, f"the kitchen's object calls itself {descriptor!r}")
        return service, remote

    def _call(self, remote: bk.IRemoteObject) -> None:
        with self._report.step(f"desk calls it {CALLS} times"):
            assert isinstance(remote, bk.RemoteProxy)
            times = []
            for _ in range(CALLS):
                start = time.perf_counter()
                remote.ping()
                times.append(time.perf_counter() - start)
            self._report.note(f"there and back: median {statistics.median(times) * 1e6:.0f} µs")

    def _send_photo(self, remote: bk.IRemoteObject) -> bytes:
        from binderkit.cli.demo import picture

        with self._report.step("desk takes a photograph and passes it in shared memory (Ashmem)"):
            jpeg = picture.photograph()
            size = len(jpeg)
            with _ashmem(jpeg) as photo:
                self._report.note(f"{size:,} bytes: the contents travel on a stream of their own (mutual TLS)")
                start = time.perf_counter()
                progress = Progress()
                made = make_thumbnails(remote, photo, WIDTHS, progress, Receiver(self._take))
                self._report.note(f"all done {(time.perf_counter() - start) * 1e3:.0f} ms after the call")
            check(made == len(WIDTHS), f"the service says it made {made} thumbnails")
            check(progress.wait_for(100, WAIT), f"the last progress report was {progress.reports[-1:]}")
            self._report.note(f"{len(progress.reports)} progress reports came, one-way and in order")
            self._verify(jpeg, WIDTHS)
        return jpeg

    def _take(self, width: int, height: int, jpeg: bytes, pid: int) -> None:
        caller = bk.IPCSkeleton.get_calling_device_id()
        check(caller == self._udid, f"device {caller!r} called back, not the kitchen")
        self._received[width] = jpeg
        self._report.note(
            f"received {width:>4} × {height:<4} {len(jpeg):>9,} bytes, called back by device {caller[:8]}…"
        )

    def _verify(self, jpeg: bytes, widths: list[int]) -> None:
        from binderkit.cli.demo import picture

        check(sorted(self._received) == sorted(widths), f"thumbnails of widths {sorted(self._received)} came")
        photo = picture.decoded(jpeg)
        worst = max(difference(photo, width, self._received.pop(width)) for width in widths)
        self._report.note(f"each is the picture that desk makes itself; largest difference {worst:.2f} of 255")

    def _kill_service(self, service: subprocess.Popen[bytes], remote: bk.IRemoteObject) -> None:
        with self._report.step("The service's process on kitchen is killed"):
            notice = _watch(remote)
            start = time.perf_counter()
            service.kill()
            check(notice.wait(WAIT), f"no death notice within {WAIT} s")
            self._report.note(f"desk got its death notice {(notice.time - start) * 1e3:.1f} ms after the kill -9")
            service.wait(WAIT)

    def _cut(self) -> bk.IRemoteObject:
        with self._report.step(self._between.cut_text):
            self._kitchen.start_distributed_service()
            remote = samgr.get_system_ability(interface.ABILITY, device_id=KITCHEN)
            self._report.note("(there is a new service again, and desk holds a proxy of its object)")
            notice = _watch(remote)
            self._between.cut(self._kitchen)
            start = time.perf_counter()
            check(notice.wait(WAIT), f"no death notice within {WAIT} s")
            self._report.note(f"nothing was heard any more: death notice {notice.time - start:.2f} s after the cut")
            check(self._watcher.wait_for("offline", self._udid, WAIT) > 0, "desk did not hear that kitchen is offline")
            start = time.perf_counter()
            try:
                remote.send_request(interface.MAKE_THUMBNAILS, bk.MessageSequence(), bk.MessageSequence())
            except bk.DeadObjectError as error:
                micros = (time.perf_counter() - start) * 1e6
                self._report.note(f"a call fails at once ({micros:.0f} µs): {error}")
            else:
                raise StepFailed("the call of a device that is away returned as if nothing had happened")
        return remote

    def _come_back(self, dead: bk.IRemoteObject, jpeg: bytes) -> None:
        with self._report.step(f"{self._between.back_text}; desk gets the service again and calls it"):
            self._watcher.forget()
            start = time.perf_counter()
            self._between.restore()
            online = self._watcher.wait_for("online", self._udid, 2 * WAIT)
            check(online > 0, f"kitchen did not come back within {2 * WAIT} s")
            self._report.note(f"kitchen is online {(online - start) * 1e3:.0f} ms later, without pairing again")
            check(dead.is_object_dead(), "the old proxy came to life again")
            remote = samgr.get_system_ability(interface.ABILITY, device_id=KITCHEN)
            with _ashmem(jpeg) as photo:
                made = make_thumbnails(remote, photo, WIDTHS[-1:], Progress(), Receiver(self._take))
            check(made == 1, f"the service says it made {made} thumbnails")
            self._verify(jpeg, WIDTHS[-1:])


def _shown(offer: subprocess.Popen[bytes]) -> tuple[str, int]:
    """Return PIN and port from what ``binderkit device pair`` prints."""
    assert offer.stdout is not None
    first, second = offer.stdout.readline().decode(), offer.stdout.readline().decode()
    word, _, pin = first.strip().partition(" ")
    port = second.rstrip(")\n").rpartition(":")[2]
    check(word == "PIN" and port.isdecimal(), f"the kitchen shows no PIN: {first}{second}")
    return pin, int(port)


def _ashmem(content: bytes) -> bk.Ashmem:
    photo = bk.Ashmem.create("demo-photo", len(content))
    photo.map_read_write_ashmem()
    photo.write_data_to_ashmem(content, len(content), 0)
    photo.set_protection_type(bk.Ashmem.PROT_READ)
    return photo


def _watch(remote: bk.IRemoteObject) -> DeathNotice:
    notice = DeathNotice()
    remote.register_death_recipient(notice)
    return notice
