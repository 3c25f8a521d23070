"""Two devices on the loopback interface: a runtime directory, a daemon and a softbus each, paired.

Runs inside the client process of binderkit between devices (bench/peers/rpc.py).
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.peers import base

END_WAIT = 20.0
"""Seconds a daemon may take to end, with its services."""
ABILITIES = range(0x5000, 0x5020)
"""What programs of these devices may ask the other one for."""
_PROFILE = """\
process = "programs"
remote-abilities = {}
"""
_ROOT = Path(__file__).parents[1]


def environment(folder: Path, group: str) -> dict[str, str]:
    """Return what makes a process one of the device in ``folder``; devices of one multicast group find each other."""
    return {
        "BINDERKIT_RUNTIME_DIR": str(folder),
        "BINDERKIT_SOFTBUS_LISTEN": "127.0.0.1",
        "BINDERKIT_SOFTBUS_GROUP": group,
        "BINDERKIT_NO_AUTOSTART": "1",
        "PYTHONPATH": os.pathsep.join([str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
    }


def free_group() -> str:
    """Return a multicast group that nobody else on this machine uses now."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"224.0.0.224:{probe.getsockname()[1]}"


class Program:
    """A running ``bench.far``."""

    def __init__(self, variables: dict[str, str]) -> None:
        self._process = base.start_module("bench.far", environment={**os.environ, **variables})
        self.pid = self._process.pid

    def ask(self, command: str, *arguments: object) -> Any:
        """Have it do something; return what it says.

        Raises:
            RuntimeError: it could not, or ended.
        """
        self.tell(command, *arguments)
        return self.answer()

    def tell(self, command: str, *arguments: object) -> None:
        """Have it do something; ``answer`` returns what it says."""
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps([command, *arguments]).encode() + b"\n")
        self._process.stdin.flush()

    def answer(self) -> Any:
        """Return what it says to the oldest command that was not answered; raises as ``ask``."""
        line = base.read_line(self._process)
        if not line:
            raise RuntimeError("a program on the other device ended; its own words are above")
        said = json.loads(line)
        if "failed" in said:
            raise RuntimeError(f"on the other device: {said['failed']}")
        return said["ok"]

    def close(self) -> None:
        """Kill it, if it still runs."""
        base.stop(self._process)


class Device:
    """A device that runs until it is closed.

    Args:
        folder: its runtime directory; made here. group: see ``environment``.

    Raises:
        RuntimeError: its daemon did not start; the text has its last words.
    """

    def __init__(self, folder: Path, group: str) -> None:
        folder.mkdir(mode=0o700)
        (folder / "profiles").mkdir(mode=0o700)
        (folder / "profiles" / "programs.toml").write_text(_PROFILE.format(list(ABILITIES)))
        self.folder = folder
        self.variables = environment(folder, group)
        self._started = ExitStack()
        self.start()

    def start(self) -> None:
        """Start the daemon (again)."""
        log_path = self.folder / "daemon.log"
        ready, said = os.pipe()
        with open(ready, "rb") as listening, log_path.open("ab") as log:
            command = [sys.executable, "-m", "bench.bound", "binderkit.daemon", "--ready-fd", str(said)]
            try:
                # Its own process group: it must be asked to end, or its services would outlive it.
                self._daemon = subprocess.Popen(command, env={**os.environ, **self.variables}, pass_fds=[said],
                                                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                                start_new_session=True)  # fmt: skip
            finally:
                os.close(said)
            if listening.read() != b"R":
                self.stop()
                words = "\n".join(log_path.read_text(errors="replace").splitlines()[-5:])
                raise RuntimeError(f"the daemon did not start; its last words: {words}")

    @property
    def pid(self) -> int:
        """The daemon's."""
        return self._daemon.pid

    def program(self) -> Program:
        """Start a program on it, which ends with it."""
        program = Program(self.variables)
        self._started.callback(program.close)
        return program

    def stop(self) -> None:
        """End the daemon; its programs stay."""
        self._daemon.terminate()
        self._daemon.wait(END_WAIT)

    def close(self) -> None:
        """End it and its programs."""
        self._started.close()
        self.stop()
