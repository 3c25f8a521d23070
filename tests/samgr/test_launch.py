"""samgr/launch.py: the clean environment, users, and what can go wrong before a program runs."""

from __future__ import annotations

import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from binderkit.errors import ServiceError
from binderkit.process import driver_variables
from binderkit.samgr import launch
from binderkit.samgr.launch import Account, Order, account_of, clean_environment
from binderkit.samgr.profile import ResourceLimits


@pytest.fixture
def output(tmp_path: Path) -> Iterator[int]:
    """A descriptor that stands for a log."""
    fd = os.open(tmp_path / "log", os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600)
    yield fd
    os.close(fd)


def order(output: int, *command: str, limits: Any = None, account: Account | None = None, **variables: str) -> Order:
    return Order("test", command, {"PATH": launch.DEFAULT_PATH, **variables}, account, limits, output)


def result(one: Order) -> tuple[int, str]:
    """Launch, wait for the end; return exit code and output."""
    pid, pidfd = launch.launch(one, lambda pid: None)
    os.close(pidfd)
    _, word = os.waitpid(pid, 0)
    os.lseek(one.log, 0, os.SEEK_SET)
    return os.waitstatus_to_exitcode(word), os.read(one.log, 100_000).decode()


def python(output: int, code: str, **more: Any) -> str:
    exit_code, text = result(order(output, sys.executable, "-S", "-c", code, **more))
    assert exit_code == 0, text
    return text.strip()


# --- the environment -----------------------------------------------------------------------------------


def test_nothing_but_what_is_listed_reaches_a_service(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        monkeypatch.delenv(name)
    for name in ("AWS_SECRET", "LD_PRELOAD", "SSH_AUTH_SOCK", "HTTP_PROXY", "PYTHONSTARTUP", "PATHOLOGY", "TZX"):
        monkeypatch.setenv(name, "secret")
    monkeypatch.setenv("PYTHONPATH", f"src{os.pathsep}{os.pathsep}/abs")
    monkeypatch.setenv("BINDERKIT_LOG", "x")
    monkeypatch.setenv("BINDERKIT_RUNTIME_DIR", "elsewhere")
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    user = pwd.getpwuid(os.geteuid())
    assert clean_environment(tmp_path, {"MINE": "1", "LANG": "de"}, None) == {
        "PATH": launch.DEFAULT_PATH,
        "LANG": "de",
        "LC_ALL": "C.UTF-8",
        "PYTHONPATH": f"{os.path.abspath('src')}{os.pathsep}/abs",
        "PYTHONUNBUFFERED": "1",
        "BINDERKIT_LOG": "x",
        "BINDERKIT_RUNTIME_DIR": str(tmp_path),
        "HOME": user.pw_dir,
        "USER": user.pw_name,
        "LOGNAME": user.pw_name,
        "MINE": "1",
        **driver_variables(),
    }
    other = clean_environment(tmp_path, {}, Account(7, 8, (), "/home/other", "other"))
    assert (other["HOME"], other["USER"], other["LANG"]) == ("/home/other", "other", "C.UTF-8")


def test_a_user_without_an_entry(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody(uid: int) -> pwd.struct_passwd:
        raise KeyError(uid)

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    monkeypatch.delenv("HOME", raising=False)
    got = clean_environment(tmp_path, {}, None)
    assert (got["HOME"], got["USER"]) == ("/", str(os.geteuid()))


@pytest.mark.parametrize(
    ("extra", "why"),
    [
        ({"A=B": "x"}, "'A=B' is no name of a variable"),
        ({"": "x"}, "'' is no name"),
        ({"1A": "x"}, "'1A' is no name"),
        ({3: "x"}, "3 is no name"),
        ({"A": "x\0y"}, "the value of A must be a text without zero bytes"),
        ({"A": 1}, "the value of A"),
        ({"BINDERKIT_RUNTIME_DIR": "/x"}, "is set by SAMgr; take it out"),
        ({"BINDERKIT_DRIVER": "kernel"}, "BINDERKIT_DRIVER is set by SAMgr"),
        ({"BINDERKIT_DEVICE": "/dev/b0"}, "BINDERKIT_DEVICE is set by SAMgr"),
    ],
)
def test_variables_that_cannot_be(tmp_path: Path, extra: Any, why: str) -> None:
    with pytest.raises(ServiceError, match=why):
        clean_environment(tmp_path, extra, None)


# --- users ---------------------------------------------------------------------------------------------


def test_our_own_user_needs_no_switch() -> None:
    entry = pwd.getpwuid(os.geteuid())
    assert account_of(None) is account_of(entry.pw_name) is account_of(str(entry.pw_uid)) is None


@pytest.mark.parametrize("user", ["no-such-user-here", "4294967290", "9" * 30])
def test_an_unknown_user_is_told(user: str) -> None:
    with pytest.raises(ServiceError, match=f"there is no user '{user}'"):
        account_of(user)


def test_another_user_needs_root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 4242)
    with pytest.raises(ServiceError, match=r"SAMgr runs as uid 4242 and cannot start.*run it as root"):
        account_of("root")


def test_as_root_it_becomes_the_user_for_good(output: int) -> None:
    code = "import os; print(os.getresuid(), os.getresgid(), os.getgroups())"
    if os.geteuid() == 0:
        account = account_of("nobody")
        assert account is not None and account.name == "nobody"
        text = result(order(output, "/bin/sh", "-c", "id -u; id -ru; id -g; id -G", account=account))[1]
        groups = " ".join(map(str, sorted({account.gid, *account.groups})))
        uid, real, gid, shown = text.split("\n")[:4]
        assert (uid, real, gid) == (str(account.uid), str(account.uid), str(account.gid))
        assert " ".join(map(str, sorted(map(int, shown.split())))) == groups
    else:
        account = Account(os.geteuid() + 1, os.getegid(), (), "/", "x")
        with pytest.raises(ServiceError, match="Operation not permitted"):
            launch.launch(order(output, sys.executable, "-c", code, account=account), lambda pid: None)


# --- the process ---------------------------------------------------------------------------------------


def test_it_has_a_session_of_its_own_and_nothing_of_ours(output: int) -> None:
    leak = os.open("/dev/null", os.O_RDONLY)
    os.set_inheritable(leak, True)
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR1])
    try:
        code = (
            "import os;"
            "status=open('/proc/self/status').read();"
            "print(os.getsid(0)==os.getpid()==os.getpgrp(), os.getcwd(), oct(os.umask(0)),"
            " os.readlink('/proc/self/fd/0'), sorted(int(f) for f in os.listdir('/proc/self/fd'))[:3],"
            " len(os.listdir('/proc/self/fd')),"
            " [l.split()[1] for l in status.splitlines() if l.startswith(('SigBlk','SigPnd'))])"
        )
        text = python(output, code)
        ignored = result(order(output, "/bin/grep", "SigIgn", "/proc/self/status"))[1].splitlines()[-1]
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        signal.signal(signal.SIGHUP, before)
        os.close(leak)
    assert text == f"True / 0o77 /dev/null [0, 1, 2] 4 {['0' * 16] * 2!r}"
    # 32 and 33 belong to the C library, which lets nobody change them.
    assert int(ignored.split()[1], 16) & ~(3 << 31) == 0


