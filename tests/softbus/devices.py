"""Devices as network namespaces on one machine: cables that can be pulled, and made long and bad. Needs root.

Each ``Lan`` has a switch (a namespace with a bridge) and devices (namespaces with an ``eth0`` on it). A bad cable is
the relay of ``relay.py`` between a device's port and the bridge.
"""

from __future__ import annotations

import fcntl
import json
import os
import queue
import signal
import struct
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import IO, Any

from binderkit.softbus.zenoh_config import ZenohSettings
from tests.softbus.certificates import Device

ROOT = Path(__file__).parents[2]
_OFFLOADS = (0x17, 0x1F, 0x24, 0x2C)
"""ETHTOOL_STXCSUM, _STSO, _SGSO, _SGRO: with them on, the relay would see frames larger than the MTU."""


def ip(*words: str) -> None:
    """Run ``ip``; what it says when it fails is in the error."""
    done = subprocess.run(["ip", *words], capture_output=True, text=True)
    assert done.returncode == 0, f"ip {' '.join(words)}: {done.stderr}"


@cache
def namespaces_work() -> bool:
    """Whether this user may make network namespaces."""
    name = f"bk{os.getpid()}probe"
    if os.geteuid() != 0:
        return False
    try:
        made = subprocess.run(["ip", "netns", "add", name], capture_output=True)
    except FileNotFoundError:
        return False
    if made.returncode == 0:
        ip("netns", "del", name)
    return made.returncode == 0


class Process:
    """A running program of a device and the lines it says."""

    def __init__(self, command: list[str]) -> None:
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )
        self.said: list[list[Any]] = []
        self._lines: queue.Queue[list[Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._lines.put(json.loads(line))

    def tell(self, line: str) -> None:
        """Give the process a command."""
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def wait(self, *words: object, timeout: float = 20) -> list[Any]:
        """Return the next line that begins with ``words``; what comes before it is kept in ``said`` as well."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                line = self._lines.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                raise AssertionError(f"not said within {timeout} s: {words}; the last: {self.said[-5:]}") from None
            self.said.append(line)
            if tuple(line[: len(words)]) == words:
                return line

    def all(self, word: str) -> list[str]:
        """Return the second words of the lines that begin with ``word`` so far."""
        while not self._lines.empty():
            self.said.append(self._lines.get())
        return [line[1] for line in self.said if line[0] == word]

    def outcomes(self) -> dict[str, str]:
        """Return how each call ended."""
        self.all("")
        return {line[1]: line[2] for line in self.said if line[0] == "ended"}

    def freeze(self) -> None:
        """Stop it as a debugger would."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


class Lan:
    """A switch and its devices.

    Args:
        count: devices, numbered from 1.
    """

    def __init__(self, count: int) -> None:
        self._prefix = f"bk{os.getpid()}"
        self._switch = f"{self._prefix}s"
        self._count = 0
        self._running: list[Process] = []
        self._relays: list[subprocess.Popen[str]] = []
        ip("netns", "add", self._switch)
        ip("-n", self._switch, "link", "add", "br0", "type", "bridge", "mcast_snooping", "0")
        ip("-n", self._switch, "link", "set", "br0", "up")
        for number in range(1, count + 1):
            self._add(number)

    def _name(self, number: int) -> str:
        return f"{self._prefix}d{number}"

    def _add(self, number: int) -> None:
        name, switch, port = self._name(number), self._switch, f"p{number}"
        ip("netns", "add", name)
        self._count = number
        ip("link", "add", port, "netns", switch, "type", "veth", "peer", "name", "eth0", "netns", name)
        ip("-n", switch, "link", "set", port, "master", "br0", "up")
        ip("-n", name, "addr", "add", f"{self.address(number)}/24", "dev", "eth0")
        ip("-n", name, "link", "set", "lo", "up")
        ip("-n", name, "link", "set", "eth0", "up")
        ip("-n", name, "route", "add", "default", "dev", "eth0")  # multicast needs a route

    def start(self, number: int, device: Device, *trusted: Device, program: str = "device_main") -> Process:
        """Run a device (``program``: which module of the tests) in its namespace; return when it is ready."""
        settings = ZenohSettings(listen=(f"tls/{self.address(number)}:0",), interface="eth0")
        told = {
            "own": device.udid,
            "trusted": [other.udid for other in trusted],
            "ca": device.ca_pem.decode(),
            "certificate": device.certificate_pem.decode(),
            "key": str(device.key_file),
            "settings": asdict(settings),
        }
        return self.run(number, f"tests.softbus.{program}", told)

    @staticmethod
    def address(number: int) -> str:
        """Return the address of a device."""
        return f"10.77.0.{number}"

    def run(self, number: int, module: str, told: dict[str, Any]) -> Process:
        """Run a module in a device's namespace; return when it says that it is ready."""
        main = [sys.executable, "-W", "error", "-m", module, json.dumps(told)]
        process = Process(["ip", "netns", "exec", self._name(number), *main])
        self._running.append(process)
        process.wait("ready")
        return process

    def stop(self, process: Process) -> None:
        """Pull the plug of a device's process."""
        process.kill()
        self._running.remove(process)

    def unplug(self, number: int) -> None:
        """Pull a device's cable."""
        ip("-n", self._switch, "link", "set", f"p{number}", "down")

    def plug(self, number: int) -> None:
        """Plug it in again."""
        ip("-n", self._switch, "link", "set", f"p{number}", "up")

    def worsen(self, number: int, *, loss: float, delay: float, seed: int = 1) -> None:
        """Make a device's cable lose frames and delay them (seconds), each way; before the device is started."""
        for device in range(1, self._count + 1):
            self._in_namespace(self._name(device), "eth0")
        switch, inner, outer = self._switch, f"r{number}", f"b{number}"
        ip("-n", switch, "link", "add", inner, "type", "veth", "peer", "name", outer)
        ip("-n", switch, "link", "set", f"p{number}", "nomaster")
        ip("-n", switch, "link", "set", outer, "master", "br0", "up")
        ip("-n", switch, "link", "set", inner, "up")
        self._in_namespace(switch, inner, outer, f"p{number}")
        relay = ["ip", "netns", "exec", switch, sys.executable, str(Path(__file__).with_name("relay.py"))]
        words = [f"p{number}", inner, str(loss), str(delay), str(seed)]
        self._relays.append(subprocess.Popen([*relay, *words], stdout=subprocess.PIPE, text=True))
        stdout = self._relays[-1].stdout
        assert stdout is not None and stdout.readline() == "ready\n"

    @staticmethod
    def _in_namespace(namespace: str, *interfaces: str) -> None:
        """Switch off what makes frames larger than the cable's."""
        words = [sys.executable, "-m", "tests.softbus.devices", *interfaces]
        subprocess.run(["ip", "netns", "exec", namespace, *words], check=True, cwd=ROOT)

    def close(self) -> None:
        """End all processes and remove the namespaces."""
        for process in list(self._running):
            self.stop(process)
        for relay in self._relays:
            relay.kill()
            relay.communicate()
        for number in range(1, self._count + 1):
            ip("netns", "del", self._name(number))
        ip("netns", "del", self._switch)


def switch_offloads_off(interface: str) -> None:
    """What ``ethtool -K … off`` does (SIOCETHTOOL)."""
    import array
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        for command in _OFFLOADS:
            value = array.array("B", struct.pack("II", command, 0))
            request = struct.pack("16sP", interface.encode(), value.buffer_info()[0])
            fcntl.ioctl(handle, 0x8946, request.ljust(40, b"\0"))


if __name__ == "__main__":
    for each in sys.argv[1:]:
        switch_offloads_off(each)
