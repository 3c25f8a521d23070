"""What happens when a service is killed: a call in flight, a later call, and the death notice."""

from __future__ import annotations

import os
import signal
import threading

import binderkit as bk

CRASH = 1


class Fragile(bk.RemoteObject):
    """Kills its own process in the middle of a call."""

    def __init__(self) -> None:
        super().__init__("com.example.IFragile")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        if code != CRASH:
            return False
        os.kill(os.getpid(), signal.SIGKILL)
        return True


class Notice(bk.DeathRecipient):
    """Remembers that it was told."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def on_remote_died(self) -> None:
        """Called once, on a worker thread."""
        self.told.set()


def call(remote: bk.IRemoteObject) -> str:
    """Make a call; return how it ended."""
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        try:
            remote.send_request(CRASH, data, reply)
        except bk.DeadObjectError as error:
            return f"DeadObjectError, code {error.code}"
    return "it worked"


def main() -> None:
    """Let the service crash and start another one."""
    notice = Notice()
    with bk.spawn(Fragile) as child:
        child.root.register_death_recipient(notice)
        print("call in flight:", call(child.root))
        print("death notice:", notice.told.wait(5))
        print("later call:", call(child.root))
        print("ended by signal:", -child.wait(5))
    with bk.spawn(Fragile) as another:
        another.root.ping(timeout=5)
        print("a new one answers")


if __name__ == "__main__":
    main()
