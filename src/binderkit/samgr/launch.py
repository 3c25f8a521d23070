"""How a service's process is made: from an order to a running program.

Owns: the clean environment, the command line for exec_script.py (which does the rest inside the new process), and the
words of everything that can go wrong on the way.

Rules upheld: nothing of whoever started the device reaches a service but what is listed here (no secrets in variables,
no descriptors, no ignored signals, no terminal); the process exists for SAMgr, with its access token, before the first
instruction of its program; a program that cannot be started is an error here, not a process that ends.
"""

from __future__ import annotations

import fcntl
import os
import pwd
import re
import signal
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from binderkit.driver.unix.pidfds import wait_readable
from binderkit.errors import ServiceError
from binderkit.process import driver_variables

START_WAIT: Final = 10.0
"""Seconds until the program must have replaced the preparing script; it takes about 0.02."""
DEFAULT_PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_SCRIPT: Final = str(Path(__file__).with_name("exec_script.py"))
_KEPT: Final = re.compile(r"PATH|LANG|LC_[A-Z]+|TZ|BINDERKIT_[A-Z0-9_]+|PYTHON[A-Z0-9_]+")
"""Variables a service gets from SAMgr's own environment."""
_NOT_KEPT: Final = frozenset({"PYTHONSTARTUP", "PYTHONINSPECT"})
"""Those of them that are for people at a terminal."""
_OURS: Final = frozenset({"BINDERKIT_RUNTIME_DIR", "BINDERKIT_DRIVER", "BINDERKIT_DEVICE"})
"""Variables that lead a service to its device: only SAMgr knows what they must say."""
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_HIGH: Final = 64
"""Descriptors that are handed over are first moved above this, out of the way of 0 … 4."""


class Limits(Protocol):
    """Resource limits as a profile has them (profile.ResourceLimits); None is no limit of its own."""

    @property
    def memory_mb(self) -> int | None: ...
    @property
    def open_files(self) -> int | None: ...
    @property
    def processes(self) -> int | None: ...
    @property
    def cpu_seconds(self) -> int | None: ...
    @property
    def nice(self) -> int | None: ...


