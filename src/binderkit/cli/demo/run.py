"""The demo's story, step by step; each step checks what it shows.

Owns: the order of things, and the exit code: 0 only if every step was right.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Final

from rich.console import Console

import binderkit as bk
from binderkit import samgr
from binderkit.cli.demo import interface
from binderkit.cli.demo.client import DeathNotice, Progress, Receiver, Watcher, make_thumbnails
from binderkit.cli.demo.processes import Stage
from binderkit.cli.demo.report import Report, StepFailed, check

if TYPE_CHECKING:
    from PIL.Image import Image

WIDTHS: Final = [1600, 1280, 1024, 800, 640, 320, 160, 64]
KILL_AFTER: Final = 3
"""Thumbnails after which the service is killed."""
WAIT: Final = 10.0
"""Seconds any single thing may take."""


def main() -> int:
    """Run the demo; return the exit code."""
    console = Console()
    report = Report(console)
    try:
        import PIL as PIL
    except ModuleNotFoundError:
        report.failure("it needs Pillow for its pictures; install it: pip install 'binderkit[demo]'")
        return 1
    report.title(
        "binderkit demo: a photo service is killed in the middle of its work, and its client carries on",
        "Four processes: this client, SAMgr (the registry of services), a photo service, and its successor.",
    )
    try:
        with Stage() as stage:
            Demo(stage, report).run()
        check(not stage.directory.exists(), f"{stage.directory} was left behind")
    except (StepFailed, bk.IpcError) as error:
        report.failure(str(error))
        return 1
    report.end("every step was right, and nothing is left behind")
    return 0


class Demo:
    """The client of the story."""

    def __init__(self, stage: Stage, report: Report) -> None:
        self._stage = stage
        self._report = report
        self._watcher = Watcher()
        self._received: dict[int, bytes] = {}
        self._makers: dict[int, int] = {}
        self._jpeg = b""

    def run(self) -> None:
        """Play all steps (StepFailed or IpcError when one goes wrong)."""
        self._start_samgr()
        first = self._start_service(["added"])
        with self._take_photo() as photo:
            self._lose_service(first, photo)
            second = self._start_service(["added", "removed", "added"])
            check(second.pid != first.pid, "the second service is the first one")
            self._finish(second, photo)
        self._verify(first.pid, second.pid)

    def _start_samgr(self) -> None:
        with self._report.step("SAMgr starts: the one place where services are registered and found"):
            pid = self._stage.start_samgr()
            samgr.subscribe_system_ability(interface.ABILITY, self._watcher)
            self._report.note(f"process {pid}, in a runtime directory of its own: {self._stage.directory}")

    def _start_service(self, events: list[str]) -> subprocess.Popen[bytes]:
        with self._report.step(f"A photo service starts and registers as {interface.ABILITY!r}"):
            service = self._stage.start_service()
            remote = samgr.wait_for_system_ability(interface.ABILITY, WAIT)
            check(self._watcher.wait_for(events, WAIT), f"SAMgr's listener heard {self._watcher.events}, not {events}")
            start = time.perf_counter()
            descriptor = remote.get_descriptor()
            micros = (time.perf_counter() - start) * 1e6
            check(descriptor == interface.SERVICE, f"the object found is {descriptor!r}")
            self._report.note(f"process {service.pid}; SAMgr told us at once, and gave us a proxy of its object")
            self._report.note(f"the first call, which asks for its interface ({descriptor}), took {micros:.0f} µs")
        return service

    def _take_photo(self) -> bk.Ashmem:
        from binderkit.cli.demo import picture

        with self._report.step("The client takes a photograph and puts it into shared memory (Ashmem)"):
            self._jpeg = picture.photograph()
            size = len(self._jpeg)
            self._report.note(f"{picture.SIZE[0]} × {picture.SIZE[1]} pixels, a JPEG of {size:,} bytes")
            self._report.note(f"too large for a message: {_refusal(self._jpeg)}")
            photo = bk.Ashmem.create("demo-photo", size)
            photo.map_read_write_ashmem()
            photo.write_data_to_ashmem(self._jpeg, size, 0)
            photo.set_protection_type(bk.Ashmem.PROT_READ)
            self._report.note("from now on read-only for everybody; only a descriptor of it travels")
        return photo

    def _lose_service(self, service: subprocess.Popen[bytes], photo: bk.Ashmem) -> None:
        """Call the service and kill it from within its third callback: in the middle for certain."""
        killed = 0.0
        notice = DeathNotice()

        def take(width: int, height: int, jpeg: bytes, pid: int) -> None:
            nonlocal killed
            self._take(width, height, jpeg, pid)
            if len(self._received) == KILL_AFTER:
                killed = time.perf_counter()
                service.send_signal(signal.SIGKILL)
                self._report.note(f"kill -9 {service.pid}")

        with self._report.step(f"The service makes {len(WIDTHS)} thumbnails, and is killed after {KILL_AFTER}"):
            remote = samgr.get_system_ability(interface.ABILITY)
            remote.register_death_recipient(notice)
            progress = Progress()
            try:
                make_thumbnails(remote, photo, WIDTHS, progress, Receiver(take))
            except bk.DeadObjectError:
                failed = time.perf_counter()
            else:
                raise StepFailed("the call of a killed service returned as if nothing had happened")
            check(notice.wait(WAIT), f"no death notice within {WAIT} s")
            code = service.wait(WAIT)
            check(code == -signal.SIGKILL, f"the service ended with {code}")
            check(bool(progress.reports), "no progress was reported")
            self._report.note(f"its last progress report: {progress.reports[-1][0]} %, {progress.reports[-1][1]}")
            self._report.note(
                f"the waiting call failed with DeadObjectError {(failed - killed) * 1e3:.2f} ms after the kill"
            )
            self._report.note(f"the death notice came {(notice.time - killed) * 1e3:.2f} ms after the kill")
            self._report.note("(the kernel frees a killed process's memory before it tells anybody)")
            check(self._watcher.wait_for(["added", "removed"], WAIT), f"SAMgr's listener heard {self._watcher.events}")
            check(samgr.check_system_ability(interface.ABILITY) is None, "SAMgr still has the dead service")
            self._report.note("SAMgr noticed it as well and told its listeners")

    def _finish(self, service: subprocess.Popen[bytes], photo: bk.Ashmem) -> None:
        left = [width for width in WIDTHS if width not in self._received]
        with self._report.step(f"The client goes on with the new service: {len(left)} thumbnails are missing"):
            progress = Progress()
            remote = samgr.get_system_ability(interface.ABILITY)
            made = make_thumbnails(remote, photo, left, progress, Receiver(self._take))
            check(made == len(left), f"the service says it made {made}, not {len(left)}")
            check(progress.wait_for(100, WAIT), f"the last progress report was {progress.reports[-1:]}")
            self._report.note(f"{len(progress.reports)} progress reports, the last: {progress.reports[-1][1]}")

    def _take(self, width: int, height: int, jpeg: bytes, pid: int) -> None:
        self._received[width] = jpeg
        self._makers[width] = pid
        self._report.note(f"received {width:>4} × {height:<4} {len(jpeg):>9,} bytes, called back by process {pid}")

    def _verify(self, first: int, second: int) -> None:
        from binderkit.cli.demo import picture

        with self._report.step("The client checks every thumbnail against one it makes itself"):
            makers = [self._makers.get(width) for width in WIDTHS]
            expected = [first] * KILL_AFTER + [second] * (len(WIDTHS) - KILL_AFTER)
            check(makers == expected, f"the thumbnails came from processes {makers}, expected {expected}")
            photo = picture.decoded(self._jpeg)
            worst = max(difference(photo, width, self._received[width]) for width in WIDTHS)
            self._report.note(f"{len(WIDTHS)} are there, of the right size; largest difference {worst:.2f} of 255")


def difference(photo: Image, width: int, jpeg: bytes) -> float:
    """Return how far a received thumbnail is from our own (StepFailed when it is not a picture of it)."""
    from binderkit.cli.demo import picture

    try:
        received = picture.decoded(jpeg)
    except OSError as error:
        raise StepFailed(f"the thumbnail of width {width} is no picture: {error}") from error
    own = picture.thumbnail(photo, width)
    check(received.size == own.size, f"a thumbnail has {received.size} pixels instead of {own.size}")
    value = picture.difference(received, own)
    check(value <= picture.MAX_DIFFERENCE, f"the thumbnail of width {width} shows something else ({value:.1f} of 255)")
    return value


def _refusal(jpeg: bytes) -> str:
    """Return what binderkit says when somebody writes all of ``jpeg`` into a message."""
    with bk.MessageSequence() as data:
        try:
            data.write_array_buffer(jpeg, bk.TypeCode.UINT8_ARRAY)
        except bk.TooBigError as error:
            return str(error)
    raise StepFailed(f"{len(jpeg)} bytes fitted into one message")


if __name__ == "__main__":
    sys.exit(main())
