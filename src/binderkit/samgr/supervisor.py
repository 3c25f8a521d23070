"""The built-in supervisor: starts the processes of services, watches and ends them.

Owns: the table of processes, one thread that waits for their ends (pidfd) and looks at the size of their logs. What to
start and when is decided elsewhere (lifecycle.py, the ability manager); this file only does it.

Rules upheld: every child is waited for, exactly once; a process is named by a pidfd, so a signal never meets a stranger
that got its number; what a process started in its session ends with it; ``on_exit`` is called once for each process
that was started or adopted, after its record, token and descriptor are gone, so that it may start the name anew.

Locks: ``_lock`` guards the table; only system calls and the watch are used while it is held. A pidfd is closed only
after its process left the table. ``close`` waits for ``on_exit``: call it without a lock that ``on_exit`` takes.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from binderkit import limits as bounds
from binderkit.driver.unix.pidfds import DescriptorWatch, wait_all_readable
from binderkit.errors import IpcError, ServiceError
from binderkit.samgr import codes, logs
from binderkit.samgr.launch import Limits, Order, account_of, clean_environment, launch
from binderkit.samgr.starter import UNKNOWN_STATUS, how_it_ended
from binderkit.samgr.tokens import facts_of

if TYPE_CHECKING:
    from binderkit.samgr.launch import Account
    from binderkit.samgr.tokens import TokenRegistry

_log = logging.getLogger("binderkit.samgr")
END_WAIT: Final = 5.0
"""Seconds between SIGTERM and SIGKILL when everything is ended (reference 2.5)."""
LOOK_INTERVAL: Final = 2.0
"""Seconds between two looks at the sizes of the logs."""

OnExit = Callable[[str, int, int], None]


@dataclass(eq=False)
class _Process:
    name: str
    pid: int
    pidfd: int
    is_child: bool


class Supervisor:
    """The processes of one device.

    Args:
        directory: the runtime directory; the logs are in its ``logs``.
        on_exit: called with name, pid and status when a process ended: its exit code, minus the number of the signal
            that ended it, or UNKNOWN_STATUS. On the supervisor's thread, which sees no other end meanwhile.
        tokens: where each process gets its access token before its program runs.
    """

    def __init__(self, directory: Path, *, on_exit: OnExit, tokens: TokenRegistry) -> None:
        self._directory = directory
        self._on_exit = on_exit
        self._tokens = tokens
        self._lock = threading.Lock()
        self._processes: dict[str, _Process] = {}
        self._starting: set[str] = set()
        self._closed = False
        self._watch = DescriptorWatch("supervisor", on_tick=self._rotate_logs, interval=LOOK_INTERVAL)

    def start(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str] = {},
        user: str | None = None,
        limits: Limits | None = None,
        permissions: Sequence[str] = (),
        bundle: str = "",
    ) -> int:
        """Start a process; return its pid when its program runs. ``on_exit`` may tell of its end even before that.

        Args:
            name: what it is called here, one process at a time. If an adopted one runs, that is the answer: nothing
                is started twice because SAMgr was restarted.
            command: program (a path, or looked for in PATH) and arguments.
            environment: variables in addition to the clean environment.
            user: name or number of the user it runs as; None: ours. Another one needs root.
            limits: of memory (MiB), descriptors, processes, processor time (s), and nice.
            permissions: what its token declares. bundle: the application it belongs to, "" for a system ability.

        Raises:
            ServiceError: it cannot be started; the text says why (1001), or there are too many (1012).
            ParamTypeError, ParamValueError: a permission cannot be one (401).
        """
        if not command or not all(isinstance(word, str) and word and "\0" not in word for word in command):
            raise ServiceError(f"process {name!r}: a command is a program and arguments, none empty, got {command!r}")
        outlived = self._outlived(name)
        if outlived is not None:
            return outlived
        account = account_of(user)
        full = clean_environment(self._directory, environment, account)
        self._reserve(name)
        try:
            process = self._launch(name, tuple(command), full, account, limits, tuple(permissions), bundle)
        finally:
            with self._lock:
                self._starting.discard(name)
        _log.info("started process %r (pid %d)", name, process.pid)
        return process.pid

    def _outlived(self, name: str) -> int | None:
        """Return the pid of the process of this name that an earlier supervisor started, None when there is none."""
        with self._lock:
            process = self._processes.get(name)
            return process.pid if process is not None and not process.is_child else None

    def _reserve(self, name: str) -> None:
        with self._lock:
            if self._closed:
                raise ServiceError(f"process {name!r} is not started: the device is shutting down")
            if name in self._starting:
                raise ServiceError(f"process {name!r} is being started already; wait for it")
            if name in self._processes:
                raise ServiceError(f"process {name!r} runs already (pid {self._processes[name].pid}); stop it first")
            if len(self._processes) + len(self._starting) >= bounds.MAX_SERVICE_PROCESSES:
                raise ServiceError(
                    f"process {name!r} is not started: {bounds.MAX_SERVICE_PROCESSES} run already, that is the limit",
                    code=codes.PROCESS_LIMIT,
                )
            self._starting.add(name)

    def _launch(
        self,
        name: str,
        command: tuple[str, ...],
        environment: Mapping[str, str],
        account: Account | None,
        limits: Limits | None,
        permissions: tuple[str, ...],
        bundle: str,
    ) -> _Process:
        uid = os.geteuid() if account is None else account.uid

        def register(pid: int) -> None:
            self._tokens.issue(pid, name=name, bundle=bundle, permissions=permissions, uid=uid)
            issued.append(pid)

        issued: list[int] = []
        path = self.log_file(name)
        try:
            logs.rotate(path)
            log = logs.open_log(path)
        except OSError as error:
            raise ServiceError(f"process {name!r} cannot be started: its log {path}: {error}") from error
        try:
            pid, pidfd = launch(Order(name, command, environment, account, limits, log), register)
        except BaseException as error:
            for pid in issued:
                self._tokens.forget(pid)
            self._note(name, f"{error.args[0] if isinstance(error, IpcError) and error.args else error}")
            raise
        finally:
            os.close(log)
        return self._enter(_Process(name, pid, pidfd, is_child=True))

    def _enter(self, process: _Process) -> _Process:
        with self._lock:
            closed = self._closed
            self._starting.discard(process.name)  # before its end can be told, so that on_exit may start it anew
            if not closed:
                self._processes[process.name] = process
                self._watch.watch(process.pidfd, lambda: self._ended(process))
        if closed:
            self._abandon(process)
            raise ServiceError(f"process {process.name!r} is not started: the device is shutting down")
        return process

    def _abandon(self, process: _Process) -> None:
        """Undo a start that came too late."""
        if process.is_child:
            os.killpg(process.pid, signal.SIGKILL)
            os.waitpid(process.pid, 0)
            self._tokens.forget(process.pid)
        os.close(process.pidfd)

    def adopt(self, name: str, pid: int, *, permissions: Sequence[str] | None = None, uid: int | None = None) -> None:
        """Watch a process that is not our child: one that an earlier supervisor of this device started, or systemd.

        It can be stopped and killed as any other; its exit status stays unknown. Adopting it twice changes nothing.

        Args:
            permissions: what the token declares that it is given now; None: it keeps the one it has, or has none.
            uid: its user; None: ours.

        Raises:
            ServiceError: there is no such process (1007), or another one has the name (1001).
            ParamTypeError, ParamValueError: a permission cannot be one (401).
        """
        if pid <= 1 or pid == os.getpid():
            raise ServiceError(f"process {name!r}: pid {pid} is no service's", code=codes.PROCESS_NOT_FOUND)
        with self._lock:
            known = self._processes.get(name)
            busy = name in self._starting
        if known is not None and known.pid == pid:
            return
        if known is not None or busy:
            raise ServiceError(f"process {name!r} runs already; pid {pid} cannot have the same name")
        try:
            pidfd = os.pidfd_open(pid)
        except OSError as error:
            raise ServiceError(
                f"process {name!r}: no process {pid}: {error.strerror}", code=codes.PROCESS_NOT_FOUND
            ) from None
        if permissions is not None:
            self._give_token(name, pid, pidfd, permissions, uid)
        self._enter(_Process(name, pid, pidfd, is_child=False))
        _log.info("adopted process %r (pid %d)", name, pid)

    def _give_token(self, name: str, pid: int, pidfd: int, permissions: Sequence[str], uid: int | None) -> None:
        """Give a token to a process that is not our child; ``pidfd`` is closed if that fails."""
        try:
            self._tokens.issue(pid, name=name, permissions=permissions, uid=uid)
            # Still there after the look at its start time, so that was its own, and not that of a later one.
            signal.pidfd_send_signal(pidfd, 0)
        except BaseException as error:
            os.close(pidfd)
            self._tokens.forget(pid)
            if isinstance(error, ProcessLookupError):
                raise ServiceError(f"process {name!r}: process {pid} has ended", code=codes.PROCESS_NOT_FOUND) from None
            raise

    def stop(self, name: str) -> None:
        """Ask a process to end (SIGTERM). Nothing happens when none of this name runs; ``on_exit`` tells the end."""
        self._signal(name, signal.SIGTERM)

    def kill(self, name: str) -> None:
        """End a process and its process group at once (SIGKILL). Nothing happens when none of this name runs."""
        self._signal(name, signal.SIGKILL)

    def _signal(self, name: str, number: signal.Signals) -> None:
        with self._lock:  # the process cannot leave the table meanwhile, so its pidfd is open and its pid its own
            process = self._processes.get(name)
            if process is not None:
                _send(process, number)

    def log_file(self, name: str) -> Path:
        """Return where the output of the process ``name`` is; the file may not exist yet."""
        return logs.log_path(self._directory, name)

    def processes(self) -> dict[str, int]:
        """Return the pids of the processes that run, by name."""
        with self._lock:
            return {process.name: process.pid for process in self._processes.values()}

    def close(self, *, leave: bool) -> None:
        """End the supervisor. ``on_exit`` is not called for what ends from now on. Idempotent.

        Args:
            leave: let the processes go on (a later supervisor adopts them); else SIGTERM, SIGKILL after END_WAIT
                seconds, and all are waited for.
        """
        with self._lock:
            if self._closed:
                return
            self._closed = True
        self._watch.close()
        with self._lock:
            left = list(self._processes.values())
            self._processes.clear()
        if not leave:
            _end_all(left)
        for process in left:
            if not leave:
                self._bury(process)
            os.close(process.pidfd)

    # --- the supervisor's thread ------------------------------------------------------------------

    def _ended(self, process: _Process) -> None:
        if not _has_ended(process):
            self._watch.watch(process.pidfd, lambda: self._ended(process))
            return
        with self._lock:
            if self._processes.get(process.name) is not process:
                return  # close() has it
            del self._processes[process.name]
        status = self._bury(process)
        os.close(process.pidfd)
        if not self._closed:
            self._on_exit(process.name, process.pid, status)

    def _bury(self, process: _Process) -> int:
        """Wait for an ended process that is in no table any more; return its status."""
        status = UNKNOWN_STATUS
        if process.is_child:
            status = _wait_for(process)
        self._tokens.forget(process.pid)
        self._note(process.name, f"pid {process.pid} {how_it_ended(status)}")
        _log.info("process %r (pid %d) %s", process.name, process.pid, how_it_ended(status))
        return status

    def _note(self, name: str, text: str) -> None:
        try:
            logs.note(self.log_file(name), text)
        except OSError as error:
            _log.warning("the log of process %r cannot be written: %s", name, error)

    def _rotate_logs(self) -> None:
        for name in self.processes():
            try:
                logs.rotate(self.log_file(name))
            except OSError as error:
                _log.warning("the log of process %r cannot be rotated: %s", name, error)


def _send(process: _Process, number: signal.Signals) -> None:
    """Send a signal to a process, SIGKILL to its whole group; it may have ended already."""
    try:
        if number == signal.SIGKILL and _leads_its_group(process):
            os.killpg(process.pid, number)
        signal.pidfd_send_signal(process.pidfd, number)
    except ProcessLookupError:
        _log.debug("process %r (pid %d) has ended already", process.name, process.pid)
    except PermissionError:
        _log.error("process %r (pid %d) belongs to another user and gets no %s", process.name, process.pid, number.name)


def _leads_its_group(process: _Process) -> bool:
    """Whether the group with the process's number is surely its own: ours are, for others the kernel is asked."""
    if process.is_child:
        return True
    facts = facts_of(process.pid)
    if facts is None or facts.session != process.pid:
        return False
    signal.pidfd_send_signal(process.pidfd, 0)  # still there after that look, so the facts are about it
    return True


def _wait_for(process: _Process) -> int:
    """Take the status of an ended child, and with it what it left in its group."""
    try:
        os.waitid(os.P_PIDFD, process.pidfd, os.WEXITED | os.WNOWAIT)
        # In this order: as long as the leader is not waited for, nobody else gets its number.
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        _, word = os.waitpid(process.pid, 0)
    except ChildProcessError:
        _log.warning(
            "somebody else waited for process %r (pid %d), so how it ended is unknown; SIGCHLD must not be ignored",
            process.name,
            process.pid,
        )
        return UNKNOWN_STATUS
    return os.waitstatus_to_exitcode(word)


def _has_ended(process: _Process) -> bool:
    return not wait_all_readable([process.pidfd], 0)


def _end_all(processes: list[_Process]) -> None:
    for process in processes:
        _send(process, signal.SIGTERM)
    stubborn = wait_all_readable([process.pidfd for process in processes], END_WAIT)
    if not stubborn:
        return
    for process in processes:
        if process.pidfd in stubborn:
            _log.warning("process %r (pid %d) did not end within %g s; killed", process.name, process.pid, END_WAIT)
            _send(process, signal.SIGKILL)
    wait_all_readable(stubborn, END_WAIT)
