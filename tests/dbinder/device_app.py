"""The app of a device of its own process: offers a diary to other devices, and calls the diary of another one.

Says what happens as lines of JSON: ["ran", name] and ["noted", number] for every call executed here, ["ended", name,
outcome, seconds, text] for every call made, ["died"] when the other diary's death is told.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable

import binderkit as bk
from binderkit.errors import IpcError
from binderkit.interface import Interface, method, oneway, proxy, within
from binderkit.ipc import tokens
from binderkit.ipc.remote import IRemoteObject
from tests.dbinder.child import Granted
from tests.softbus.device_main import say

CALL_TIME = 8


class IWitness(Interface, descriptor="tests.IWitness"):
    """What a caller gives along to be called back at."""

    @method
    def seen(self, name: str) -> str: ...


class IDiary(Interface, descriptor="tests.IDiary"):
    """What other devices call."""

    @method
    def note(self, name: str) -> str: ...

    @oneway
    def jot(self, number: int) -> None: ...

    @method
    def turned(self, data: bytes) -> bytes: ...

    @method
    def witnessed(self, name: str, witness: IWitness) -> str: ...


class Diary(IDiary):
    """Says what it is called for."""

    def note(self, name: str) -> str:
        say("ran", name)
        return name

    def jot(self, number: int) -> None:
        say("noted", number)

    def turned(self, data: bytes) -> bytes:
        return data[::-1]

    def witnessed(self, name: str, witness: IWitness) -> str:
        return witness.seen(name)


class Witness(IWitness):
    """Says what it sees."""

    def seen(self, name: str) -> str:
        say("seen", name)
        return f"{name} seen"


class Death(bk.DeathRecipient):
    """Says it."""

    def on_remote_died(self) -> None:
        say("died")


class IApp(Interface, descriptor="tests.IDiaryApp"):
    """What the process that speaks for the device tells the app to do."""

    @method
    def diary(self) -> IDiary: ...

    @method
    def use(self, diary: IRemoteObject) -> None: ...

    @method
    def drop(self) -> None: ...

    @method
    def call(self, count: int, interval: float) -> None: ...

    @method
    def jot(self, count: int) -> None: ...

    @method
    def large(self, size: int) -> None: ...

    @method
    def witness(self, name: str) -> None: ...


class App(IApp):
    """Does it, each thing on a thread of its own."""

    def __init__(self) -> None:
        tokens.use_source(Granted())
        self._own = Diary()
        self._diary: IDiary | None = None

    def diary(self) -> IDiary:
        return self._own

    def use(self, diary: IRemoteObject) -> None:
        diary.register_death_recipient(Death())
        self._diary = proxy(IDiary, diary)

    def drop(self) -> None:
        self._diary = None

    def _there(self) -> IDiary:
        assert self._diary is not None
        return self._diary

    def call(self, count: int, interval: float) -> None:
        threading.Thread(target=self._calls, args=(self._there(), count, interval)).start()

    @staticmethod
    def _calls(diary: IDiary, count: int, interval: float) -> None:
        pause, threads = threading.Event(), []
        for number in range(count):
            name = f"call-{number}"
            threads.append(threading.Thread(target=_ended, args=(name, lambda n=name: diary.note(n) == n)))
            threads[-1].start()
            pause.wait(interval)  # the load of the test, not synchronisation
        for thread in threads:
            thread.join()
        say("done", count)

    def jot(self, count: int) -> None:
        diary = self._there()
        threading.Thread(target=lambda: [diary.jot(number) for number in range(count)]).start()

    def large(self, size: int) -> None:
        diary, data = self._there(), hashlib.shake_128(b"large").digest(size)
        # 20 s, not 8: what is asked for is that it arrives, whatever the cable.
        done = lambda: within(20, diary.turned)(data) == data[::-1]  # noqa: E731
        threading.Thread(target=_ended, args=(f"large-{size}", done)).start()

    def witness(self, name: str) -> None:
        diary = self._there()
        done = lambda: diary.witnessed(name, Witness()) == f"{name} seen"  # noqa: E731
        threading.Thread(target=_ended, args=(name, done)).start()


def _ended(name: str, work: Callable[[], bool]) -> None:
    begin, text = time.monotonic(), ""
    try:
        outcome = "ok" if work() else "wrong"
    except IpcError as error:
        outcome, text = type(error).__name__, str(error)
    say("ended", name, outcome, time.monotonic() - begin, text)
