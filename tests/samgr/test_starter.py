"""samgr/starter.py: the supervisor is what SAMgr needs."""

from __future__ import annotations

import queue
from pathlib import Path

from binderkit.samgr.starter import Starter
from binderkit.samgr.supervisor import Supervisor
from binderkit.samgr.tokens import TokenRegistry
from tests.samgr.processes import WAIT


def test_the_supervisor_is_a_starter(tmp_path: Path) -> None:
    ended: queue.Queue[tuple[str, int, int]] = queue.Queue()
    supervisor = Supervisor(
        tmp_path, on_exit=lambda name, pid, status: ended.put((name, pid, status)), tokens=TokenRegistry(tmp_path)
    )
    try:
        starter: Starter = supervisor  # a type checker compares the two
        pid = starter.start("p", ("/bin/sh", "-c", "exit 3"))
        assert ended.get(timeout=WAIT) == ("p", pid, 3)
        assert starter.log_file("p").is_relative_to(tmp_path)
        starter.stop("p")  # nothing runs: nothing happens
        starter.kill("p")
    finally:
        supervisor.close(leave=False)
