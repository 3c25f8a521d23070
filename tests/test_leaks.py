"""The leak check itself: it must see each kind of leak, and must not see what is none."""

from __future__ import annotations

import mmap
import os
import select
import signal
import stat
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests import leaks

Undo = Callable[[], None]


def _open_socket() -> Undo:
    import socket

    left, right = socket.socketpair()

    def undo() -> None:
        left.close()
        right.close()

    return undo


def _open_memfd() -> Undo:
    descriptor = os.memfd_create("leak-test")
    return lambda: os.close(descriptor)


def _map_memfd() -> Undo:
    descriptor = os.memfd_create("leak-test")
    os.truncate(descriptor, 4096)
    area = mmap.mmap(descriptor, 4096)
    os.close(descriptor)
    return area.close


def _run_thread() -> Undo:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="leak-test")
    thread.start()

    def undo() -> None:
        stop.set()
        thread.join()

    return undo


def _run_child() -> Undo:
    child = subprocess.Popen([sys.executable, "-c", "import signal; signal.pause()"])

    def undo() -> None:
        child.send_signal(signal.SIGKILL)
        child.wait()

    return undo


def _leave_zombie() -> Undo:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)

    def undo() -> None:
        child.wait()

    return undo


@pytest.mark.parametrize(
    ("leak", "words"),
    [
        (_open_socket, "socket:["),
        (_open_memfd, "/memfd:leak-test"),
        (_map_memfd, "mapping of /memfd:leak-test"),
        (_run_thread, "thread 'leak-test'"),
        (_run_child, "child process"),
        (_leave_zombie, "nobody waited for it"),
    ],
)
def test_sees_each_kind_of_leak_until_it_is_undone(leak: Callable[[], Undo], words: str) -> None:
    before = leaks.take_stock()
    undo = leak()
    try:
        found = leaks.left_behind(before, settle_time=0.05)
    finally:
        undo()
    assert any(words in line for line in found), found
    assert leaks.left_behind(before) == []


def test_waits_for_what_is_already_ending() -> None:
    before = leaks.take_stock()
    release = threading.Event()
    thread = threading.Thread(target=lambda: release.wait(5))
    thread.start()
    timer = threading.Timer(0.1, release.set)
    timer.start()
    assert leaks.left_behind(before) == []
    thread.join()
    timer.join()


def test_process_wide_infrastructure_is_accepted_up_to_its_number(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_foreign", Counter())
    opened: list[int] = []
    try:
        for _ in range(leaks.INFRASTRUCTURE_CEILING["anon_inode:[eventfd]"]):
            opened.append(os.eventfd(0))
        before = leaks.take_stock()
        opened.append(os.eventfd(0))
        found = leaks.left_behind(before, settle_time=0)
        os.close(opened.pop())
        assert leaks.left_behind(before, settle_time=0) == []
    finally:
        for descriptor in opened:
            os.close(descriptor)
    assert any("libraries keep 3 at most" in line for line in found), found


def test_the_first_user_of_the_driver_is_not_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(leaks.INFRASTRUCTURE_CEILING, "anon_inode:[eventfd]", 1000)
    before = leaks.take_stock()
    descriptor = os.eventfd(0)
    try:
        assert leaks.left_behind(before, settle_time=0) == []
    finally:
        os.close(descriptor)


def test_threads_of_the_library_are_not_blamed() -> None:
    before = leaks.take_stock()
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="binderkit-monitor", daemon=True)
    thread.start()
    try:
        assert leaks.left_behind(before, settle_time=0) == []
    finally:
        stop.set()
        thread.join()


def test_a_leaking_test_fails_with_the_list(pytester: pytest.Pytester) -> None:
    pytester.makeconftest("from tests.conftest import no_leaks")
    pytester.makepyfile("import os\ndef test_leaks():\n    os.memfd_create('forgotten')\ndef test_clean():\n    pass\n")
    root = str(Path(__file__).parent.parent)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", root)
        result = pytester.runpytest_subprocess("-q")
    result.assert_outcomes(passed=2, errors=1)
    result.stdout.fnmatch_lines(["*the test left behind*", "*memfd:forgotten*"])


def test_runtime_dir_is_private_and_named_in_the_environment(runtime_dir: Path) -> None:
    assert os.environ["BINDERKIT_RUNTIME_DIR"] == str(runtime_dir)
    assert stat.S_IMODE(runtime_dir.stat().st_mode) == 0o700
    assert len(str(runtime_dir)) < 60


def test_what_another_library_keeps_does_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(leaks, "_foreign", Counter())

    def epolls(count: int) -> leaks.Holdings:
        descriptors = frozenset((number, "anon_inode:[eventpoll]") for number in range(count))
        return leaks.Holdings(frozenset(), descriptors, frozenset(), frozenset())

    assert leaks._over_the_ceiling(epolls(4), epolls(6))
    with leaks.foreign():
        opened = [select.epoll() for _ in range(4)]
    for each in opened:
        each.close()
    assert leaks._over_the_ceiling(epolls(4), epolls(6)) == []
    assert len(leaks._over_the_ceiling(epolls(4), epolls(7))) == 1
