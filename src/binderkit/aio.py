"""The asyncio face: serve on an event loop, and short ways to call from coroutines.

Owns: nothing; ``await proxy.send_message_request(...)`` works without this module. ``serving`` makes
the running loop read this process's requests itself, so that handlers (``async def`` or plain)
run on the loop's thread without any hand-over.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from binderkit.ipc import loop as handler_loop
from binderkit.ipc.option import MessageOption
from binderkit.ipc.remote import IRemoteObject
from binderkit.parcel import MessageSequence
from binderkit.process import local_node


@asynccontextmanager
async def serving() -> AsyncIterator[None]:
    """Handle this process's requests on the running loop while the block runs.

    A plain handler runs to its end before anything else on the loop goes on, so keep it short or make it
    ``async def``. Outside the block worker threads handle requests, as without this module.

    Raises:
        IpcError: another loop serves already.
    """
    loop = asyncio.get_running_loop()
    workers = local_node().workers
    # Threads that are in a handler finish it first; the loop must not stand still meanwhile.
    reserving = loop.run_in_executor(None, workers.reserve_for, loop)
    try:
        await asyncio.shield(reserving)
    except asyncio.CancelledError:
        # The threads are ending and cannot be told otherwise; when they have, new ones take their place.
        reserving.add_done_callback(lambda done: None if done.exception() else workers.detach_loop())
        raise
    workers.attach_loop(loop)
    handler_loop.attach(loop)
    try:
        yield
    finally:
        handler_loop.attach(None)
        workers.detach_loop()


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
