"""The asyncio face: serve on an event loop, and short ways to call from coroutines.

Owns: nothing; ``await proxy.send_message_request(...)`` works without this module. ``serving`` makes
handlers (``async def`` or plain) run on the running loop's thread; over sockets the loop reads requests itself, so that
there is no hand-over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from binderkit import process as process  # says which driver this process uses by default
from binderkit.errors import IpcError
from binderkit.ipc import loop as handler_loop
from binderkit.ipc.driver import current_driver
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import IRemoteObject
from binderkit.parcel import MessageSequence


@asynccontextmanager
async def serving() -> AsyncIterator[None]:
    """Handle this process's requests on the running loop while the block runs.

    A plain handler runs to its end before anything else on the loop goes on, so keep it short or make it
    ``async def``. Outside the block worker threads handle requests, as without this module.

    Over sockets the loop reads requests itself. Over the kernel's Binder threads read them, because the kernel wants
    each answer from the thread that read the call: they hand the handlers over to the loop and wait. A coroutine that
    waits holds such a thread, DUMP is handled on one, and a coroutine handler cannot be called back while its loop is
    blocked in a call that was not awaited.

    Raises:
        IpcError: another loop serves already, or the process's driver cannot serve on one.
    """
    driver: Any = current_driver()
    if driver.name not in _BY_DRIVER:
        raise IpcError(f"serving() needs the driver unix or kernel, this process uses {driver.name!r}")
    loop = asyncio.get_running_loop()
    attach, detach = _BY_DRIVER[driver.name]
    await attach(driver, loop)
    handler_loop.attach(loop)
    try:
        yield
    finally:
        handler_loop.attach(None)
        detach(driver)


async def _attach_unix(node: Any, loop: asyncio.AbstractEventLoop) -> None:
    workers = node.workers
    # Threads that are in a handler finish it first; the loop must not stand still meanwhile.
    reserving = loop.run_in_executor(None, workers.reserve_for, loop)
    try:
        await asyncio.shield(reserving)
    except asyncio.CancelledError:
        # The threads are ending and cannot be told otherwise; when they have, new ones take their place.
        reserving.add_done_callback(lambda done: None if done.exception() else workers.detach_loop())
        raise
    workers.attach_loop(loop)


def _detach_unix(node: Any) -> None:
    node.workers.detach_loop()


async def _attach_kernel(node: Any, loop: asyncio.AbstractEventLoop) -> None:
    node.attach_loop(loop)


def _detach_kernel(node: Any) -> None:
    node.detach_loop()


_BY_DRIVER: Final = {"unix": (_attach_unix, _detach_unix), "kernel": (_attach_kernel, _detach_kernel)}
"""Name of a driver -> how a loop begins to serve by it, and how it ends that."""


async def call(
    remote: IRemoteObject, code: int, data: MessageSequence, *, timeout: float | None = None
) -> MessageSequence:
    """Call ``remote`` and return the reply.

    Args:
        code: transaction code.
        data: the arguments.
        timeout: seconds, None = no limit of its own.

    Raises:
        What RemoteProxy.send_request raises.
    """
    reply = MessageSequence()
    await remote.send_message_request(code, data, reply, None if timeout is None else MessageOption(timeout=timeout))
    return reply


async def send(remote: IRemoteObject, code: int, data: MessageSequence) -> None:
    """Make a one-way call: returns once the other process's socket has it."""
    await remote.send_message_request(code, data, MessageSequence(), MessageOption(MessageOption.TF_ASYNC))
