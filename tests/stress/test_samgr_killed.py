"""SAMgr killed again and again while threads use it: clear errors only, no hang, the next one is started and used."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import process, samgr
from binderkit.errors import NoServiceManagerError, ServiceNotFoundError
from tests.driver.unix.hostile import until
from tests.stress.service import Service, ping

pytestmark = [pytest.mark.slow, pytest.mark.timeout(60)]
SECONDS = 5.0
EXPECTED = (bk.DeadObjectError, ServiceNotFoundError, NoServiceManagerError)


@pytest.fixture
def autostart(runtime_dir: Path) -> Iterator[Path]:
    """A runtime directory where SAMgr is started when needed; whichever runs at the end is ended."""
    process.shutdown()
    started: set[int] = set()
    try:
        yield runtime_dir
    finally:
        with suppress(*EXPECTED):
            started.add(current_samgr())
        process.shutdown()
        for pid in started:
            kill(pid)


def current_samgr() -> int:
    """Return the pid of the SAMgr in use, which is started when there is none."""
    remote = samgr.system_ability_manager().as_object()
    assert isinstance(remote, bk.RemoteProxy)
    return remote.owner.pid


def kill(pid: int) -> None:
    """End a SAMgr that this process started."""
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)


def test_killed_under_load(autostart: Path) -> None:
    end = time.monotonic() + SECONDS
    done = {"add": 0, "get": 0, "check": 0, "list": 0}
    wrong: list[BaseException] = []
    mine = Service()

    def use(kind: str, number: int) -> None:
        while time.monotonic() < end:
            try:
                if kind == "add":
                    samgr.add_system_ability(number, mine)
                elif kind == "get":
                    assert samgr.get_system_ability(number) is mine
                elif kind == "check":
                    assert samgr.check_system_ability(number) in (mine, None)
                else:
                    samgr.list_system_abilities()
                done[kind] += 1
            except EXPECTED:
                pass  # it was killed in the middle, or does not know of us yet; anything else is collected
            except BaseException as error:
                wrong.append(error)

    threads = [threading.Thread(target=use, args=(kind, number)) for kind in done for number in (5, 6)]
    for thread in threads:
        thread.start()
    killed: set[int] = set()
    while time.monotonic() < end:
        with suppress(*EXPECTED):
            pid = current_samgr()
            before = dict(done)
            until(lambda: done["list"] > before["list"] and done["add"] > before["add"], "it is used")  # noqa: B023
            # The death of the last one may not have been noticed yet.
            if pid not in killed and time.monotonic() < end - 1:
                kill(pid)
                killed.add(pid)
    for thread in threads:
        thread.join(30)
    assert not any(thread.is_alive() for thread in threads), "a call hangs"
    assert wrong == []
    assert len(killed) >= 2
    assert all(done.values()), done
    samgr.add_system_ability(7, mine)
    assert samgr.get_system_ability(7) is mine
    with bk.spawn(Service) as child:
        ping(child.root)
