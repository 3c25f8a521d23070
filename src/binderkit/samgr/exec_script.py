"""The last steps before a service's program runs, in the process that becomes it.

Owns: what only the new process itself can do: a session of its own, signals as the system delivers them, umask,
resource limits, another user. Run by launch.py as a script, ``python -I -S exec_script.py OPTION… -- COMMAND…``, so
that nothing of it happens between fork and exec of a process with threads. It imports as little as possible, because
every service waits for it.

Descriptors: 0 nothing, 1 and 2 the log, 3 the gate (a byte arrives when the process's access token exists), 4 where a
failure is described. Rules upheld: the command has no descriptor but 0, 1, 2; it runs only after its token exists;
privileges go last, after everything that may need them.
"""

import _signal as signal  # type: ignore[import-not-found]  # the C module: its enums alone cost 3 of 14 ms
import os
import resource
import sys

GATE = 3
STATUS = 4
_LIMITS = {
    "memory_mb": (resource.RLIMIT_AS, 1024 * 1024),
    "open_files": (resource.RLIMIT_NOFILE, 1),
    "processes": (resource.RLIMIT_NPROC, 1),
    "cpu_seconds": (resource.RLIMIT_CPU, 1),
}
_EXTRA = {"cpu_seconds": 5}
"""The soft limit sends SIGXCPU; the hard one, which kills, is this much higher."""


def _reset_signals() -> None:
    for number in signal.valid_signals():
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def _set_limit(name: str, value: int) -> None:
    if name == "nice":
        try:
            os.setpriority(os.PRIO_PROCESS, 0, value)
        except OSError as error:
            raise OSError(f"nice = {value}: {error.strerror}; only root may go below the present value") from None
        return
    kind, unit = _LIMITS[name]
    ceiling = resource.getrlimit(kind)[1]
    soft = value * unit
    hard = soft + _EXTRA.get(name, 0)
    if soft <= ceiling < hard:
        hard = ceiling
    try:
        resource.setrlimit(kind, (soft, hard))
    except ValueError:
        text = f"{name} = {value} is above the limit of whoever started the device, {ceiling // unit}"
        raise OSError(text) from None


def _become(identity: str) -> None:
    uid, gid, *groups = (int(word) for word in identity.split(","))
    os.setgroups(groups)
    os.setresgid(gid, gid, gid)
    os.setresuid(uid, uid, uid)


def main(arguments: list[str]) -> None:
    """Prepare this process as the options say, wait for the gate, become the command."""
    at = arguments.index("--")
    options = [option.split("=", 1) for option in arguments[:at]]
    os.closerange(STATUS + 1, 1 << 30)
    os.set_inheritable(GATE, False)
    os.set_inheritable(STATUS, False)
    os.setsid()
    os.umask(0o077)
    os.chdir("/")
    command = arguments[at + 1 :]
    _reset_signals()
    for name, value in options:
        if name != "user":
            _set_limit(name, int(value))
    for name, value in options:
        if name == "user":
            _become(value)
    if os.read(GATE, 1) != b"g":
        os._exit(1)  # whoever started us is gone, and nobody knows this process
    try:
        os.execvp(command[0], command)
    except OSError as error:
        raise OSError(f"program {command[0]!r}: {error.strerror}; give a path, or a name found in PATH") from None


if __name__ == "__main__":
    try:
        main(sys.argv[1:])
    except BaseException as failure:
        os.write(STATUS, (str(failure) or type(failure).__name__).encode(errors="replace")[:4000])
        os._exit(127)
