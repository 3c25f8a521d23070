"""At most once and in order, whatever arrives: a model that resends, loses, reorders and forgets."""

from __future__ import annotations

from collections import Counter

from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from binderkit.softbus.windows import Boots, OnewayReceiver, OnewaySender, Place, Replies, Slots, Verdict

SLOTS = 4


class AtMostOnce(RuleBasedStateMachine):
    """One caller and one callee; the network keeps every request ever sent and delivers any of them, ever again."""

    def __init__(self) -> None:
        super().__init__()
        self.slots = Slots(SLOTS)
        self.replies: Replies[tuple[int, int]] = Replies(max_bytes=40)
        self.open: list[tuple[int, int]] = []
        self.network: list[tuple[int, int]] = []
        self.running: list[tuple[int, int]] = []
        self.executed: Counter[tuple[int, int]] = Counter()
        self.answers: dict[tuple[int, int], set[bytes]] = {}

    @rule()
    def call(self) -> None:
        taken = self.slots.take()
        assert (taken is None) == (len(self.open) == SLOTS)
        if taken is not None:
            assert taken not in self.network, "a name was given twice"
            self.open.append(taken)
            self.network.append(taken)

    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        """The call has its answer, or its time is over."""
        if self.open:
            name = self.open.pop(data.draw(st.integers(0, len(self.open) - 1)))
            self.slots.give_back(name[0])

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        if not self.network:
            return
        name = self.network[data.draw(st.integers(0, len(self.network) - 1))]
        verdict, reply = self.replies.begin(*name, name, keep_until=100.0)
        if verdict is Verdict.NEW:
            self.executed[name] += 1
            self.running.append(name)
        elif verdict is Verdict.STORED:
            self.answers.setdefault(name, set()).add(reply)
        elif verdict is Verdict.JOINED:
            assert name in self.running
        elif verdict is Verdict.LOST:
            assert self.executed[name] == 1

    @rule(data=st.data(), size=st.integers(0, 30))
    def finish(self, data: st.DataObject, size: int) -> None:
        if not self.running:
            return
        name = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
        reply = b"%d/%d" % name + bytes(size)
        for waiter in self.replies.finish(*name, reply):
            assert waiter == name
            self.answers.setdefault(name, set()).add(reply)

    @rule(data=st.data())
    def no_room(self, data: st.DataObject) -> None:
        """A new call is not executed after all: its repeat may be."""
        if self.running:
            name = self.running.pop(data.draw(st.integers(0, len(self.running) - 1)))
            self.executed[name] -= 1
            self.replies.forget(*name)

    @rule(now=st.sampled_from((50.0, 200.0)))
    def expire(self, now: float) -> None:
        self.replies.expire(now)

    @invariant()
    def each_call_is_executed_at_most_once(self) -> None:
        assert not self.executed or max(self.executed.values()) <= 1

    @invariant()
    def each_call_has_one_answer(self) -> None:
        assert all(len(answers) == 1 for answers in self.answers.values())

    @invariant()
    def what_is_kept_is_bounded(self) -> None:
        assert 0 <= self.replies.stored_bytes <= 40


AtMostOnce.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestAtMostOnce = AtMostOnce.TestCase


def test_a_repeat_gets_the_stored_reply_until_it_expires() -> None:
    replies: Replies[str] = Replies()
    assert replies.begin(0, 1, "first", 10.0) == (Verdict.NEW, b"")
    assert replies.begin(0, 1, "second", 10.0) == (Verdict.JOINED, b"")
    assert replies.finish(0, 1, b"reply") == ["first", "second"]
    assert replies.begin(0, 1, "third", 12.0) == (Verdict.STORED, b"reply")
    replies.expire(11.0)
    assert replies.begin(0, 1, "fourth", 12.0) == (Verdict.STORED, b"reply")
    replies.expire(12.0)
    assert replies.stored_bytes == 0
    assert replies.begin(0, 1, "fifth", 12.0) == (Verdict.LOST, b"")


def test_a_later_call_in_a_slot_lets_the_earlier_reply_go() -> None:
    replies: Replies[str] = Replies()
    replies.begin(0, 1, "a", 10.0)
    replies.finish(0, 1, b"reply")
    assert replies.begin(0, 2, "b", 10.0)[0] is Verdict.NEW
    assert replies.stored_bytes == 0
    assert replies.begin(0, 1, "a", 10.0)[0] is Verdict.STALE
    # The slow one of before ends when its slot is used anew: nobody gets its answer.
    replies.begin(0, 3, "c", 10.0)
    assert replies.finish(0, 2, b"late") == []
    assert replies.finish(0, 3, b"c's") == ["c"]


def test_a_call_that_found_no_room_may_come_again_and_earlier_ones_may_not() -> None:
    replies: Replies[str] = Replies()
    assert replies.begin(0, 2, "b", 10.0)[0] is Verdict.NEW
    replies.forget(0, 2)
    assert replies.begin(0, 1, "a", 10.0)[0] is Verdict.STALE
    assert replies.begin(0, 2, "b", 10.0)[0] is Verdict.NEW
    assert replies.finish(0, 2, b"reply") == ["b"]
    replies.forget(0, 2)  # too late: it was executed
    assert replies.begin(0, 2, "b", 10.0) == (Verdict.STORED, b"reply")


