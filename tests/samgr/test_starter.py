"""samgr/starter.py: the supervisor is what SAMgr needs."""

from __future__ import annotations

import queue
from pathlib import Path

import pytest

from binderkit.samgr.starter import UNKNOWN_STATUS, Starter, how_it_ended
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


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (0, "ended with exit code 0"),
        (255, "ended with exit code 255"),
        (UNKNOWN_STATUS, "ended"),
        (-9, "was ended by SIGKILL"),
        (-63, "was ended by signal 63"),
    ],
)
def test_the_end_of_a_process_in_words(status: int, words: str) -> None:
    assert how_it_ended(status) == words
