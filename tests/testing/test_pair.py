"""A loopback pair: calls work, and what is left behind is a failure."""

from __future__ import annotations

import asyncio
import threading

import pytest

import binderkit as bk
from binderkit.ipc import loop as handler_loop
from binderkit.testing import loopback
from binderkit.testing import pair as pair_module
from tests.testing.services import BACK, ECHO, KEEP, Echo, Sleeper, ask, hand_over, note


def test_a_call_goes_through_the_driver() -> None:
    stub = Echo()
    with loopback() as pair:
        remote = pair.offer(stub)
        assert isinstance(remote, bk.RemoteProxy)
        assert remote.get_descriptor() == "binderkit.tests.IEcho"
        assert ask(remote, "hello") == "hello"
        assert pair.offer(stub) is remote
    with pytest.raises(bk.DeadObjectError):
        ask(remote, "after the end")


def test_a_coroutine_handler_and_its_loop_end_with_the_block() -> None:
    assert handler_loop._loop is None
    with loopback() as pair:
        assert ask(pair.offer(Sleeper()), "hi", timeout=10.0) == "hi"
    assert handler_loop._loop is None
    assert "binderkit-loop" not in {thread.name for thread in threading.enumerate()}


def test_a_loop_that_ran_before_is_left_alone() -> None:
    loop = handler_loop.handler_loop()
    with loopback() as pair:
        assert ask(pair.offer(Sleeper()), "hi", timeout=10.0) == "hi"
    assert handler_loop.handler_loop() is loop


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left for good need not be waited for."""
    monkeypatch.setattr(pair_module, "SETTLE_TIME", 0.05)


@pytest.mark.usefixtures("impatient")
def test_a_kept_callback_fails_the_block_and_is_named() -> None:
    stub = Echo()
    with pytest.raises(AssertionError, match="the service still holds <RemoteProxy handle=1 of"), loopback() as pair:
        hand_over(pair.offer(stub), KEEP, Echo())


def test_a_callback_that_was_let_go_is_no_failure() -> None:
    stub = Echo()
    with loopback() as pair:
        hand_over(pair.offer(stub), BACK, Echo())
        hand_over(pair.offer(stub), KEEP, Echo())
        stub.kept.clear()


def test_a_proxy_can_be_kept_on_purpose() -> None:
    stub = Echo()
    with loopback() as pair:
        hand_over(pair.offer(stub), KEEP, Echo())
        kept = stub.kept[0]
        assert isinstance(kept, bk.RemoteProxy)
        pair.keep(kept)


def test_the_failure_of_a_block_is_not_hidden_by_what_it_left() -> None:
    stub = Echo()
    with pytest.raises(ZeroDivisionError), loopback() as pair:
        hand_over(pair.offer(stub), KEEP, Echo())
        raise ZeroDivisionError


@pytest.mark.usefixtures("impatient")
def test_a_call_that_still_runs_is_named() -> None:
    with pytest.raises(AssertionError, match="the service still handles 1 calls"), loopback() as pair:
        stub = Sleeper()
        remote = pair.offer(stub)
        # A thread, because the loopback driver's synchronous calls end only with their handler.
        thread = threading.Thread(target=_nap, args=(remote,))
        thread.start()
        assert stub.asleep.wait(10.0)
    thread.join()


def _nap(remote: bk.IRemoteObject) -> None:
    with bk.MessageSequence() as data, bk.MessageSequence() as reply, pytest.raises(bk.DeadObjectError):
        remote.send_request(ECHO + 1, data, reply)


def test_oneway_calls_run_before_the_block_ends() -> None:
    stub = Echo()
    with loopback() as pair:
        remote = pair.offer(stub)
        for number in range(100):
            note(remote, number)
    assert stub.notes == list(range(100))


def test_a_killed_service_leaves_nothing_to_complain_about() -> None:
    stub = Echo()
    with loopback() as pair:
        remote = pair.offer(stub)
        hand_over(remote, KEEP, Echo())
        pair.kill_service()
        assert remote.is_object_dead()


def test_only_objects_can_be_offered() -> None:
    with loopback() as pair:
        with pytest.raises(bk.errors.ParamTypeError, match="got str"):
            pair.offer("stub")  # type: ignore[arg-type]
        with pytest.raises(bk.errors.ParamTypeError, match="RemoteProxy"):
            pair.offer(pair.offer(Echo()))  # type: ignore[arg-type]


def test_calls_from_a_coroutine() -> None:
    async def main(remote: bk.IRemoteObject) -> str:
        with bk.MessageSequence() as data:
            data.write_string("x")
            result = await remote.send_message_request(ECHO, data, bk.MessageSequence())
            return result.reply.read_string()

    with loopback() as pair:
        assert asyncio.run(main(pair.offer(Echo()))) == "x"
