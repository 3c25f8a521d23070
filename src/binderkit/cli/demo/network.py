"""What lies between the demo's two devices, and how it is cut: network namespaces with a switch, or the loopback.

Owns: the namespaces, made here and removed at the end, and the two ways to let a device fall silent. As root each
device gets a network namespace with an ``eth0``, joined by a bridge in a third one, and its cable can be pulled.
Without, both share the loopback; then the process that speaks for a device is frozen, which looks the same from
outside: a device that says nothing any more.

Rules upheld: nothing of the machine's own network is changed; a frozen process is let go before it is ended.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
import signal
import subprocess
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

from binderkit.cli.demo.processes import END_WAIT, Device, Place
from binderkit.cli.demo.report import StepFailed, check
from binderkit.samgr.remote import SOFTBUS_NAME

DESK = "desk"
KITCHEN = "kitchen"
_PORTS = range(20_000, 60_000)
_NAMED = Path("/run/netns")
"""Where ``ip netns`` keeps its namespaces."""


class Network(Protocol):
    """Two places that reach each other."""

    explanation: str
    """What it is, in a sentence."""
    cut_text: str
    back_text: str

    def place(self, name: str) -> Place:
        """Return where the device DESK or KITCHEN runs."""

    def cut(self, device: Device) -> None:
        """Let the kitchen fall silent; ``device`` is it."""

    def restore(self) -> None:
        """Take that back."""


class Loopback:
    """Both devices on 127.0.0.1; one is cut off by freezing its softbus process."""

    explanation = (
        "Both devices are on this machine's loopback; run as root, each would get a network namespace of its own."
    )
    cut_text = "kitchen falls silent: its softbus process is frozen (kill -STOP)"
    back_text = "It goes on (kill -CONT)"

    def __init__(self) -> None:
        # A group of its own, or a second demo at the same time would be seen.
        group = f"224.0.0.224:{_PORTS[secrets.randbelow(len(_PORTS))]}"
        self._place = Place((), {"BINDERKIT_SOFTBUS_LISTEN": "127.0.0.1", "BINDERKIT_SOFTBUS_GROUP": group})
        self._frozen = 0

    def place(self, name: str) -> Place:
        """Return the same for both."""
        return self._place

    def cut(self, device: Device) -> None:
        """Freeze the softbus process of a device."""
        pid = self._frozen = softbus_of(device)
        # Before the device's end: a frozen process does not hear that it is to end.
        device.at_end(self.restore)
        os.kill(pid, signal.SIGSTOP)

    def restore(self) -> None:
        """Let it go on, if it is frozen."""
        pid, self._frozen = self._frozen, 0
        if pid:
            os.kill(pid, signal.SIGCONT)


class Namespaces:
    """A network namespace for each device, and one with a switch.

    Args:
        stack: removes them.
    """

    explanation = (
        "Each device has a network namespace with an eth0 (veth) on a common switch, so a cable can be pulled."
    )
    cut_text = "kitchen's network cable is pulled"
    back_text = "It is plugged in again"

    def __init__(self, stack: ExitStack) -> None:
        self._prefix = f"bk{os.getpid()}-"
        switch = self._switch = f"{self._prefix}switch"
        _add(stack, switch)
        _ip("-n", switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        _ip("-n", switch, "link", "set", "br0", "up")
        for number, name in enumerate((DESK, KITCHEN), 1):
            namespace = f"{self._prefix}{name}"
            _add(stack, namespace)
            _ip("link", "add", name, "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", namespace)
            _ip("-n", switch, "link", "set", name, "master", "br0", "up")
            _ip("-n", namespace, "addr", "add", f"10.77.0.{number}/24", "dev", "eth0")
            _ip("-n", namespace, "link", "set", "lo", "up")
            _ip("-n", namespace, "link", "set", "eth0", "up")
            _ip("-n", namespace, "route", "add", "default", "dev", "eth0")  # multicast needs a route

    def place(self, name: str) -> Place:
        """Return the namespace of a device."""
        return Place(("ip", "netns", "exec", f"{self._prefix}{name}"))

    def cut(self, device: Device) -> None:
        """Pull the cable at the switch."""
        _ip("-n", self._switch, "link", "set", KITCHEN, "down")

    def restore(self) -> None:
        """Plug it in again."""
        _ip("-n", self._switch, "link", "set", KITCHEN, "up")


def network(stack: ExitStack) -> Network:
    """Return namespaces if this user may make them, else the loopback."""
    return Namespaces(stack) if namespaces_work() else Loopback()


def namespaces_work() -> bool:
    """Whether this user may make network namespaces that are joined by a cable."""
    if os.geteuid() != 0 or shutil.which("ip") is None:
        return False
    with ExitStack() as stack:
        name = f"bk{os.getpid()}-probe"
        try:
            _add(stack, name)
            _ip("-n", name, "link", "add", "br0", "type", "bridge")
            _ip("link", "add", "probe", "netns", name, "type", "veth", "peer", "name", "eth0", "netns", name)
        except StepFailed:
            return False
        return True


def softbus_of(device: Device) -> int:
    """Return the pid of a device's softbus process."""
    listing = device.start_command("processes", "--json")
    output, _ = listing.communicate(timeout=END_WAIT)
    pids = [one["pid"] for one in json.loads(output) if one["name"] == SOFTBUS_NAME]
    check(len(pids) == 1, f"the device's processes are {output.decode()}")
    return int(pids[0])


def _add(stack: ExitStack, name: str) -> None:
    # First: a signal may come before the next statement.
    stack.callback(_remove, name)
    _ip("netns", "add", name)


def _remove(name: str) -> None:
    if (_NAMED / name).exists():
        _ip("netns", "del", name)


def _ip(*words: str) -> None:
    done = subprocess.run(["ip", *words], capture_output=True, text=True, check=False)
    check(done.returncode == 0, f"ip {' '.join(words)}: {done.stderr.strip()}")
