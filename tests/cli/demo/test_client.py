"""cli/demo/client.py: the objects that are called back."""

from __future__ import annotations

import os

import binderkit as bk
from binderkit.cli.demo import interface
from binderkit.cli.demo.client import DeathNotice, Progress, Receiver, Watcher


def test_progress_remembers_reports() -> None:
    progress = Progress()
    assert not progress.wait_for(100, 0)
    for percent in (0, 100):
        with bk.MessageSequence() as data, bk.MessageSequence() as reply:
            data.write_int(percent)
            data.write_string("text")
            progress.send_request(interface.ON_PROGRESS, data, reply)
    assert progress.reports == [(0, "text"), (100, "text")]
    assert progress.wait_for(100, 0)


def test_the_receiver_hands_a_thumbnail_on_with_the_callers_pid() -> None:
    taken: list[tuple[int, int, bytes, int]] = []
    receiver = Receiver(lambda *thumbnail: taken.append(thumbnail))
    jpeg = bytes(range(256)) * 400  # above what travels inside a message
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_int_array([4, 3, len(jpeg)])
        data.write_raw_data_buffer(jpeg, len(jpeg))
        receiver.send_request(interface.ON_THUMBNAIL, data, reply)
    assert taken == [(4, 3, jpeg, os.getpid())]


def test_the_death_notice_remembers_its_time() -> None:
    notice = DeathNotice()
    assert not notice.wait(0)
    notice.on_remote_died()
    assert notice.wait(0) and notice.time > 0


def test_the_watcher_waits_for_exactly_what_happened() -> None:
    watcher = Watcher()
    watcher.on_add_system_ability(1, "")
    watcher.on_remove_system_ability(1, "")
    assert watcher.wait_for(["added", "removed"], 0)
    assert not watcher.wait_for(["added"], 0)
