"""A process that runs the event services, as the daemon does, for the tests of clients."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import binderkit as bk
from binderkit import samgr
from binderkit.samgr.events import (
    COMMON_EVENT_ID,
    COMMON_EVENT_NAME,
    PARAMETERS_ID,
    PARAMETERS_NAME,
    CommonEventService,
    ParameterService,
)

WAIT = 20.0
_kept: list[object] = []


@contextmanager
def daemon_process() -> Iterator[subprocess.Popen[bytes]]:
    """Run a device's daemon in the current runtime directory; yields when it is ready, ends it unless it ended."""
    ready, done = os.pipe()
    with open(ready, "rb") as listening:
        command = [sys.executable, "-m", "binderkit.daemon", "--ready-fd", str(done)]
        process = subprocess.Popen(command, pass_fds=[done], stderr=subprocess.DEVNULL)
        os.close(done)
        try:
            assert listening.read() == b"R"
            yield process
        finally:
            process.terminate()
            process.wait(WAIT)


def serve() -> bk.RemoteObject:
    """Register both services; what the child process of a test runs."""
    events, parameters = CommonEventService(), ParameterService()
    _kept.extend((events, parameters))
    samgr.add_system_ability(COMMON_EVENT_ID, events.as_object(), name=COMMON_EVENT_NAME)
    samgr.add_system_ability(PARAMETERS_ID, parameters.as_object(), name=PARAMETERS_NAME)
    return bk.RemoteObject("tests.events")