def test_replies_too_big_to_keep_are_lost_and_not_executed_again() -> None:
    replies: Replies[str] = Replies(max_bytes=4)
    replies.begin(0, 1, "a", 10.0)
    assert replies.finish(0, 1, b"12345") == ["a"]
    assert replies.begin(0, 1, "a", 10.0)[0] is Verdict.LOST


class InOrder(RuleBasedStateMachine):
    """A sender and a receiver of one-way messages over a network that reorders, repeats and loses."""

    def __init__(self) -> None:
        super().__init__()
        self.number = 0
        self.stream = 1
        self.sender: OnewaySender[int] = OnewaySender(1, max_count=8, max_bytes=100)
        self.receiver: OnewayReceiver[tuple[int, int, int]] = OnewayReceiver(max_count=8, max_bytes=100)
        self.network: list[tuple[int, int, int, int]] = []
        self.due: list[tuple[int, int, int]] = []
        self.done: list[int] = []

    @rule(size=st.integers(0, 60))
    def send(self, size: int) -> None:
        if self.sender.has_room(size):
            self.number += 1
            sequence = self.sender.add(self.number, size)
            self.network.append((self.stream, sequence, self.number, size))

    @rule(data=st.data())
    def deliver(self, data: st.DataObject) -> None:
        if not self.network:
            return
        stream, sequence, number, size = self.network[data.draw(st.integers(0, len(self.network) - 1))]
        place, due = self.receiver.accept(stream, sequence, (stream, sequence, number), size)
        self.due += due
        if place is Place.DONE and stream == self.stream:
            self.sender.acked(sequence)
        if place is Place.REPEATED:
            assert self.receiver.find(stream, sequence) == (stream, sequence, number)

    @rule()
    def start(self) -> None:
        if self.due:
            stream, sequence, number = self.due.pop(0)
            self.receiver.started(stream, sequence)
            self.done.append(number)
            if stream == self.stream:
                self.sender.acked(sequence)

    @rule()
    def give_up(self) -> None:
        """The device went away and came back: another stream, messages of before are lost."""
        self.stream += 1
        self.sender = OnewaySender(self.stream, max_count=8, max_bytes=100)

    @rule()
    def everything_arrives(self) -> None:
        """An honest sender is never refused for good: after repeats, all of the present stream is done."""
        for _ in range(len(self.sender) + len(self.due) + 10):
            self.start()
            for stream, sequence, number, size in self.network:
                if stream == self.stream:
                    self.due += self.receiver.accept(stream, sequence, (stream, sequence, number), size)[1]
        while self.due:
            self.start()
        assert self.sender.has_room(100)

    @invariant()
    def order_is_kept_and_nothing_comes_twice(self) -> None:
        assert self.done == sorted(set(self.done))


InOrder.TestCase.settings = settings(max_examples=60, stateful_step_count=60, deadline=None)
TestInOrder = InOrder.TestCase


def test_what_is_beyond_the_window_is_refused() -> None:
    receiver: OnewayReceiver[int] = OnewayReceiver(max_count=4, max_bytes=10)
    assert receiver.accept(1, 5, 5, 1) == (Place.FULL, [])
    assert receiver.accept(1, 2, 2, 9) == (Place.TAKEN, [])
    assert receiver.accept(1, 3, 3, 2) == (Place.FULL, [])
    assert receiver.accept(1, 1, 1, 1) == (Place.TAKEN, [1, 2])
    assert receiver.accept(0, 1, 1, 1) == (Place.STALE, [])


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(1, 40), st.integers(0, 20))))
def test_a_hostile_sender_cannot_make_the_receiver_keep_more_than_its_bounds(
    messages: list[tuple[int, int, int]],
) -> None:
    receiver: OnewayReceiver[int] = OnewayReceiver(max_count=4, max_bytes=30)
    for stream, sequence, size in messages:
        receiver.accept(stream, sequence, sequence, size)
        assert receiver._bytes <= 30
        assert len(receiver._held) + len(receiver._waiting) <= 4


def test_the_window_of_a_sender_counts_what_lies_behind_a_gap() -> None:
    sender: OnewaySender[str] = OnewaySender(1, max_count=3, max_bytes=10)
    first = sender.add("a", 1)
    second = sender.add("b", 1)
    assert sender.has_room(1)
    sender.add("c", 1)
    assert sender.acked(second)
    assert not sender.acked(second)
    assert not sender.has_room(1)  # the first still has not come: the receiver holds what is behind it
    assert sender.acked(first)
    assert sender.has_room(9)
    assert not sender.has_room(10)
    assert sender.message(first) is None and sender.message(3) == "c"


def test_the_lives_of_a_device() -> None:
    boots = Boots()
    assert boots.accepts(b"1", None)
    assert boots.accepts(b"2", None)  # started anew, before the network told
    assert not boots.accepts(b"1", None)
    assert boots.accepts(b"2", b"2")
    assert not boots.accepts(b"3", b"2")
    assert boots.accepts(b"3", b"3")
    # A straggler that was taken for the present life does not lock the real one out.
    assert boots.begin(b"1")
    assert boots.accepts(b"3", b"3") and not boots.begin(b"3")
    for number in range(100):
        boots.begin(b"%d" % number)
    assert len(boots._old) <= 16
