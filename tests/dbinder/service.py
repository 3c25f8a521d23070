"""The object whose calls the tests of dbinder make."""

from __future__ import annotations

import threading
from enum import IntEnum
from typing import Any

import binderkit as bk

WAIT = 10.0


class Code(IntEnum):
    ECHO = 1
    WHO = 2
    CALL_BACK = 3
    GIVE = 4
    NOTE = 5
    NOTES = 6
    FAIL = 7
    RAW = 8
    ASHMEM = 9
    KEEP = 10
    DROP = 11
    WAIT = 12
    TAKE_FD = 13
    LATER = 14
    REMAINING = 15
    GIVE_KEPT = 16


class Problem(Exception):
    """What FAIL raises."""


class Service(bk.RemoteObject):
    """Does what the codes say; one of its methods each."""

    def __init__(self, descriptor: str = "test.IService") -> None:
        super().__init__(descriptor)
        self.notes: list[int] = []
        self.kept: list[Any] = []
        self.entered = threading.Semaphore(0)
        self.go_on = threading.Event()

    def on_remote_message_request(self, code: int, data: Any, reply: Any, option: Any) -> Any:
        handler = getattr(self, Code(code).name.lower())
        result = handler(data, reply)
        return True if result is None else result

    def echo(self, data: Any, reply: Any) -> None:
        reply.write_string(data.read_string())

    def who(self, data: Any, reply: Any) -> None:
        skeleton = bk.IPCSkeleton
        reply.write_string(skeleton.get_calling_device_id())
        reply.write_int(skeleton.get_calling_pid())
        reply.write_int(skeleton.get_calling_uid())
        reply.write_int(skeleton.get_dcalling_pid())
        reply.write_long(skeleton.get_dcalling_uid())
        reply.write_boolean(skeleton.is_local_calling())

    def call_back(self, data: Any, reply: Any) -> None:
        callback, text = data.read_remote_object(), data.read_string()
        answer = echo(callback, text)
        reply.write_string(f"{answer} via {bk.IPCSkeleton.get_calling_device_id()[:4]}")

    def give(self, data: Any, reply: Any) -> None:
        reply.write_remote_object(Service("test.IGiven"))

    def note(self, data: Any, reply: Any) -> None:
        self.notes.append(data.read_int())

    def note_count(self) -> int:
        return len(self.notes)

    def notes_of(self) -> list[int]:
        return list(self.notes)

    def fail(self, data: Any, reply: Any) -> None:
        raise Problem("so it is")

    def raw(self, data: Any, reply: Any) -> None:
        size = data.read_int()
        view = data.read_raw_data_buffer(size)
        reply.write_raw_data_buffer(bytes(view)[::-1], size)

    def ashmem(self, data: Any, reply: Any) -> None:
        with data.read_ashmem() as memory:
            memory.map_readonly_ashmem()
            content = memory.read_data_from_ashmem(memory.get_ashmem_size(), 0)
        with bk.Ashmem.create("answer", len(content)) as answer:
            answer.map_read_write_ashmem()
            answer.write_data_to_ashmem(content[::-1], len(content), 0)
            reply.write_ashmem(answer)

    def keep(self, data: Any, reply: Any) -> None:
        self.kept.append(data.read_remote_object())

    def drop(self, data: Any, reply: Any) -> None:
        self.kept.clear()

    def wait(self, data: Any, reply: Any) -> None:
        self.entered.release()
        assert self.go_on.wait(WAIT)
        if data.get_readable_bytes():
            reply.write_remote_object(Service("test.IGiven"))

    def take_fd(self, data: Any, reply: Any) -> None:
        raise AssertionError("no descriptor ever comes here")

    def later(self, data: Any, reply: Any) -> Any:
        async def answer() -> bool:
            reply.write_string(bk.IPCSkeleton.get_calling_device_id())
            return True

        return answer()

    def remaining(self, data: Any, reply: Any) -> None:
        left = bk.IPCSkeleton.get_remaining_time()
        reply.write_double(-1.0 if left is None else left)

    def give_kept(self, data: Any, reply: Any) -> None:
        reply.write_remote_object(self.kept[0])


def call(remote: Any, code: int, write: Any = None, option: bk.MessageOption | None = None) -> bk.MessageSequence:
    """Make a call; return its reply."""
    data, reply = bk.MessageSequence(), bk.MessageSequence()
    if write is not None:
        write(data)
    remote.send_request(code, data, reply, option)
    return reply


def echo(remote: Any, text: str = "hello") -> str:
    """Have ``text`` come back."""
    return call(remote, Code.ECHO, lambda data: data.write_string(text)).read_string()
