"""``python -m binderkit.daemon``: run a device: SAMgr and all that starts and watches services.

Owns: the process of the daemon from its start to its end. It ends on SIGTERM, SIGINT, or when its socket is taken
away, so that the end of a temporary runtime directory is the end of its daemon; the services it started end with it.
If it is killed they go on, and the next daemon of the directory takes them over. On SIGHUP it reads the profile
directory again.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from binderkit import process
from binderkit.daemon.alone import alone
from binderkit.daemon.device import Device
from binderkit.driver.unix import rendezvous
from binderkit.driver.unix.activation import notify
from binderkit.driver.unix.ending import Ending
from binderkit.errors import IpcError
from binderkit.samgr.policy import FILE_NAME, Policy

_log = logging.getLogger("binderkit.daemon")
_END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LOOK_INTERVAL: Final = 2.0
"""Seconds between two looks whether the socket is still there."""


def run(policy_file: Path | None = None, ready_fd: int | None = None) -> None:
    """Be the device's daemon until a signal ends it or its socket is gone.

    Args:
        policy_file: who may do what; default: policy.toml in the runtime directory if it is there.
        ready_fd: descriptor to write "R" to, and close, when SAMgr listens and its built-in abilities are registered.

    Raises:
        RefusedError: a daemon runs in this directory already, or the directory is unsafe (303).
        ServiceError: the policy file, or the file of permissions, cannot be used (1001).
    """
    directory = rendezvous.runtime_dir()
    policy = _policy(policy_file, directory)
    # Handlers and not sigwait: blocked signals would be inherited by whatever this process starts.
    with alone(directory), Ending(_END_SIGNALS) as ending:
        device = Device(directory, policy)
        ending.on(signal.SIGHUP, device.profiles.on_hangup)
        leave = True  # what runs in this directory is not ours to end before we are its SAMgr
        try:
            device.prepare()
            end = rendezvous.serve_context(process.local_node(), device.manager, admission=policy.admission)
            leave = False
            _serve(device, directory, ending, ready_fd, end)
        finally:
            device.close(leave=leave)
            process.shutdown()
    _log.info("the daemon ended")


def _serve(device: Device, directory: Path, ending: Ending, ready_fd: int | None, end: Callable[[], None]) -> None:
    try:
        path = directory / rendezvous.SOCKET
        ours = os.stat(path)  # before anybody is told that we listen, and may remove it
        device.start()
        if ready_fd is not None:
            _tell_ready(ready_fd)
        notify("READY=1")
        _log.info("the daemon listens in %s (pid %d)", directory, os.getpid())
        _wait(ending, path, ours)
    finally:
        end()


def _tell_ready(fd: int) -> None:
    try:
        os.write(fd, b"R")
    except BrokenPipeError:
        # A client that started us and was killed: no reason to end, and the services taken over with us.
        _log.info("whoever started this daemon does not wait for it any more")
    finally:
        os.close(fd)


def _policy(policy_file: Path | None, directory: Path) -> Policy:
    if policy_file is not None:
        return Policy.load(policy_file)
    path = directory / FILE_NAME
    return Policy.load(path) if path.exists() else Policy()


def _wait(ending: Ending, path: Path, ours: os.stat_result) -> None:
    while not ending.wait(_LOOK_INTERVAL):
        try:
            now = os.stat(path)
        except FileNotFoundError:
            _log.warning("%s was removed, nobody can find this daemon any more; it ends", path)
            return
        if (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino):
            _log.warning("%s belongs to somebody else now; this daemon ends", path)
            return


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon as the command line says; return the exit code (0 ended, 1 could not run)."""
    parser = argparse.ArgumentParser(
        prog="python -m binderkit.daemon", description="Run SAMgr and all that starts and watches services."
    )
    parser.add_argument("--policy", type=Path, metavar="FILE", help="who may do what (default: policy.toml)")
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write R to this descriptor when listening")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        run(chosen.policy, chosen.ready_fd)
    except (IpcError, OSError) as error:
        print(f"binderkit daemon: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