def test_limits_are_set(output: int) -> None:
    limits = ResourceLimits(memory_mb=2000, open_files=50, processes=None, cpu_seconds=100, nice=3)
    code = (
        "import os,resource as r;"
        "print(r.getrlimit(r.RLIMIT_AS), r.getrlimit(r.RLIMIT_NOFILE), r.getrlimit(r.RLIMIT_CPU),"
        " os.getpriority(os.PRIO_PROCESS,0))"
    )
    size = 2000 * 1024 * 1024
    assert python(output, code, limits=limits) == f"({size}, {size}) (50, 50) (100, 105) 3"
    assert result(order(output, "/bin/true", limits=ResourceLimits(processes=5000)))[0] == 0


def test_a_program_that_cannot_run_is_told(output: int, tmp_path: Path) -> None:
    plain = tmp_path / "plain"
    plain.write_text("x")
    for command, why in (
        (
            "no-such-program",
            "program 'no-such-program': No such file or directory; give a path, or a name found in PATH",
        ),
        (str(plain), "Permission denied"),
    ):
        with pytest.raises(ServiceError) as caught:
            launch.launch(order(output, command), lambda pid: None)
        assert why in str(caught.value) and "process 'test' cannot be started" in str(caught.value)


def test_what_register_raises_ends_the_process(output: int) -> None:
    pids = []

    def refuse(pid: int) -> None:
        pids.append(pid)
        raise ServiceError("no token left")

    with pytest.raises(ServiceError, match="no token left"):
        launch.launch(order(output, "/bin/sh", "-c", "echo ran"), refuse)
    with pytest.raises(ChildProcessError):
        os.waitpid(pids[0], os.WNOHANG)
    os.lseek(output, 0, os.SEEK_SET)
    assert os.read(output, 100) == b""


def test_a_script_that_hangs_is_ended(output: int, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    hanging = tmp_path / "hang.py"
    hanging.write_text("import time\ntime.sleep(1000)\n")
    monkeypatch.setattr(launch, "_SCRIPT", str(hanging))
    monkeypatch.setattr(launch, "START_WAIT", 0.2)
    with pytest.raises(ServiceError, match=r"not ready within 0\.2 s"):
        launch.launch(order(output, "/bin/true"), lambda pid: None)


def test_a_python_that_does_not_know_itself_or_is_gone(output: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "executable", "")
    with pytest.raises(ServiceError, match="does not know its own executable"):
        launch.launch(order(output, "/bin/true"), lambda pid: None)
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(ServiceError, match="No such file"):
        launch.launch(order(output, "/bin/true"), lambda pid: None)


def test_no_descriptors_left(output: int, tmp_path: Path) -> None:
    """In a process of its own, whose limit may be lowered."""
    code = (
        "import os, resource, sys\n"
        "from binderkit.samgr import launch\n"
        "from binderkit.errors import ServiceError\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))\n"
        "order = launch.Order('x', ('/bin/true',), {}, None, None, 1)\n"
        "before = os.listdir('/proc/self/fd')\n"
        "try:\n"
        "    launch.launch(order, lambda pid: None)\n"
        "except ServiceError as error:\n"
        "    print('told:', error)\n"
        "assert os.listdir('/proc/self/fd') == before\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20, check=False)
    assert "told: process 'x' cannot be started" in done.stdout, done.stderr
