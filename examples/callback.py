"""Pass an object of ours to another process, which calls it back while we wait for its answer."""

from __future__ import annotations

import os

import binderkit as bk

COUNT_WORDS = 1
PROGRESS = 1


class Counter(bk.RemoteObject):
    """Counts words and tells a listener about each line. Lives in the child process."""

    def __init__(self) -> None:
        super().__init__("com.example.ICounter")

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        if code != COUNT_WORDS:
            return False
        lines = data.read_string_array()
        listener = data.read_remote_object()
        total = 0
        for number, line in enumerate(lines, 1):
            total += len(line.split())
            with bk.MessageSequence() as news, bk.MessageSequence() as answer:
                news.write_int(number)
                listener.send_request(PROGRESS, news, answer)
        reply.write_int(total)
        return True


class Listener(bk.RemoteObject):
    """Hears of the progress. Lives here; the child holds a proxy of it."""

    def __init__(self, counter_pid: int) -> None:
        super().__init__("com.example.IListener")
        self._counter_pid = counter_pid

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        if code != PROGRESS:
            return False
        caller = bk.IPCSkeleton.get_calling_pid()
        who = "the counter" if caller == self._counter_pid else "somebody else"
        print(f"line {data.read_int()} is done, says {who}")
        return True


def main() -> None:
    """Count the words of three lines."""
    with bk.spawn(Counter) as child, bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_string_array(["to be or not to be", "that is", "the question"])
        data.write_remote_object(Listener(child.pid))
        child.root.send_request(COUNT_WORDS, data, reply)
        print(f"{reply.read_int()} words, counted by another process: {child.pid != os.getpid()}")


if __name__ == "__main__":
    main()
