"""``python -m binderkit.samgr``: run SAMgr for a runtime directory.

Owns: the process of SAMgr from its start to its clean end. It ends on SIGTERM,
SIGINT, or when its socket is taken away, so that the end of a temporary runtime
directory is the end of its SAMgr.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import sys
from pathlib import Path

from binderkit import process
from binderkit.driver.unix import rendezvous
from binderkit.driver.unix.ending import Ending
from binderkit.errors import IpcError
from binderkit.samgr.policy import FILE_NAME, Policy
from binderkit.samgr.service import SystemAbilityManager

_log = logging.getLogger("binderkit.samgr")
_END_SIGNALS = (signal.SIGTERM, signal.SIGINT)
_LOOK_INTERVAL = 2.0
"""Seconds between two looks whether the socket is still there."""


def run(policy_file: Path | None = None, ready_fd: int | None = None) -> None:
    """Be SAMgr until a signal ends it or its socket is gone.

    Args:
        policy_file: who may do what; default: policy.toml in the runtime directory if it is there.
        ready_fd: descriptor to write "R" to, and close, when SAMgr listens.

    Raises:
        RefusedError: a SAMgr runs in this directory already, or the directory is unsafe (303).
        ServiceError: the policy file cannot be used (1001).
    """
    directory = rendezvous.runtime_dir()
    policy = _policy(policy_file, directory)
    # Handlers and not sigwait: blocked signals would be inherited by whatever this process starts.
    with Ending(_END_SIGNALS) as ending:
        end = rendezvous.serve_context(process.local_node(), SystemAbilityManager(policy), admission=policy.admission)
        try:
            path = directory / rendezvous.SOCKET
            ours = os.stat(path)  # before anybody is told that we listen, and may remove it
            if ready_fd is not None:
                os.write(ready_fd, b"R")
                os.close(ready_fd)
            _log.info("SAMgr listens in %s (pid %d)", directory, os.getpid())
            _wait(ending, path, ours)
        finally:
            end()
            process.shutdown()
    _log.info("SAMgr ended")


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
            _log.warning("%s was removed, nobody can find this SAMgr any more; it ends", path)
            return
        if (now.st_dev, now.st_ino) != (ours.st_dev, ours.st_ino):
            _log.warning("%s belongs to somebody else now; this SAMgr ends", path)
            return


def main(arguments: list[str] | None = None) -> int:
    """Run SAMgr as the command line says; return the exit code (0 ended, 1 could not run)."""
    parser = argparse.ArgumentParser(prog="python -m binderkit.samgr", description="Run the system ability manager.")
    parser.add_argument("--policy", type=Path, metavar="FILE", help="who may do what (default: policy.toml)")
    parser.add_argument("--ready-fd", type=int, metavar="FD", help="write R to this descriptor when listening")
    chosen = parser.parse_args(arguments)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        run(chosen.policy, chosen.ready_fd)
    except (IpcError, OSError) as error:
        print(f"samgr: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
