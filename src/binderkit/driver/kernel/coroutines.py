"""Calls from coroutines.

Owns: the way from a coroutine to a thread that makes its call, and back. The kernel gives a reply only to the thread
that called, so each call of a coroutine has a thread for as long as it takes (limits.HARD_THREADS at once).

Rules upheld: the event loop never waits; a coroutine that is cancelled tells the handler of its call; what comes too
late is let go.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
from typing import TYPE_CHECKING

from binderkit.driver.kernel import calls
from binderkit.driver.kernel import protocol as p
from binderkit.errors import IpcError
from binderkit.parcel import MessageSequence

if TYPE_CHECKING:
    from binderkit.driver.kernel.target import Target
    from binderkit.ipc.option import MessageOption


async def transact_async(
    target: Target, code: int, data: MessageSequence, reply: MessageSequence, option: MessageOption | None
) -> int:
    """Make a call from a coroutine; see Connection.transact_async."""
    node = target.node
    if option is not None and option.is_async():
        return calls.transact(target, code, data, reply, option)
    node.device.check_usable()
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[int] = loop.create_future()
    result = MessageSequence()
    number = int.from_bytes(os.urandom(8), "little") >> 1 | 1
    run = contextvars.copy_context().run

    def tell(error: BaseException | None) -> None:
        if answer.done():
            return  # nobody waits any more; what came goes with ``result``
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(0)

    def work() -> None:
        error: BaseException | None = None
        try:
            run(calls.call_with_trailer, target, code, data, result, option, number)
            node.channel().flush()  # the reply's buffer: this thread's next command may never come
        except BaseException as failure:
            error = failure
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, error)

    node.callers.submit(work)
    try:
        await answer
    except asyncio.CancelledError:
        _cancel(target, number)
        raise
    reply._load(result._in, result._objects)
    result._objects = None
    return 0


def _cancel(target: Target, number: int) -> None:
    """Tell the handler that nobody waits for its call any more."""
    with MessageSequence() as told, contextlib.suppress(IpcError):  # gone, or flooded: it cannot be told
        told.write_long(number)
        calls.send_oneway(target.node, target.node.channel(), target, p.CANCEL_TRANSACTION, told, None)
