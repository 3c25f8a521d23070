"""This process and its children: which driver is used, and ``spawn``.

Owns: the choice of the driver (BINDERKIT_DRIVER: unix, the default; kernel, on BINDERKIT_DEVICE; auto: kernel where
its device can be opened), and child processes that serve a root object to
their parent (OpenHarmony's native child process, reference 1.11): no SAMgr needed.

Rules upheld: a child ends with its parent; arguments are JSON, nothing is pickled; a
callable travels as the name of a module and of an attribute in it.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Any

from binderkit.driver.unix import handshake
from binderkit.driver.unix.node import Node
from binderkit.errors import DeadObjectError, IpcError, ParamTypeError, ParamValueError
from binderkit.ipc.driver import Driver, current_driver, peek_driver, set_default_factory, set_driver

if TYPE_CHECKING:
    import socket
    import subprocess

    from binderkit.ipc.proxy import RemoteProxy
    from binderkit.ipc.remote import IRemoteBroker, RemoteObject

START_WAIT = 30.0
"""Seconds a child may take to import its code and offer its object."""
END_WAIT = 5.0
"""Seconds a child may take to end after SIGTERM."""
_CHILD_STEP = 0.1
"""Seconds between two looks whether a child has ended before it came to the meeting point."""


def _make_default() -> Driver:
    """Return the driver that BINDERKIT_DRIVER names.

    Raises:
        ParamValueError: it names none. IpcError, RefusedError: the binder device cannot be used.
    """
    choice = os.environ.get("BINDERKIT_DRIVER", "unix")
    if choice == "unix":
        return Node(find_context=_find_context)
    if choice not in ("kernel", "auto"):
        raise ParamValueError(f"BINDERKIT_DRIVER is {choice!r}; it can be unix, kernel or auto")
    device = binder_device()
    # Automatic means: the kernel's driver where this process may use it, sockets everywhere else.
    if choice == "auto" and not os.access(device, os.R_OK | os.W_OK):
        return Node(find_context=_find_context)
    from binderkit.driver.kernel.node import KernelNode

    return KernelNode(device)


def driver_variables() -> dict[str, str]:
    """Return the environment variables that make a process use the driver that this one uses.

    A process that has no driver yet passes on what its own environment says.
    """
    driver = peek_driver()
    if driver is None:
        return {name: os.environ[name] for name in ("BINDERKIT_DRIVER", "BINDERKIT_DEVICE") if name in os.environ}
    if driver.name == "kernel":
        device: Any = driver
        return {"BINDERKIT_DRIVER": "kernel", "BINDERKIT_DEVICE": os.path.abspath(device.device.path)}
    return {"BINDERKIT_DRIVER": "unix"}


def binder_device() -> str:
    """Return the path of the binder device: BINDERKIT_DEVICE, else binderfs if it is mounted, else /dev/binder."""
    named = os.environ.get("BINDERKIT_DEVICE")
    if named:
        return named
    mounted = "/dev/binderfs/binder"
    return mounted if os.path.exists(mounted) else "/dev/binder"


def _find_context(node: Node, start: bool) -> socket.socket:
    from binderkit.driver.unix.rendezvous import find_context

    return find_context(node, start)


set_default_factory(_make_default)


def local_node() -> Node:
    """Return this process's socket driver.

    Raises:
        IpcError: the process uses another driver.
    """
    driver = current_driver()
    if not isinstance(driver, Node):
        raise IpcError(f"this needs the socket driver, the process uses {driver.name!r}")
    return driver


def shutdown() -> None:
    """Close this process's driver: disconnect, end the threads. A later call starts a new one."""
    driver = peek_driver()
    set_driver(None)
    if driver is not None:
        driver.close()
    handler_loop = sys.modules.get("binderkit.ipc.loop")
    if handler_loop is not None:
        handler_loop.stop()


