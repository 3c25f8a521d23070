"""``python -m binderkit.daemon``: run a device: SAMgr and all that starts and watches services.

Owns: the process of the daemon from its start to its end. It ends on SIGTERM, SIGINT, or when its place is taken away
(the socket, or on a binder device the runtime directory), so that the end of a temporary runtime directory is the end
of its daemon; the services it started end with it.
If it is killed they go on, and the next daemon of the directory takes them over. On SIGHUP it reads the profile
directory again.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path
from typing import Final

from binderkit import process
from binderkit.daemon.alone import alone
from binderkit.daemon.device import Device
from binderkit.daemon.place import Place, place_of
from binderkit.driver.runtime import runtime_dir
from binderkit.driver.unix.activation import notify
from binderkit.driver.unix.ending import Ending
from binderkit.errors import IpcError
from binderkit.ipc.driver import current_driver
from binderkit.samgr.policy import FILE_NAME, Policy

_log = logging.getLogger("binderkit.daemon")
_END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
_LOOK_INTERVAL: Final = 2.0
"""Seconds between two looks whether the daemon can still be found."""


def run(policy_file: Path | None = None, ready_fd: int | None = None, *, android: int | None = None) -> None:
    """Be the device's daemon until a signal ends it or its place is gone.

    Args:
        policy_file: who may do what; default: policy.toml in the runtime directory if it is there.
        ready_fd: descriptor to write "R" to, and close, when SAMgr listens and its built-in abilities are registered.
        android: the API level of the Android whose programs SAMgr answers, too; default: what the policy says.

    Raises:
        RefusedError: a daemon runs in this directory already, or the directory is unsafe (303).
        ServiceError: the policy file, or the file of permissions, cannot be used, or Android's programs cannot reach
            SAMgr (1001).
        ParamValueError: no API level (401).
    """
    directory = runtime_dir()
    policy = _policy(policy_file, directory)
    level = policy.android if android is None else android
    place = place_of(current_driver(), directory)
    try:
        if level is not None:
            place.check_android(level)
        # Handlers and not sigwait: blocked signals would be inherited by whatever this process starts.
        with alone(directory, place.taken), Ending(_END_SIGNALS) as ending:
            _run(Device(directory, policy, android=level), place, ending, ready_fd)
    finally:
        process.shutdown()
    _log.info("the daemon ended")


def _run(device: Device, place: Place, ending: Ending, ready_fd: int | None) -> None:
    ending.on(signal.SIGHUP, device.profiles.on_hangup)
    leave = True  # what runs in this directory is not ours to end before we are its SAMgr
    try:
        device.prepare()
        end = place.take(device.manager, device.admission)
        leave = False
        try:
            _serve(device, place, ending, ready_fd)
        finally:
            end()
    finally:
        device.close(leave=leave)
        process.shutdown()


def _serve(device: Device, place: Place, ending: Ending, ready_fd: int | None) -> None:
    device.start()
    if ready_fd is not None:
        _tell_ready(ready_fd)
    notify("READY=1")
    _log.info("the daemon listens in %s (pid %d)", place.title, os.getpid())
    _wait(ending, place)


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


def _wait(ending: Ending, place: Place) -> None:
    while not ending.wait(_LOOK_INTERVAL):
        why = place.lost()
        if why is not None:
            _log.warning("%s; this daemon ends", why)
            return


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon as the command line says; return the exit code (0 ended, 1 could not run)."""
    parser = argparse.ArgumentParser(
        prog="python -m binderkit.daemon", description="Run SAMgr and all that starts and watches services."
    )
    parser.add_argument("--policy", type=Path, metavar="FILE", help="who may do what (default: policy.toml)")
    parser.add_argument("--android", type=int, metavar="LEVEL", help="answer Android's programs of this API level, too")
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write R to this descriptor when listening")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        run(chosen.policy, chosen.ready_fd, android=chosen.android)
    except (IpcError, OSError) as error:
        print(f"binderkit daemon: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
