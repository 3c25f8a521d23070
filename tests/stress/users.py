"""Processes and threads that use on-demand services while these are killed, and note whatever must not happen."""

from __future__ import annotations

import os
import random
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final, TypeVar

import binderkit as bk
from binderkit import samgr
from binderkit.errors import ServiceError
from binderkit.interface import Interface, method
from binderkit.samgr import codes

T = TypeVar("T")
CALL: Final = 10.0
"""Seconds each call is given."""
LATE: Final = 5.0
"""Seconds after its timeout when a call counts as hanging; the machine may be busy."""
TELL: Final = 20.0
"""Seconds until a client must have heard of a death."""
MAY_FAIL: Final = (codes.START_FAILED, codes.LOAD_SA_TIMEOUT, codes.ABILITY_NOT_FOUND)
"""What a load may answer when the process is killed at any moment: it failed, took too long, or is gone again."""


class IUsers(Interface, descriptor="tests.IUsers"):
    """Several threads that use services."""

    @method
    def finish(self) -> list[str]:
        """End the threads; return what went wrong, one text each."""

    @method
    def counts(self) -> dict[str, int]:
        """Return how often what happened."""


class Mourner(bk.DeathRecipient):
    """Knows whether its proxy's process ended."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def on_remote_died(self) -> None:
        """Note it."""
        self.told.set()


class User(threading.Thread):
    """Gets services, calls them until they die, sees that it is told, and gets them again."""

    def __init__(self, keys: list[int], seed: int, *, calls: bool) -> None:
        super().__init__(name=f"user-{seed}", daemon=True)
        self._keys = keys
        self._dice = random.Random(seed)
        self._calls = calls
        self.over = threading.Event()
        self.wrong: list[str] = []
        self.done = {"gets": 0, "failed gets": 0, "calls": 0, "deaths": 0, "loads": 0}
        self.doing = ""

    def run(self) -> None:
        """Use services until the end."""
        while not self.over.is_set():
            try:
                self._use(self._dice.choice(self._keys))
            except Exception as error:
                self.wrong.append(f"{self.name} in {self.doing}: {type(error).__name__}: {error}")
        self.doing = ""

    def _use(self, key: int) -> None:
        remote = self._timed("get", lambda: self._found(key))
        if remote is None:
            return
        assert isinstance(remote, bk.RemoteProxy)
        mourner = Mourner()
        try:
            remote.register_death_recipient(mourner)
        except bk.DeadObjectError:
            return  # it died on the way: then nobody is to be told
        pid = remote.owner.pid
        if self._calls:
            self._call_until_dead(remote)
        else:
            self._hold_until_dead(mourner, pid)
        if self.over.is_set() and not remote.is_object_dead():
            remote.unregister_death_recipient(mourner)
            return
        self.doing = f"waiting for the death of {pid}"
        if not mourner.told.wait(TELL):
            self.wrong.append(f"{self.name} was not told that process {pid} of ability {key} ended")
        self.done["deaths"] += 1

    def _found(self, key: int) -> bk.IRemoteObject | None:
        """Return a service, loaded in one of the ways there are; None when its start was spoilt."""
        try:
            if self._dice.random() < 0.5:
                self.done["gets"] += 1
                return samgr.get_system_ability(key)
            self.done["loads"] += 1
            return samgr.load_system_ability(key, timeout=CALL)
        except ServiceError as error:
            if error.code not in MAY_FAIL:
                raise
        except bk.CallTimeoutError as error:
            if error.code != codes.LOAD_SA_TIMEOUT:
                raise
        self.done["failed gets"] += 1
        return None

    def _call_until_dead(self, remote: bk.RemoteProxy) -> None:
        while not self.over.is_set():
            try:
                self._timed("call", lambda: add_one(remote, self._dice.randrange(1000)))
            except bk.DeadObjectError:
                return
            self.done["calls"] += 1
            # A pause, or clients would take the processor from the services that start; its end is the load's, too.
            self.over.wait(self._dice.random() * 0.02)

    def _hold_until_dead(self, mourner: Mourner, pid: int) -> None:
        while not self.over.is_set() and not mourner.told.wait(0.05):
            if not Path(f"/proc/{pid}").exists():
                return

    def _timed(self, what: str, action: Callable[[], T]) -> T:
        """Return what ``action`` returns; note it when it took longer than a call may."""
        self.doing, begun = what, time.monotonic()
        try:
            return action()
        finally:
            took = time.monotonic() - begun
            if took > CALL + LATE:
                self.wrong.append(f"{self.name}: a {what} took {took:.1f} s")


def add_one(remote: bk.IRemoteObject, number: int) -> None:
    """Make one call and check its answer."""
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_int(number)
        remote.send_request(1, data, reply, bk.MessageOption(timeout=CALL))
        assert reply.read_int() == number + 1


class Users(IUsers):
    """What a client process serves, or a test has in its own.

    Args:
        keys: the services. seed: of the dice. calling, holding: how many threads call, and only hold.
    """

    def __init__(self, keys: list[int], seed: int, calling: int, holding: int) -> None:
        self._threads = [User(keys, 100 * seed + number, calls=number < calling) for number in range(calling + holding)]
        for thread in self._threads:
            thread.start()

    def finish(self) -> list[str]:
        for thread in self._threads:
            thread.over.set()
        for thread in self._threads:
            thread.join(CALL + LATE)
        hanging = [f"{thread.name} hangs in a {thread.doing}" for thread in self._threads if thread.is_alive()]
        return hanging + [f"process {os.getpid()}: {text}" for thread in self._threads for text in thread.wrong]

    def counts(self) -> dict[str, int]:
        return {name: sum(thread.done[name] for thread in self._threads) for name in self._threads[0].done}
