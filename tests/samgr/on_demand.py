"""A device for tests of on-demand starts: SAMgr with a supervisor in a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from binderkit import process
from binderkit.daemon.place import place_of
from binderkit.driver.runtime import runtime_dir
from binderkit.driver.unix.ending import Ending
from binderkit.driver.unix.rendezvous import same_user
from binderkit.ipc.driver import current_driver
from binderkit.samgr.profile_dir import ProfileDirectory
from binderkit.samgr.service import SystemAbilityManager
from binderkit.samgr.supervisor import Supervisor
from binderkit.samgr.tokens import TokenRegistry
from tests.samgr.processes import WAIT

PROFILE = """\
process = "{process}"

[[ability]]
id = {id}
entry = "{file}:{kind}"
run-on-create = false
{more}
"""


ABILITIES = Path(__file__).parent / "lazy_abilities.py"


def write_profile(directory: Path, name: str, id: int, kind: str, more: str = "") -> None:
    """Put the profile of a process with one ability of a class of lazy_abilities.py into a device's directory."""
    directory.mkdir(mode=0o700, exist_ok=True)
    text = PROFILE.format(process=name, id=id, file=ABILITIES, kind=kind, more=more)
    (directory / f"{name}.toml").write_text(text)


@contextmanager
def device_process(start_timeout: float = 20.0, references_interval: float = 60.0) -> Iterator[subprocess.Popen[bytes]]:
    """Run SAMgr with a supervisor and the profiles of the runtime directory; yields when it listens."""
    ready, done = os.pipe()
    with open(ready, "rb") as listening:
        command = [
            sys.executable,
            "-m",
            "tests.samgr.on_demand",
            str(done),
            str(start_timeout),
            str(references_interval),
        ]
        running = subprocess.Popen(command, pass_fds=[done], cwd=Path(__file__).parents[2])
        os.close(done)
        try:
            assert listening.read() == b"R"
            yield running
        finally:
            running.terminate()
            running.wait(WAIT)


def main(ready: int, start_timeout: float, references_interval: float) -> None:
    """Be the device until SIGTERM."""
    with Ending() as ending:
        _be(ending, ready, start_timeout, references_interval)


def _be(ending: Ending, ready: int, start_timeout: float, references_interval: float) -> None:
    directory = runtime_dir()
    profiles = ProfileDirectory(directory / "profiles").load()
    managers: list[SystemAbilityManager] = []
    supervisor = Supervisor(
        directory,
        on_exit=lambda name, pid, status: managers[0].process_exited(name, pid, status),
        tokens=TokenRegistry(directory),
    )
    managers.append(
        SystemAbilityManager(
            profiles=profiles.values(),
            starter=supervisor,
            start_timeout=start_timeout,
            references_interval=references_interval,
        )
    )
    end = place_of(current_driver(), directory).take(managers[0], same_user)
    managers[0].boot()
    os.write(ready, b"R")
    os.close(ready)
    ending.wait()
    end()
    managers[0].close()
    supervisor.close(leave=False)
    process.shutdown()


if __name__ == "__main__":
    main(int(sys.argv[1]), float(sys.argv[2]), float(sys.argv[3]))