class Child:
    """A child process that serves a root object. Use as a context manager, or call ``close``.

    Attributes:
        root: proxy of the child's root object.
        pid: its process id.
    """

    def __init__(self, process: subprocess.Popen[bytes], root: RemoteProxy) -> None:
        self._process = process
        self.root = root
        self.pid = process.pid

    def is_alive(self) -> bool:
        """Whether the process still runs."""
        return self._process.poll() is None

    @property
    def exit_code(self) -> int | None:
        """Exit code, minus the signal's number if a signal ended it, None while it runs."""
        return self._process.poll()

    def kill(self) -> None:
        """End the process at once (SIGKILL) and wait for it."""
        self._process.kill()
        self._process.wait()

    def terminate(self) -> None:
        """Ask the process to end (SIGTERM); does not wait."""
        self._process.terminate()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the end, at most ``timeout`` seconds (subprocess.TimeoutExpired); return the exit code."""
        return self._process.wait(timeout)

    def close(self) -> None:
        """End the process: SIGTERM, SIGKILL after END_WAIT seconds. Idempotent."""
        if self._process.poll() is not None:
            return
        import subprocess

        self.terminate()
        try:
            self._process.wait(END_WAIT)
        except subprocess.TimeoutExpired:
            self.kill()

    def __enter__(self) -> Child:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        code = self._process.poll()
        return f"<Child pid={self.pid} {'running' if code is None else f'ended with {code}'}>"


def spawn(
    root: str | Callable[..., RemoteObject | IRemoteBroker],
    *args: Any,
    env: Mapping[str, str] | None = None,
    timeout: float = START_WAIT,
) -> Child:
    """Start a child process that serves a root object; return the child with the object's proxy.

    Args:
        root: what makes the object in the child: a class or function at the top level of a module, or its
            name as "module:attribute". It is imported there, so guard a script's main part by
            ``if __name__ == "__main__"``.
        args: arguments for it, anything JSON can carry.
        env: environment of the child, default: ours.
        timeout: seconds the child may take until its object is there.

    Returns:
        Child; the process ends with its parent at the latest.

    Raises:
        ParamTypeError, ParamValueError: ``root`` cannot be named, or ``args`` are no JSON (401).
        DeadObjectError: the child ended, or did not offer its object in time; its stderr says why (-32).
    """
    order = {"root": _name_of(root), "args": args, "path": sys.path}
    driver = current_driver()
    if driver.name == "kernel":
        return _spawn_over_device(driver, order, env, timeout)
    node = local_node()
    ours, theirs = handshake.pair()
    try:
        process = _start(order, env, theirs.fileno())
    except BaseException:
        ours.close()
        raise
    finally:
        theirs.close()
    try:
        return Child(process, node.join(ours, wait=timeout))
    except DeadObjectError:
        raise _never_came(process, order) from None
    except BaseException:
        process.kill()
        process.wait()
        raise


def _spawn_over_device(driver: Any, order: dict[str, Any], env: Mapping[str, str] | None, timeout: float) -> Child:
    """Start a child that brings its root object to a meeting point on the binder device."""
    from binderkit.driver.kernel import meeting

    token = os.urandom(meeting.TOKEN_SIZE)
    point = meeting.MeetingPoint()
    meeting.offer(driver, token, point)
    try:
        process = _start({**order, "device": driver.device.path, "token": token.hex()}, env)
        until = time.monotonic() + timeout
        while not point.came.wait(_CHILD_STEP):
            if process.poll() is not None or time.monotonic() >= until:
                raise _never_came(process, order)
    except BaseException:
        meeting.withdraw(driver, token)
        raise
    assert point.root is not None
    root, point.root = point.root, None
    return Child(process, root)


def _start(order: dict[str, Any], env: Mapping[str, str] | None, connection: int = -1) -> subprocess.Popen[bytes]:
    """Start the process of a child, with its order and the descriptor it is to connect by (-1: none).

    Raises:
        ParamTypeError: the arguments in the order are no JSON (401).
    """
    # Both only here: a process that starts no children does not pay for them.
    import json
    import subprocess

    try:
        text = json.dumps(order)
    except (TypeError, ValueError) as error:
        raise ParamTypeError(f"arguments of a child must be JSON (numbers, strings, lists, dicts): {error}") from None
    # Not on the command line: everybody on the machine can read that.
    paper = os.memfd_create("binderkit-order", os.MFD_CLOEXEC)
    try:
        os.write(paper, text.encode())
        return subprocess.Popen(
            [sys.executable, "-m", "binderkit.child", str(connection), str(paper)],
            pass_fds=[fd for fd in (connection, paper) if fd >= 0],
            env=None if env is None else dict(env),
        )
    finally:
        os.close(paper)


def _never_came(process: subprocess.Popen[bytes], order: dict[str, Any]) -> DeadObjectError:
    """End a child that did not offer its object; return the error that says so."""
    process.kill()
    code = process.wait()
    return DeadObjectError(
        f"the child process {order['root']} ended with code {code} before it offered its object; see its error output"
    )


def _name_of(root: str | Callable[..., RemoteObject | IRemoteBroker]) -> str:
    """Return "module:attribute" (or "/path/file.py:attribute" for the main script)."""
    if isinstance(root, str):
        module, colon, attribute = root.partition(":")
        if not (module and colon and attribute):
            raise ParamValueError(f"{root!r} names no object; write 'module:attribute'")
        return root
    module = getattr(root, "__module__", None) or ""
    attribute = getattr(root, "__qualname__", "")
    if not callable(root) or not module or not attribute or "<" in attribute:
        raise ParamTypeError(f"{root!r} cannot be found by its name; use a class or function at the top of a module")
    if module == "__main__":
        path = getattr(sys.modules["__main__"], "__file__", None)
        if path is None:
            raise ParamValueError(f"{attribute} lives in an interactive session; put it into a module")
        return f"{os.path.abspath(path)}:{attribute}"
    return f"{module}:{attribute}"
