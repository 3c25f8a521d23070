"""``python -m binderkit.samgr.sa_main PROFILE``: the process of the system abilities of one profile (reference 2.7).

Owns: the process from its start to its end: the profile, waiting for SAMgr, the host, signals, the exit code. It ends
on SIGTERM, SIGINT, or when SAMgr says so; its abilities stop first.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path
from typing import Final

from binderkit import process
from binderkit.driver.unix import activation
from binderkit.driver.unix.ending import Ending
from binderkit.errors import DeadObjectError, IpcError, NoServiceManagerError
from binderkit.ipc.driver import current_driver
from binderkit.samgr import handover, reconnect
from binderkit.samgr.host import AbilityHost
from binderkit.samgr.profile import Profile, load_profile

_log = logging.getLogger("binderkit.samgr")
_END_SIGNALS: Final = (signal.SIGTERM, signal.SIGINT)
MANAGER_WAIT: Final = 10.0
"""Seconds SAMgr may take to be there (reference 2.7: 50 times 200 ms)."""
EXIT_LATE: Final = 75
"""Exit code of a process one of whose abilities did not stop in time (EX_TEMPFAIL)."""
_FIRST_PAUSE: Final = 0.02
_LONGEST_PAUSE: Final = 0.2


def run(file: Path) -> None:
    """Host the abilities of a profile until a signal or SAMgr ends it; call it on the main thread.

    When an ability does not stop in time the process ends here, with EXIT_LATE.

    Raises:
        ProfileError: the profile has mistakes (1002).
        NoServiceManagerError: no SAMgr came within MANAGER_WAIT (1007).
        ServiceError, RefusedError: SAMgr does not know the process, or the name is taken (1005, 303).
    """
    profile = handover.take(file) or load_profile(file)
    # Handlers and not sigwait: blocked signals would be inherited by whatever the abilities start.
    with Ending(_END_SIGNALS) as ending:
        try:
            _host(profile, ending)
        finally:
            process.shutdown()


def _host(profile: Profile, ending: Ending) -> None:
    _find_modules_of(profile)
    host = AbilityHost(profile, end=ending.come)
    if not _registered(host, ending):
        return
    _log.info("process %s hosts %d system abilities", profile.process, len(profile.abilities))
    threading.Thread(target=_start, args=(host,), name="binderkit-start", daemon=True).start()
    ending.wait()
    activation.notify("STOPPING=1")
    in_time = host.close()
    _log.info("process %s ends", profile.process)
    if not in_time:
        # A thread that hangs, or the event loop it blocks, cannot be ended and must not keep the process.
        logging.shutdown()
        os._exit(EXIT_LATE)


def _start(host: AbilityHost) -> None:
    """Start what runs on create, and tell systemd, if it is there, when that is done."""
    host.start_all()
    activation.notify("READY=1")


def _registered(host: AbilityHost, ending: Ending) -> bool:
    """Make the process known to SAMgr, also to every later one; False when it is to end before.

    Raises:
        NoServiceManagerError: none came. ServiceError, RefusedError: SAMgr does not take the process.
    """
    while _await_manager(ending):
        try:
            host.register()
            # In place of the plain registration: more is to be done when SAMgr was restarted.
            reconnect.remember(reconnect.PROCESS, host.profile.process, host.register_again)
            return True
        except (DeadObjectError, NoServiceManagerError) as error:
            _log.info("SAMgr ended while this process registered: %s", error)
    return False


def _await_manager(ending: Ending) -> bool:
    """Wait for SAMgr; False when the process is to end before.

    Raises:
        NoServiceManagerError: it did not come.
    """
    waited, pause = 0.0, _FIRST_PAUSE
    while True:
        try:
            current_driver().context_object(start=True)
            return True
        except NoServiceManagerError:
            if waited >= MANAGER_WAIT:
                raise
        if ending.wait(pause):
            return False
        waited += pause
        pause = min(2 * pause, _LONGEST_PAUSE)


def _find_modules_of(profile: Profile) -> None:
    """Let entries name modules beside the profile's file; last, so that they hide nothing."""
    beside = str(profile.path.parent.resolve())
    if beside not in sys.path:
        sys.path.append(beside)


def main(arguments: list[str] | None = None) -> int:
    """Host what the command line names; return the exit code (0 ended, 1 could not run, 2 wrong usage)."""
    words = sys.argv[1:] if arguments is None else arguments
    if len(words) != 1 or words[0].startswith("-"):
        # By hand: argparse would be a tenth of the time that an on-demand start takes.
        print("usage: python -m binderkit.samgr.sa_main PROFILE (a TOML or JSON file)", file=sys.stderr)
        return 2
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    try:
        run(Path(words[0]))
    except (IpcError, OSError) as error:
        print(f"sa_main: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