class Account(NamedTuple):
    """The user a process runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]
    home: str
    name: str


@dataclass(frozen=True)
class Order:
    """What to start.

    Attributes:
        name: of the process, for texts. command: program and arguments; the program is looked for in PATH.
        environment: all of it (``clean_environment``). account: None stays SAMgr's own user.
        limits: None for none. log: descriptor that becomes its output and error output.
    """

    name: str
    command: tuple[str, ...]
    environment: Mapping[str, str]
    account: Account | None
    limits: Limits | None
    log: int


def account_of(user: str | None) -> Account | None:
    """Return the account of a user's name or number; None for None and for our own.

    Raises:
        ServiceError: there is no such user, or we may not become it (1001).
    """
    if user is None:
        return None
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except (KeyError, OverflowError):
        raise ServiceError(
            f"there is no user {user!r} on this system; use a name or number from 'getent passwd'"
        ) from None
    if entry.pw_uid == os.geteuid():
        return None
    if os.geteuid() != 0:
        raise ServiceError(
            f"user = {user!r}: SAMgr runs as uid {os.geteuid()} and cannot start processes of another user; "
            "run it as root, or take 'user' out of the profile"
        )
    groups = tuple(os.getgrouplist(entry.pw_name, entry.pw_gid))
    return Account(entry.pw_uid, entry.pw_gid, groups, entry.pw_dir, entry.pw_name)


def clean_environment(directory: Path, extra: Mapping[str, str], account: Account | None) -> dict[str, str]:
    """Return the environment of a service.

    Args:
        directory: the runtime directory. extra: what the profile adds or replaces.
        account: whose HOME and USER it gets; None: ours.

    Raises:
        ServiceError: a variable's name or value cannot be one, or would lead to another device (1001).
    """
    for name, value in extra.items():
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise ServiceError(f"environment: {name!r} is no name of a variable; use letters, digits and _")
        if not isinstance(value, str) or "\0" in value:
            raise ServiceError(f"environment: the value of {name} must be a text without zero bytes")
        if name in _OURS:
            raise ServiceError(f"environment: {name} is set by SAMgr; take it out of the profile")
    kept = {name: value for name, value in os.environ.items() if _KEPT.fullmatch(name) and name not in _NOT_KEPT}
    if "PYTHONPATH" in kept:
        # The service starts in another directory than we did.
        kept["PYTHONPATH"] = os.pathsep.join(
            os.path.abspath(one) for one in kept["PYTHONPATH"].split(os.pathsep) if one
        )
    kept.setdefault("PATH", DEFAULT_PATH)
    kept.setdefault("LANG", "C.UTF-8")
    kept["PYTHONUNBUFFERED"] = "1"  # or the last words of a process that is killed would be missing in its log
    home, user = _home_and_user() if account is None else (account.home, account.name)
    return {
        **kept,
        "HOME": home,
        "USER": user,
        "LOGNAME": user,
        **extra,
        "BINDERKIT_RUNTIME_DIR": str(directory.absolute()),
        **driver_variables(),
    }


def _home_and_user() -> tuple[str, str]:
    try:
        entry = pwd.getpwuid(os.geteuid())
    except KeyError:  # containers have users without an entry
        return os.environ.get("HOME", "/"), str(os.geteuid())
    return os.environ.get("HOME", entry.pw_dir), entry.pw_name


def launch(order: Order, register: Callable[[int], object]) -> tuple[int, int]:
    """Start a program; return its pid and a pidfd of it. It is our child and must be waited for.

    Args:
        register: called with the pid before the program's first instruction; what it raises ends the process.

    Raises:
        ServiceError: it cannot be started; the text says what failed (1001).
    """
    if not sys.executable:
        raise ServiceError("this Python does not know its own executable, so it cannot start services")
    try:
        gate_end, gate = os.pipe()
    except OSError as error:
        raise ServiceError(f"process {order.name!r} cannot be started: {error}; raise ulimit -n") from error
    try:
        status, pid = _spawn(order, gate_end)
    except BaseException:
        os.close(gate)
        raise
    finally:
        os.close(gate_end)
    try:
        return pid, _open_gate(order, pid, gate, status, register)
    finally:
        os.close(status)


def _spawn(order: Order, gate_end: int) -> tuple[int, int]:
    """Start the script; return the descriptor its status comes from, and its pid."""
    arguments = [sys.executable, "-I", "-S", _SCRIPT, *_options(order), "--", *order.command]
    status, status_end = os.pipe()
    with ExitStack() as ours:
        ours.callback(os.close, status_end)  # ours must be closed for the status to have an end
        try:
            log, gate_high, status_high = (_high(fd, ours) for fd in (order.log, gate_end, status_end))
            actions = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, log, 1),
                (os.POSIX_SPAWN_DUP2, log, 2),
                (os.POSIX_SPAWN_DUP2, gate_high, 3),
                (os.POSIX_SPAWN_DUP2, status_high, 4),
            ]
            return status, os.posix_spawn(sys.executable, arguments, dict(order.environment), file_actions=actions)
        except (OSError, ValueError) as error:
            os.close(status)
            raise ServiceError(f"process {order.name!r} cannot be started: {error}") from error


def _high(fd: int, stack: ExitStack) -> int:
    """Return a duplicate of ``fd`` that 0 … 4 do not overwrite; the stack closes it."""
    copy = fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _HIGH)
    stack.callback(os.close, copy)
    return copy


def _options(order: Order) -> list[str]:
    limits, account = order.limits, order.account
    options = []
    if limits is not None:
        values = {
            "memory_mb": limits.memory_mb,
            "open_files": limits.open_files,
            "processes": limits.processes,
            "cpu_seconds": limits.cpu_seconds,
            "nice": limits.nice,
        }
        options = [f"{name}={value}" for name, value in values.items() if value is not None]
    if account is not None:
        options.append("user=" + ",".join(map(str, (account.uid, account.gid, *account.groups))))
    return options


def _open_gate(order: Order, pid: int, gate: int, status: int, register: Callable[[int], object]) -> int:
    """Register the process, let it become its program; return a pidfd of it. Closes ``gate``."""
    pidfd = -1
    try:
        try:
            pidfd = os.pidfd_open(pid)
            register(pid)
            os.write(gate, b"g")
        finally:
            os.close(gate)
        failure = _read_status(status)
        if failure:
            raise ServiceError(f"process {order.name!r} cannot be started: {failure}")
    except BaseException as error:
        os.kill(pid, signal.SIGKILL)  # our child, not waited for: the number is still its own
        os.waitpid(pid, 0)
        if pidfd >= 0:
            os.close(pidfd)
        if isinstance(error, OSError):
            raise ServiceError(f"process {order.name!r} cannot be started: {error}") from error
        raise
    return pidfd


def _read_status(status: int) -> str:
    """Return what failed, "" when the program runs."""
    until = time.monotonic() + START_WAIT
    said = b""
    while wait_readable(status, until - time.monotonic()):
        block = os.read(status, 4096)
        if not block:
            return said.decode(errors="replace")
        said += block
    return f"it was not ready within {START_WAIT:g} s"
