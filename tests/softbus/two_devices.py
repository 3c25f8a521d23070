"""Two whole devices on the loopback interface: a daemon each, its softbus, and programs that are told what to do."""

from __future__ import annotations

import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import IO, Any

from tests.softbus.zenoh_devices import free_port

ROOT = Path(__file__).parents[2]
DECLARED = """\
process = "programs"
remote-abilities = [0x5000, 0x5001, 0x5007, 0x5200, 0x5201, "tests.echo", "tests.private"]
"""
"""What programs of these devices may ask others for."""
WAIT = 25.0
"""Seconds after which something that should come is missing."""


class Program:
    """A running program of tests.softbus.device_program on one device."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.softbus.device_program"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            env=environment,
        )
        self.heard: list[list[Any]] = []
        self._lines: queue.Queue[list[Any]] = queue.Queue()
        self._reader = threading.Thread(target=self._read, args=(self._process.stdout,))
        self._reader.start()

    def _read(self, stdout: IO[str]) -> None:
        for line in stdout:
            self._lines.put(json.loads(line))

    def ask(self, command: str, *arguments: object) -> Any:
        """Have the program do something and return what it says."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]) + "\n")
        self._process.stdin.flush()
        return self.wait("answer")[1]

    def fails(self, command: str, *arguments: object) -> tuple[int, str]:
        """Return code and text of the error the command ends in."""
        answer = self.ask(command, *arguments)
        assert isinstance(answer, dict) and "code" in answer, f"{command} did not fail: {answer}"
        return answer["code"], answer["text"]

    def wait(self, *words: object, timeout: float = WAIT) -> list[Any]:
        """Return the first line not waited for yet that begins with ``words``."""
        deadline = time.monotonic() + timeout
        while True:
            for line in self.heard:
                if tuple(line[: len(words)]) == words:
                    self.heard.remove(line)
                    return line
            try:
                self.heard.append(self._lines.get(timeout=max(0.0, deadline - time.monotonic())))
            except queue.Empty:
                raise AssertionError(f"not said within {timeout} s: {words}; said: {self.heard[-6:]}") from None

    def forget(self) -> None:
        """Drop what was heard so far and not waited for."""
        self.ask("own")
        self.heard.clear()

    def kill_now(self) -> None:
        """End it as a crash would."""
        self._process.kill()
        self._process.wait(WAIT)

    def close(self) -> None:
        """End it, if it runs; may be called twice."""
        self.kill_now()
        self._reader.join()
        for stream in (self._process.stdin, self._process.stdout):
            assert stream is not None
            stream.close()


class WholeDevice:
    """A runtime directory with a daemon."""

    def __init__(self, group: str, **environment: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="bk-"))
        folder = self.directory / "profiles"
        folder.mkdir(0o700)
        (folder / "programs.toml").write_text(DECLARED)
        self.environment = {
            **os.environ,
            "BINDERKIT_RUNTIME_DIR": str(self.directory),
            "BINDERKIT_SOFTBUS_LISTEN": "127.0.0.1",
            "BINDERKIT_SOFTBUS_GROUP": group,
            "BINDERKIT_NO_AUTOSTART": "1",
            "PYTHONPATH": str(ROOT),
            **environment,
        }
        self._programs: list[Program] = []
        self._daemon = self._started()

    def _started(self) -> subprocess.Popen[bytes]:
        ready, done = os.pipe()
        with open(ready, "rb") as listening:
            command = [sys.executable, "-m", "binderkit.daemon", "--ready-fd", str(done)]
            daemon = subprocess.Popen(command, pass_fds=[done], env=self.environment, stderr=subprocess.DEVNULL)
            os.close(done)
            assert listening.read() == b"R"
        return daemon

    def program(self) -> Program:
        """Start a program."""
        program = Program(self.environment)
        self._programs.append(program)
        return program

    def command(self, *words: str, timeout: float = 60) -> subprocess.CompletedProcess[str]:
        """Run ``binderkit`` with these words."""
        return subprocess.run(
            [sys.executable, "-m", "binderkit.cli.main", *words],
            env=self.environment,
            cwd=ROOT,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def restart(self) -> None:
        """End the daemon and start another one."""
        self._daemon.terminate()
        self._daemon.wait(WAIT)
        self._daemon = self._started()

    def reboot(self) -> None:
        """Begin anew with an empty runtime directory, as a machine does that keeps it in memory."""
        self._daemon.terminate()
        self._daemon.wait(WAIT)
        shutil.rmtree(self.directory)
        self.directory.mkdir(mode=0o700)
        self._daemon = self._started()

    def crash(self) -> None:
        """Kill the daemon, which its services outlive, and start another one."""
        self._daemon.kill()
        self._daemon.wait(WAIT)
        self._daemon = self._started()

    def log(self) -> str:
        """Return what the softbus process logged."""
        path = self.directory / "logs" / "binderkit.softbus.log"
        return path.read_text() if path.exists() else ""

    def close(self) -> None:
        for program in self._programs:
            program.close()
        self._daemon.terminate()
        self._daemon.wait(WAIT)
        deadline = time.monotonic() + WAIT
        while left := self._processes():
            assert time.monotonic() < deadline, f"processes of a device are left after it: {left}"
            time.sleep(0.01)  # between two looks
        shutil.rmtree(self.directory)

    def _processes(self) -> list[str]:
        """Return the processes of this device: they are nobody's children once the daemon has ended."""
        mark, found = f"BINDERKIT_RUNTIME_DIR={self.directory}".encode(), []
        for entry in Path("/proc").iterdir():
            try:
                if entry.name.isdigit() and mark in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(f"{entry.name} {(entry / 'cmdline').read_bytes().decode(errors='replace')}")
            except (FileNotFoundError, ProcessLookupError, PermissionError):
                continue  # it ended while we looked, or it is no process of ours
        return found


class TwoDevices:
    """Two devices that could see each other; not paired."""

    def __init__(self) -> None:
        group = f"224.0.0.224:{free_port(socket.SOCK_DGRAM)}"
        self.a, self.b = WholeDevice(group), WholeDevice(group)
        self.user, self.owner = self.a.program(), self.b.program()

    def pair(self) -> tuple[str, str]:
        """Pair them with a PIN; return both UDIDs once both are online."""
        offer = self.owner.ask("offer")
        self.user.ask("pair", offer["port"], offer["pin"])
        self.owner.wait("paired")
        one, two = self.user.ask("own")["udid"], self.owner.ask("own")["udid"]
        self.user.wait("device", "online", two)
        self.owner.wait("device", "online", one)
        return one, two

    def close(self) -> None:
        self.a.close()
        self.b.close()
