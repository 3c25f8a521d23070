"""The client's side of the demo: the objects the service calls back, and the call itself."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import binderkit as bk
from binderkit import samgr
from binderkit.cli.demo import interface

if TYPE_CHECKING:
    from binderkit.ipc.remote import HandlerResult


WAIT = 30
"""Seconds the thumbnails may take; a call to another device waits 8 s unless it says so."""


class Progress(bk.RemoteObject):
    """Hears from the service how far it is.

    Attributes:
        reports: (per cent, text) in the order they came.
    """

    def __init__(self) -> None:
        super().__init__(interface.PROGRESS)
        self.reports: list[tuple[int, str]] = []
        self._changed = threading.Condition()

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> HandlerResult:
        """Take one ON_PROGRESS."""
        with self._changed:
            self.reports.append((data.read_int(), data.read_string()))
            self._changed.notify_all()
        return code == interface.ON_PROGRESS

    def wait_for(self, percent: int, timeout: float) -> bool:
        """Wait until the last report says ``percent``; return whether it did within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: bool(self.reports) and self.reports[-1][0] == percent, timeout)


class Receiver(bk.RemoteObject):
    """Takes the thumbnails.

    Args:
        taken: called with (width, height, jpeg, caller's pid) on the thread that waits for the service's answer.
    """

    def __init__(self, taken: Callable[[int, int, bytes, int], None]) -> None:
        super().__init__(interface.RECEIVER)
        self._taken = taken

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> HandlerResult:
        """Take one ON_THUMBNAIL."""
        if code != interface.ON_THUMBNAIL:
            return False
        width, height, size = data.read_int_array()
        self._taken(width, height, bytes(data.read_raw_data_buffer(size)), self.get_calling_pid())
        return True


class DeathNotice(bk.DeathRecipient):
    """Remembers when it was told that the service died."""

    def __init__(self) -> None:
        self._told = threading.Event()
        self.time = 0.0

    def on_remote_died(self) -> None:
        """Note the time."""
        self.time = time.perf_counter()
        self._told.set()

    def wait(self, timeout: float) -> bool:
        """Return whether the notice came within ``timeout`` seconds."""
        return self._told.wait(timeout)


class Watcher(samgr.SystemAbilityListener):
    """Hears from SAMgr when the service comes and goes.

    Attributes:
        events: "added" and "removed" in the order in which they happened.
    """

    def __init__(self) -> None:
        super().__init__()
        self.events: list[str] = []
        self._changed = threading.Condition()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        """Note it."""
        self._note("added")

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        """Note it."""
        self._note("removed")

    def _note(self, event: str) -> None:
        with self._changed:
            self.events.append(event)
            self._changed.notify_all()

    def wait_for(self, events: list[str], timeout: float) -> bool:
        """Wait until exactly ``events`` happened; return whether they did within ``timeout`` seconds."""
        with self._changed:
            return self._changed.wait_for(lambda: self.events == events, timeout)


def make_thumbnails(
    service: bk.IRemoteObject, photo: bk.Ashmem, widths: list[int], progress: Progress, receiver: Receiver
) -> int:
    """Call the service, on this device or another; return how many thumbnails it says it made.

    Raises:
        DeadObjectError: the service died meanwhile (-32).
    """
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_ashmem(photo)
        data.write_int_array(widths)
        data.write_remote_object(progress)
        data.write_remote_object(receiver)
        service.send_request(interface.MAKE_THUMBNAILS, data, reply, bk.MessageOption(wait_time=WAIT, timeout=WAIT))
        return reply.read_int()
