"""fuzz_service: what stands it, and every way not to."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import resource
import subprocess
import sys
import threading
import tracemalloc
from collections.abc import Callable
from typing import Any

import pytest

import binderkit as bk
from binderkit.ipc.context import current
from binderkit.testing import FuzzReport, fuzz_service
from binderkit.testing.fuzz import FLAWS
from binderkit.testing.messages import EDGES
from tests.contract.service import Service
from tests.testing.services import Echo

TOKEN = "binderkit.tests.IWeak"
Body = Callable[["Weak", bk.MessageSequence], object]


class Weak(bk.RemoteObject):
    """Code 3 behind the right token runs ``body``; everything else is done right."""

    def __init__(self, body: Body) -> None:
        super().__init__(TOKEN)
        self.body = body
        self.calls: list[tuple[int, bytes]] = []

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> Any:
        """Handle a request."""
        self.calls.append((code, bytes(data)))
        if code != 3 or data.read_interface_token() != TOKEN:
            return False
        self.body(self, data)
        return True


class WeakCoroutine(Weak):
    """The same as a coroutine."""

    async def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        """Handle a request."""
        await asyncio.sleep(0)
        return bool(super().on_remote_message_request(code, data, reply, option))


def sample(number: int = 1) -> tuple[int, bk.MessageSequence]:
    """Return a valid call."""
    sequence = bk.MessageSequence()
    sequence.write_interface_token(TOKEN)
    sequence.write_int(number)
    sequence.write_string("something longer, so that there is something to shorten")
    return 3, sequence


def read(weak: Weak, data: bk.MessageSequence) -> None:
    """The right way."""
    data.read_int()
    data.read_string()


def list_index(weak: Weak, data: bk.MessageSequence) -> None:
    """Trust an index."""
    [1, 2][data.read_int()]


def fail_with(error: Callable[[], BaseException]) -> Body:
    """Fail for numbers above 100."""

    def body(weak: Weak, data: bk.MessageSequence) -> None:
        if data.read_int() > 100:
            raise error()

    return body


def test_a_service_that_reads_right_stands_it() -> None:
    report = fuzz_service(Weak(read), samples=[sample()], codes=[3])
    assert report.calls == 1000
    assert report.handled + report.refused == 1000
    assert report.handled > 50
    assert report.refused > 300
    assert report.blind == ()


def test_the_contract_suite_s_service_stands_it() -> None:
    gc.freeze()  # its statistics collect garbage each time; everything other tests left need not be looked at
    try:
        assert fuzz_service(Service(), rounds=300, seed=4, codes=[1, 2, 3, 4, 6, 7, 8, 11, 29]).calls == 300
    finally:
        gc.unfreeze()


def test_the_same_seed_sends_the_same() -> None:
    def sent(seed: int) -> tuple[FuzzReport, list[tuple[int, bytes]]]:
        weak = Weak(read)
        report = fuzz_service(weak, rounds=200, seed=seed, samples=[sample()])
        return report, weak.calls

    assert sent(5) == sent(5)
    assert sent(5)[1] != sent(6)[1]


def test_without_a_seed_each_run_is_another_and_says_which() -> None:
    seeds = {fuzz_service(Echo(), rounds=1).seed for _ in range(5)}
    assert len(seeds) > 1


@pytest.mark.parametrize("kind", [Weak, WeakCoroutine])
def test_a_mistake_is_found_and_named_with_everything_needed_to_repeat_it(kind: type[Weak]) -> None:
    with pytest.raises(AssertionError) as raised:
        fuzz_service(kind(list_index), seed=1, samples=[sample()])
    text = str(raised.value)
    assert "the handler raised IndexError: list index out of range" in text
    assert "code 3" in text
    assert "shortened from" in text
    assert "[1, 2][data.read_int()]" in text
    assert isinstance(raised.value.__cause__, IndexError)
    again = text.partition("repeat with fuzz_service(…, ")[2].partition(")")[0]
    options = dict(part.split("=") for part in again.split(", "))
    rounds = int(options["rounds"])
    with pytest.raises(AssertionError, match="IndexError"):
        fuzz_service(kind(list_index), seed=int(options["seed"]), rounds=rounds, samples=[sample()])
    if rounds > 1:
        fuzz_service(kind(list_index), seed=int(options["seed"]), rounds=rounds - 1, samples=[sample()])


def test_the_shortened_parcel_alone_has_what_it_takes() -> None:
    with pytest.raises(AssertionError) as raised:
        fuzz_service(Weak(list_index), seed=2, samples=[sample()])
    lines = [line.split(":")[1] for line in str(raised.value).splitlines() if line[:6].strip().isdigit()]
    body = bytes.fromhex("".join(lines))
    assert len(body) <= len(bytes(sample()[1])) - 100
    with pytest.raises(IndexError):
        Weak(list_index).on_remote_message_request(
            3, bk.MessageSequence.from_bytes(body), bk.MessageSequence(), bk.MessageOption()
        )


@pytest.mark.parametrize("flaw", FLAWS)
def test_every_flaw_counts(flaw: type[Exception]) -> None:
    with pytest.raises(AssertionError, match=f"raised {flaw.__name__}"):
        fuzz_service(Weak(fail_with(flaw)), seed=1, samples=[sample()])
    fuzz_service(Weak(fail_with(flaw)), seed=1, samples=[sample()], allowed=(flaw,), rounds=200)


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_what_would_end_a_thread_counts(error: type[BaseException]) -> None:
    with pytest.raises(AssertionError, match=f"raised {error.__name__}"):
        fuzz_service(Weak(fail_with(error)), seed=1, samples=[sample()])


@pytest.mark.parametrize("error", [ValueError, KeyError, OSError, bk.RefusedError])
def test_refusals_of_the_application_do_not(error: type[Exception]) -> None:
    assert fuzz_service(Weak(fail_with(error)), seed=1, samples=[sample()]).refused > 100


def test_a_mistake_in_oneway_calls_only_is_found() -> None:
    class OnewayWeak(Weak):
        def on_remote_message_request(
            self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
        ) -> Any:
            if option.is_async() and code == 3:
                raise TypeError("only when nobody waits")
            return super().on_remote_message_request(code, data, reply, option)

    with pytest.raises(AssertionError, match=r"(?s)only when nobody waits.*one-way code 3"):
        fuzz_service(OnewayWeak(read), seed=1, samples=[sample()])


def test_a_handler_that_hangs_is_a_failure_with_its_stack() -> None:
    gate = threading.Event()

    def hang(weak: Weak, data: bk.MessageSequence) -> None:
        if data.read_int() > 100:
            gate.wait()

    try:
        with pytest.raises(AssertionError, match=r"(?s)had not ended after 0.1 seconds.*code 3.*gate\.wait\(\)"):
            fuzz_service(Weak(hang), seed=1, samples=[sample()], timeout=0.1)
    finally:
        gate.set()


def test_a_coroutine_that_hangs_is_a_failure() -> None:
    class Hanging(Weak):
        async def on_remote_message_request(
            self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
        ) -> bool:
            if code == 3 and not option.is_async():
                await asyncio.Event().wait()
            return code == 3

    with pytest.raises(AssertionError, match=r"had not ended after 0\.1 seconds"):
        fuzz_service(Hanging(read), seed=1, timeout=0.1)


def test_a_count_that_is_believed_is_found_by_the_memory_it_takes() -> None:
    def believe(weak: Weak, data: bk.MessageSequence) -> None:
        size = data.read_int()
        if size > 0:
            bytes(size)

    with pytest.raises(AssertionError, match=r"made it allocate \d+ bytes; 67108864 are allowed|raised MemoryError"):
        fuzz_service(Weak(believe), seed=1, samples=[sample()])
    with pytest.raises(AssertionError, match="made it allocate"):
        fuzz_service(Weak(believe), seed=1, samples=[sample()], memory=100_000)


def test_a_terabyte_ends_the_test_and_not_the_machine() -> None:
    def believe(weak: Weak, data: bk.MessageSequence) -> None:
        if data.read_int() > 0x3FFFFFF0:
            [0] * 2**37

    before = resource.getrlimit(resource.RLIMIT_AS)
    with pytest.raises(AssertionError, match="raised MemoryError"):
        fuzz_service(Weak(believe), seed=1, samples=[sample()])
    assert resource.getrlimit(resource.RLIMIT_AS) == before
    assert not tracemalloc.is_tracing()


def test_a_service_that_ends_its_process_is_found() -> None:
    def die(weak: Weak, data: bk.MessageSequence) -> None:
        context = current.get()  # knows the process that handles the call
        assert context is not None
        if data.read_int() > 100:
            context.peer.origin.kill()

    with pytest.raises(AssertionError, match="its process died"):
        fuzz_service(Weak(die), seed=1, samples=[sample()])


def test_a_broken_dump_is_found() -> None:
    class Dumping(Echo):
        def on_dump(self, descriptor: int, arguments: list[str]) -> None:
            raise AttributeError("no such state")

    dump = bk.MessageSequence()
    with open(os.devnull, "w") as null:
        dump.write_file_descriptor(null)
    dump.write_string_array([])
    with dump, pytest.raises(AssertionError, match=r"reserved code was AttributeError: no such state"):
        fuzz_service(Dumping(), seed=1, rounds=5000, samples=[(1, dump)])


def test_objects_descriptors_and_shared_memory_of_samples_travel() -> None:
    seen: set[str] = set()

    class Taker(bk.RemoteObject):
        def on_remote_message_request(
            self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
        ) -> bool:
            os.close(data.read_file_descriptor())
            seen.add("descriptor")
            data.read_remote_object().send_request(1, bk.MessageSequence(), bk.MessageSequence())
            seen.add("remote")
            if len(data.read_raw_data_buffer(40_000)) == 40_000:
                seen.add("memory")
            return True

    with bk.MessageSequence() as sequence:
        with open(os.devnull) as null:
            sequence.write_file_descriptor(null)
        sequence.write_remote_object(Echo())
        sequence.write_raw_data_buffer(bytes(40_000), 40_000)
        report = fuzz_service(Taker("taker"), samples=[(1, sequence)], rounds=300)
    assert seen == {"descriptor", "remote", "memory"}
    assert report.handled


def test_the_log_is_as_it_was(caplog: pytest.LogCaptureFixture) -> None:
    filters = list(logging.getLogger("binderkit.ipc").filters)
    with caplog.at_level(logging.WARNING):
        fuzz_service(Weak(read), rounds=200)
    assert not [record for record in caplog.records if "raised" in record.getMessage()]
    assert logging.getLogger("binderkit.ipc").filters == filters


@pytest.mark.parametrize(
    "arguments",
    [{"rounds": 0}, {"codes": []}, {"samples": [b"x"]}, {"samples": [(1, "x")]}],
)
def test_arguments_that_cannot_be_used(arguments: dict[str, Any]) -> None:
    with pytest.raises(bk.errors.ParamError):
        fuzz_service(Echo(), **arguments)


def test_a_proxy_or_anything_else_is_no_service() -> None:
    with pytest.raises(bk.errors.ParamTypeError, match="got module"):
        fuzz_service(sys)  # type: ignore[arg-type]


def test_no_numpy_and_no_hypothesis_are_needed() -> None:
    code = (
        "import sys, binderkit.testing as t\n"
        "from binderkit import RemoteObject\n"
        "with t.loopback(): pass\n"
        "t.fuzz_service(RemoteObject('x'), rounds=50)\n"
        "print(sorted({'numpy', 'hypothesis', 'pytest', 'binderkit.interface.contract'} & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=50,
                          env={"PYTHONPATH": ":".join(sys.path)})  # fmt: skip
    assert done.stdout == "[]\n"


def test_a_word_at_the_edge_reaches_the_handler() -> None:
    words: set[int] = set()

    def note(weak: Weak, data: bk.MessageSequence) -> None:
        words.add(data.read_int())

    fuzz_service(Weak(note), seed=3, samples=[sample()], codes=[3])
    assert len(words & set(EDGES)) > 10
