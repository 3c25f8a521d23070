"""asyncio on both sides: many calls in flight, coroutine handlers, a timeout that cancels the handler."""

from __future__ import annotations

import asyncio

import binderkit as bk
from binderkit import aio

SQUARE = 1
FOREVER = 2
NEWS = 1


class Squares(bk.RemoteObject):
    """Its handler is a coroutine: a slow call holds no thread and no other call. Lives in the child process."""

    def __init__(self) -> None:
        super().__init__("com.example.ISquares")

    async def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        if code == SQUARE:
            number = data.read_int()
            await asyncio.sleep(0.05)  # stands for work that waits for something
            reply.write_int(number * number)
            return True
        if code == FOREVER:
            await self._work_for_ever(data.read_remote_object())
        return False

    async def _work_for_ever(self, listener: bk.IRemoteObject) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            # The caller stopped waiting, so this coroutine is cancelled.
            with bk.MessageSequence() as news:
                listener.send_request(NEWS, news, bk.MessageSequence(), bk.MessageOption(bk.MessageOption.TF_ASYNC))


class Listener(bk.RemoteObject):
    """Lives here. Its handler runs on our event loop, because of ``aio.serving``."""

    def __init__(self) -> None:
        super().__init__("com.example.IListener")
        self.told = asyncio.Event()

    async def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        self.told.set()
        return True


async def square(remote: bk.IRemoteObject, number: int) -> int:
    """Ask for one square."""
    with bk.MessageSequence() as data:
        data.write_int(number)
        return (await aio.call(remote, SQUARE, data)).read_int()


async def main() -> None:
    """Make a hundred calls at once, then one that times out."""
    child = await asyncio.to_thread(bk.spawn, Squares)
    with child:
        async with aio.serving():
            results = await asyncio.gather(*(square(child.root, number) for number in range(100)))
            print(f"{len(results)} calls in flight at once, sum of the squares {sum(results)}")
            listener = Listener()
            with bk.MessageSequence() as data:
                data.write_remote_object(listener)
                try:
                    await aio.call(child.root, FOREVER, data, timeout=0.1)
                except bk.CallTimeoutError as error:
                    print(f"timed out, code {error.code}")
            await asyncio.wait_for(listener.told.wait(), 5)
            print("the handler was cancelled at the other side")


if __name__ == "__main__":
    asyncio.run(main())
