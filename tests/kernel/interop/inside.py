"""What runs in the guest: for each API level SAMgr, a service, and the programs of others that use them.

Owns: what each program must be told. For each level /dev/binder is another device, so that nothing of the former level
is left there (libgbinder knows how to speak only on that path); SAMgr and the service are processes of their own,
forked from this one, which has imported what they need and has no driver.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

LEVELS = (27, 28, 29, 30, 31, 33, 35, 36)
"""API levels, one at least for each protocol of the service manager and of the wire."""
DEVICE = "/dev/binder"
SETTINGS = Path("/etc/gbinder.conf")
NAME, NUMBER, INTERFACE = "demo.echo", 4242, "demo.IEcho"
PATIENCE = 60.0
"""Seconds that a program may take; one that finds no service manager waits for ever."""
STEP = 0.2
CLIENT = Path(__file__).with_name("gbinder_client.py")


@dataclass(frozen=True)
class Check:
    """One program and what it must print.

    Attributes:
        title: of its column.
        command: itself.
        expected: a pattern of all it prints.
    """

    title: str
    command: tuple[str, ...]
    expected: str


CHECKS = (
    Check("binder-list", ("binder-list", "-d", DEVICE), rf"(?s)(?=.*^{NUMBER}$)(?=.*^{re.escape(NAME)}$)"),
    Check("binder-ping", ("binder-ping", "-d", DEVICE, NAME), r"OK"),
    Check(
        "binder-call",
        ("binder-call", "-a", "-d", DEVICE, NAME, "1", '"hi"u', "42", "reply", "i32", "s16"),
        rf'43 "{re.escape(INTERFACE)} hi from 0"',
    ),
    Check(
        "python3-gbinder",
        (sys.executable, str(CLIENT), NAME),
        rf"reply 0 \(True, 42\) {re.escape(INTERFACE)} hello from 0\nnobody \(None, \S+\)",
    ),
)
GONE = Check("list after its end", ("binder-list", "-d", DEVICE), r"\A\Z")
"""Once the service has ended."""


def outcome(check: Check) -> str | None:
    """Run a program; return None if it printed what it must, else what it did."""
    try:
        done = subprocess.run(
            check.command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, timeout=PATIENCE,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        return f"not done after {PATIENCE:.0f} s"
    if re.search(check.expected, done.stdout, re.MULTILINE):
        return None
    return f"exit status {done.returncode}, printed {done.stdout!r}"


def outcome_in_time(check: Check) -> str | None:
    """Run a program until it prints what it must, which something that has happened will make it soon."""
    end = time.monotonic() + PATIENCE
    while (wrong := outcome(check)) is not None and time.monotonic() < end:
        time.sleep(STEP)  # the interval between two looks, not a wait for it to come true
    return wrong


def serve_samgr(level: int) -> None:
    """Be SAMgr on the device, with Android's protocol of a level."""
    from binderkit.driver.kernel.node import KernelNode
    from binderkit.ipc.driver import set_driver
    from binderkit.samgr.service import SystemAbilityManager

    node = KernelNode(DEVICE)
    set_driver(node)
    node.become_context(SystemAbilityManager(android=level))


def serve_abilities(level: int) -> None:
    """Be a process of this package with two abilities: one with a name, one with a number."""
    import binderkit as bk
    from binderkit.driver.kernel.node import KernelNode
    from binderkit.interop import AndroidParcel, variant_for
    from binderkit.ipc.driver import set_driver
    from binderkit.samgr import SystemAbilityManagerClient

    wire = variant_for(level).wire

    class Echo(bk.RemoteObject):
        """Text, number -> number + 1, and a text of who called for what."""

        def on_remote_message_request(
            self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
        ) -> bool:
            request, answer = AndroidParcel(data, wire), AndroidParcel(reply, wire)
            header = request.read_interface_token()
            text, number = request.read_string16(), data.read_int()
            reply.write_int(number + 1)
            answer.write_string16(f"{header.interface} {text} from {bk.IPCSkeleton.get_calling_uid()}")
            return True

    node = KernelNode(DEVICE)
    set_driver(node)
    client = SystemAbilityManagerClient(node.context_object(start=False))
    client.add_system_ability(NAME, Echo(INTERFACE))
    client.add_system_ability(NUMBER, Echo("demo.INumber"))


class Forked:
    """A process of this test that does what a function says and then serves until it is ended."""

    def __init__(self, role: Callable[[int], None], level: int) -> None:
        """Start it, and return when it serves.

        Raises:
            ChildProcessError: it ended before.
        """
        reading, writing = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reading)
            _serve(role, level, writing)
        os.close(writing)
        with open(reading, "rb") as ready:
            if not ready.read(1):
                self.kill()
                raise ChildProcessError(f"{role.__name__} failed at level {level}: see above")

    def kill(self) -> None:
        """End it. Idempotent."""
        if self._pid:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def _serve(role: Callable[[int], None], level: int, writing: int) -> None:
    """Be the forked process: never return."""
    try:
        role(level)
        os.write(writing, b".")
        while True:
            signal.pause()
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stderr.flush()
        os._exit(1)


@contextlib.contextmanager
def forked(role: Callable[[int], None], level: int) -> Iterator[Forked]:
    """Have such a process for a while."""
    process = Forked(role, level)
    try:
        yield process
    finally:
        process.kill()


def try_level(level: int, device: str) -> dict[str, str | None]:
    """Return what was wrong with each program's outcome at a level, None if nothing was.

    Args:
        level: Android's API level.
        device: one that was not used yet.
    """
    os.replace(device, DEVICE)
    SETTINGS.write_text(f"[General]\nApiLevel = {level}\n")
    with forked(serve_samgr, level), forked(serve_abilities, level) as service:
        found = {check.title: outcome(check) for check in CHECKS}
        service.kill()
        found[GONE.title] = outcome_in_time(GONE)
    return found


def row(first: str, cells: list[str]) -> str:
    """Return a line of the table."""
    return " | ".join([f"{first:>6}", *(f"{cell:18}" for cell in cells)]).rstrip()


def main(words: list[str]) -> int:
    """Try all levels and print a table; return 1 if anything was wrong."""
    import binderkit.driver.kernel.node
    import binderkit.interop
    import binderkit.samgr.service  # noqa: F401  # once for all that are forked

    levels = [int(word) for word in words]
    results = {level: try_level(level, f"/dev/b{number}") for number, level in enumerate(levels)}
    print(row("level", [check.title for check in (*CHECKS, GONE)]))
    for level, found in results.items():
        print(row(str(level), ["ok" if wrong is None else "WRONG" for wrong in found.values()]))
    told = [(level, title, wrong) for level, found in results.items() for title, wrong in found.items() if wrong]
    for level, title, wrong in told:
        print(f"level {level}, {title}: {wrong}")
    return 1 if told else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
