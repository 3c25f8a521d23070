"""Raw services for the tests of binderkit.testing."""

from __future__ import annotations

import asyncio
import threading

import binderkit as bk

ECHO = 1
KEEP = 2
NOTE = 3
NAP = 4
BACK = 5


class Echo(bk.RemoteObject):
    """ECHO: a string back. KEEP: keep an object. NOTE: keep a number. BACK: ping an object."""

    def __init__(self) -> None:
        super().__init__("binderkit.tests.IEcho")
        self.kept: list[bk.IRemoteObject] = []
        self.notes: list[int] = []
        self.noted = threading.Condition()

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Handle a request."""
        if code == ECHO:
            reply.write_string(data.read_string())
        elif code == KEEP:
            self.kept.append(data.read_remote_object())
        elif code == NOTE:
            with self.noted:
                self.notes.append(data.read_int())
                self.noted.notify_all()
        elif code == BACK:
            data.read_remote_object().ping()
        else:
            return False
        return True

    def wait_for_notes(self, count: int) -> list[int]:
        """Return the notes when there are ``count``; fail after ten seconds."""
        with self.noted:
            assert self.noted.wait_for(lambda: len(self.notes) >= count, 10.0)
            return list(self.notes)


class Sleeper(bk.RemoteObject):
    """A coroutine that never ends by itself, except for ECHO."""

    def __init__(self) -> None:
        super().__init__("binderkit.tests.ISleeper")
        self.asleep = threading.Event()

    async def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Handle a request."""
        if code != ECHO:
            self.asleep.set()
            await asyncio.Event().wait()
        reply.write_string(data.read_string())
        return True


def ask(remote: bk.IRemoteObject, text: str, *, timeout: float | None = None) -> str:
    """Have ``text`` echoed."""
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_string(text)
        remote.send_request(ECHO, data, reply, bk.MessageOption(timeout=timeout))
        return reply.read_string()


def note(remote: bk.IRemoteObject, number: int, *, oneway: bool = True) -> None:
    """Have ``number`` noted."""
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_int(number)
        remote.send_request(NOTE, data, reply, bk.MessageOption(oneway))


def hand_over(remote: bk.IRemoteObject, code: int, stub: bk.IRemoteObject) -> None:
    """Send an object."""
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_remote_object(stub)
        remote.send_request(code, data, reply)
