"""A service that is found by its name through SAMgr, and a client that hears when it goes.

SAMgr is started by the first process that needs it. This example uses a runtime directory of its own, so it
touches no other service of yours; SAMgr ends when the directory is gone.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading

import binderkit as bk
from binderkit import samgr

NAME = "com.example.adder"
ADD = 1


class Adder(bk.RemoteObject):
    """Adds two numbers."""

    def __init__(self) -> None:
        super().__init__("com.example.IAdder")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        if code != ADD:
            return False
        reply.write_long(data.read_long() + data.read_long())
        return True


class Watcher(samgr.SystemAbilityListener):
    """Hears of the service."""

    def __init__(self) -> None:
        super().__init__()
        self.came = threading.Event()
        self.went = threading.Event()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        """The service is there."""
        self.came.set()

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        """The service is gone."""
        self.went.set()


def serve() -> None:
    """The service: register an object and handle requests until the process is ended."""
    samgr.add_system_ability(NAME, Adder())
    bk.IPCSkeleton.join_work_thread()


def use() -> None:
    """The client: wait for the service, call it, end it, hear of it."""
    watcher = Watcher()
    samgr.subscribe_system_ability(NAME, watcher)
    service = subprocess.Popen([sys.executable, __file__, "serve"])
    try:
        adder = samgr.wait_for_system_ability(NAME, timeout=20)
        with bk.MessageSequence() as data, bk.MessageSequence() as reply:
            data.write_long(40)
            data.write_long(2)
            adder.send_request(ADD, data, reply)
            print("40 + 2 =", reply.read_long())
        print("registered:", [info.name for info in samgr.list_system_abilities()])
        print("told that it came:", watcher.came.wait(10))
    finally:
        service.kill()
        service.wait()
    print("told that it went:", watcher.went.wait(10))
    print("still registered:", samgr.check_system_ability(NAME) is not None)


def main() -> None:
    """Run both with a runtime directory of their own."""
    with tempfile.TemporaryDirectory(prefix="bk-") as directory:
        os.environ["BINDERKIT_RUNTIME_DIR"] = directory
        use()


if __name__ == "__main__":
    serve() if sys.argv[1:] == ["serve"] else main()
