"""Faults: lost, late, refused calls and a service that dies, each as the driver does it."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

import binderkit as bk
from binderkit.testing import Delivery, Pair, faults, loopback
from tests.testing.services import ECHO, NOTE, Echo, Sleeper, ask, note


class Recipient(bk.DeathRecipient):
    """Notes that it was told."""

    def __init__(self) -> None:
        self.told = threading.Event()

    def on_remote_died(self) -> None:
        """Note the call."""
        self.told.set()


def test_a_dropped_call_ends_at_its_deadline_without_being_executed() -> None:
    stub = Echo()
    with loopback() as pair, faults(pair).drop(ECHO) as lost:
        remote = pair.offer(stub)
        begin = time.monotonic()
        with pytest.raises(bk.CallTimeoutError):
            ask(remote, "x", timeout=0.05)
        assert time.monotonic() - begin >= 0.049
        note(remote, 1, oneway=False)
        assert (lost.hits, stub.notes) == (1, [1])


def test_a_dropped_call_without_a_deadline_does_not_hang_the_test() -> None:
    with loopback() as pair, faults(pair).drop():
        with pytest.raises(bk.CallTimeoutError):
            ask(pair.offer(Echo()), "x")


def test_a_dropped_oneway_call_is_lost_in_silence() -> None:
    stub = Echo()
    with loopback() as pair:
        remote = pair.offer(stub)
        with faults(pair).drop(NOTE, times=2) as lost:
            for number in range(4):
                note(remote, number)
            assert lost.hits == 2
        assert stub.wait_for_notes(2) == [2, 3]


def test_what_a_block_decided_holds_after_its_end() -> None:
    """One-way calls run on a worker; whether they are lost was decided when they were sent."""
    stub = Echo()
    with loopback() as pair:
        remote = pair.offer(stub)
        for number in range(50):
            with faults(pair).drop():
                note(remote, -1)
            note(remote, number)
        assert stub.wait_for_notes(50) == list(range(50))


def test_a_predicate_reads_the_call_and_disturbs_nobody() -> None:
    def says_no(call: Delivery) -> bool:
        return call.code == ECHO and call.data.read_string() == "no"

    with loopback() as pair, faults(pair).fail(bk.RefusedError("no means no"), says_no) as refused:
        remote = pair.offer(Echo())
        assert ask(remote, "yes") == "yes"
        with pytest.raises(bk.RefusedError, match="no means no"):
            ask(remote, "no")
        assert refused.hits == 1


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (bk.RefusedError("r"), bk.RefusedError),
        (bk.QuotaError("q"), bk.QuotaError),
        (ValueError("v"), bk.RemoteError),
        (bk.DeadObjectError, bk.RemoteError),
        (lambda: KeyError("k"), bk.RemoteError),
    ],
)
def test_a_failure_arrives_as_that_of_a_handler(error: Exception, expected: type[Exception]) -> None:
    with loopback() as pair, faults(pair).fail(error, times=2):
        remote = pair.offer(Echo())
        for _ in range(2):
            with pytest.raises(expected) as raised:
                ask(remote, "x")
            assert type(raised.value) is expected
        assert ask(remote, "x") == "x"


def test_a_late_call_is_late() -> None:
    with loopback() as pair, faults(pair).delay(0.05, times=1) as late:
        remote = pair.offer(Echo())
        begin = time.monotonic()
        assert ask(remote, "x") == "x"
        assert (time.monotonic() - begin >= 0.049, late.hits) == (True, 1)


def test_a_delay_beyond_the_deadline_is_a_timeout() -> None:
    with loopback() as pair, faults(pair).delay(30.0), pytest.raises(bk.CallTimeoutError):
        ask(pair.offer(Echo()), "x", timeout=0.02)


@pytest.mark.parametrize("kind", ["drop", "delay"])
def test_a_coroutine_that_gives_up_ends_the_wait(kind: str) -> None:
    async def main(remote: bk.IRemoteObject) -> None:
        with bk.MessageSequence() as data:
            await asyncio.wait_for(remote.send_message_request(ECHO, data, bk.MessageSequence()), 0.02)

    with loopback() as pair:
        fault = faults(pair).drop() if kind == "drop" else faults(pair).delay(30.0)
        with fault, pytest.raises(TimeoutError):
            asyncio.run(main(pair.offer(Echo())))


@pytest.mark.parametrize("after", [1, 3])
def test_the_service_dies_in_the_nth_call(after: int) -> None:
    stub, recipient = Echo(), Recipient()
    with loopback() as pair:
        remote = pair.offer(stub)
        remote.register_death_recipient(recipient)
        with faults(pair).kill(NOTE, after=after) as killed:
            ask(remote, "does not count")
            for number in range(after - 1):
                note(remote, number, oneway=False)
            assert killed.hits == 0
            with pytest.raises(bk.DeadObjectError):
                note(remote, 99, oneway=False)
        assert killed.hits == 1
        assert recipient.told.wait(10.0)
        assert remote.is_object_dead()
        assert 99 not in stub.notes
        with pytest.raises(bk.DeadObjectError):
            remote.ping()


def test_the_service_dies_at_a_oneway_call_before_the_next_one() -> None:
    with loopback() as pair, faults(pair).kill():
        remote = pair.offer(Echo())
        with pytest.raises(bk.DeadObjectError):
            note(remote, 1)
        with pytest.raises(bk.DeadObjectError):
            ask(remote, "x")


def test_a_coroutine_handler_in_flight_dies_with_its_process() -> None:
    with loopback() as pair:
        stub = Sleeper()
        remote = pair.offer(stub)
        raised: list[Exception] = []

        def nap() -> None:
            with bk.MessageSequence() as data, bk.MessageSequence() as reply:
                try:
                    remote.send_request(9, data, reply)
                except bk.DeadObjectError as error:
                    raised.append(error)

        thread = threading.Thread(target=nap)
        thread.start()
        assert stub.asleep.wait(10.0)
        with faults(pair).kill(ECHO), pytest.raises(bk.DeadObjectError):
            ask(remote, "x")
        thread.join(10.0)
        assert len(raised) == 1


def test_a_killed_service_does_not_wait_for_late_oneway_calls() -> None:
    with loopback() as pair:
        remote = pair.offer(Echo())
        begin = time.monotonic()
        with faults(pair).delay(60.0):
            note(remote, 1)
        pair.kill_service()
    assert time.monotonic() - begin < 4.0


def test_faults_nest_the_outer_one_first() -> None:
    with loopback() as pair:
        remote = pair.offer(Echo())
        outer, inner = faults(pair).fail(bk.RefusedError("outer")), faults(pair).fail(bk.QuotaError("inner"))
        with outer, inner, pytest.raises(bk.RefusedError, match="outer"):
            ask(remote, "x")
        assert ask(remote, "x") == "x"


def _bad(pair: Pair) -> list[object]:
    made = faults(pair)
    return [
        lambda: made.drop("echo"),  # type: ignore[arg-type]
        lambda: made.drop(True),
        lambda: made.drop(times=0),
        lambda: made.delay(-1),
        lambda: made.kill(after=0),
    ]


@pytest.mark.parametrize("index", range(5))
def test_what_cannot_work_is_refused_at_once(index: int) -> None:
    with loopback() as pair, pytest.raises(bk.errors.ParamError):
        _bad(pair)[index]()  # type: ignore[operator]


def test_ping_is_not_disturbed() -> None:
    with loopback() as pair, faults(pair).drop() as lost:
        pair.offer(Echo()).ping()
        assert lost.hits == 1
