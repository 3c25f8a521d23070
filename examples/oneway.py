"""One-way calls: the sender does not wait, the calls to one object run one at a time in the order sent."""

from __future__ import annotations

import threading

import binderkit as bk

APPEND = 1
FINISH = 2
RESULT = 1
ONE_WAY = bk.MessageOption(bk.MessageOption.TF_ASYNC)


class Journal(bk.RemoteObject):
    """Notes numbers; tells a listener at the end. Lives in the child process."""

    def __init__(self) -> None:
        super().__init__("com.example.IJournal")
        self._numbers: list[int] = []

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        # No lock: one-way calls of one process to one object never run at the same time.
        if code == APPEND:
            self._numbers.append(data.read_int())
            return True
        if code == FINISH:
            with bk.MessageSequence() as result:
                result.write_int(len(self._numbers))
                result.write_boolean(self._numbers == sorted(self._numbers))
                data.read_remote_object().send_request(RESULT, result, bk.MessageSequence(), ONE_WAY)
            return True
        return False


class Listener(bk.RemoteObject):
    """Hears of the result. Lives here."""

    def __init__(self) -> None:
        super().__init__("com.example.IListener")
        self.done = threading.Event()

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        print(f"{data.read_int()} entries arrived, in order: {data.read_boolean()}")
        self.done.set()
        return True


def send(remote: bk.IRemoteObject, number: int) -> None:
    """Append a number.

    When 520 192 bytes of one-way calls wait at the receiver, send_request raises QuotaError and sends nothing.
    """
    with bk.MessageSequence() as data:
        data.write_int(number)
        remote.send_request(APPEND, data, bk.MessageSequence(), ONE_WAY)


def main() -> None:
    """Send a thousand entries and wait for the result."""
    listener = Listener()
    with bk.spawn(Journal) as child:
        for number in range(1000):
            send(child.root, number)
        with bk.MessageSequence() as data:
            data.write_remote_object(listener)
            child.root.send_request(FINISH, data, bk.MessageSequence(), ONE_WAY)
        print("told of the result:", listener.done.wait(10))


if __name__ == "__main__":
    main()
