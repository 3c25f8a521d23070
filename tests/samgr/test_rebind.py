"""samgr/rebind.py: proxies whose service is killed and started again."""

from __future__ import annotations

import asyncio
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.errors import (
    NoServiceManagerError,
    ParamTypeError,
    ParamValueError,
    ServiceError,
    ServiceNotFoundError,
)
from binderkit.interface import aio, within
from binderkit.samgr import rebind
from binderkit.samgr.rebind import Rebind, get
from tests.driver.unix.hostile import until
from tests.samgr.counter_service import Counter, IBase, ICounter
from tests.samgr.processes import WAIT

Samgr = subprocess.Popen[bytes]
KEY = 0x77
Restart = Callable[[], bk.Child]


@pytest.fixture
def restart(running_samgr: Samgr, tmp_path: Path) -> Iterator[Restart]:
    """What starts another process of the service."""
    with ExitStack() as children:
        yield lambda: children.enter_context(
            bk.spawn("tests.samgr.counter_service:registered", KEY, str(tmp_path / "words"))
        )


def words(tmp_path: Path) -> list[str]:
    return (tmp_path / "words").read_text().split()


def is_gone() -> bool:
    """Whether SAMgr knows no service."""
    return samgr.check_system_ability(KEY) is None


def restarter(restart: Restart, times: int) -> threading.Thread:
    """Start the service whenever it is gone, on a thread."""

    def work() -> None:
        for _ in range(times):
            until(is_gone, "it is gone")
            with suppress(bk.DeadObjectError):  # killed by the repeated call before it told us that it runs
                restart()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def test_fail_is_an_ordinary_proxy(restart: Restart) -> None:
    child = restart()
    counter = get(ICounter, KEY)
    assert counter.pid() == child.pid
    child.kill()
    with pytest.raises(bk.DeadObjectError):
        counter.pid()
    restart()
    with pytest.raises(bk.DeadObjectError):
        counter.pid()
    assert isinstance(get(None, KEY), bk.RemoteProxy)


def test_wait_finds_the_next_process(restart: Restart) -> None:
    child = restart()
    counter = get(ICounter, KEY, rebind=Rebind.WAIT, timeout=WAIT)
    assert counter.pid() == child.pid
    for _ in range(2):
        child.kill()
        until(counter.as_object().is_object_dead, "the death is known")
        found: list[int] = []
        waiting = threading.Thread(target=lambda: found.append(counter.pid()))  # noqa: B023
        waiting.start()
        child = restart()
        waiting.join(WAIT)
        assert found == [child.pid] == [counter.pid()]
    counter.level = 5
    assert counter.level == 5
    counter.as_(IBase).append("another interface of the living object")


def test_a_call_under_way_raises_and_is_executed_once(restart: Restart, tmp_path: Path) -> None:
    restart()
    counter = get(ICounter, KEY, rebind=Rebind.RETRY_IDEMPOTENT, timeout=WAIT)
    with pytest.raises(bk.DeadObjectError):
        counter.die_after("once")
    starting = restarter(restart, 1)
    counter.append("twice")
    starting.join(WAIT)
    assert words(tmp_path) == ["once", "twice"]


def test_wait_does_not_even_repeat_idempotent_calls(restart: Restart, tmp_path: Path) -> None:
    restart()
    counter = get(ICounter, KEY, rebind=Rebind.WAIT, timeout=WAIT)
    with pytest.raises(bk.DeadObjectError):
        counter.read(1)
    assert words(tmp_path) == ["read"]


def test_an_idempotent_call_is_repeated(restart: Restart, tmp_path: Path) -> None:
    restart()
    counter = get(ICounter, KEY, rebind=Rebind.RETRY_IDEMPOTENT, timeout=WAIT)
    starting = restarter(restart, 2)
    assert counter.read(2) == ["read"] * 3
    starting.join(WAIT)


def test_one_that_kills_its_service_each_time_is_not_repeated_for_ever(restart: Restart, tmp_path: Path) -> None:
    restart()
    counter = get(ICounter, KEY, rebind=Rebind.RETRY_IDEMPOTENT, timeout=WAIT)
    starting = restarter(restart, rebind.REPEATS)
    with pytest.raises(bk.DeadObjectError):
        counter.read(100)
    starting.join(WAIT)
    assert words(tmp_path) == ["read"] * (1 + rebind.REPEATS)


def test_arguments_with_objects_and_large_data_are_sent_again(restart: Restart) -> None:
    restart()
    counter = get(ICounter, KEY, rebind=Rebind.RETRY_IDEMPOTENT, timeout=WAIT)
    data = bytes(range(256)) * 800
    starting = restarter(restart, 1)
    assert counter.echo(bk.RemoteObject("tests.callback"), data) == data
    starting.join(WAIT)


def test_a_method_of_another_interface_with_the_same_code_is_not_idempotent(restart: Restart) -> None:
    """IBase.append and ICounter's first property have small codes as ICounter.read has; the token tells them apart."""
    restart()
    counter = get(ICounter, KEY, rebind=Rebind.RETRY_IDEMPOTENT, timeout=WAIT)
    idempotent = type(counter)._idempotent  # type: ignore[attr-defined]
    codes = {name: method.code for name, method in ICounter.__contract__.methods.items()}
    assert set(idempotent) == {codes["read"], codes["echo"]}
    assert idempotent[codes["read"]] == (ICounter.__contract__.token,)
    base = get(IBase, KEY, rebind=Rebind.RETRY_IDEMPOTENT, timeout=WAIT)
    assert type(base)._idempotent == {}  # type: ignore[attr-defined]
    base.append("works")


def test_a_wait_in_vain_ends_in_time_and_sends_nothing(restart: Restart, tmp_path: Path) -> None:
    child = restart()
    counter = get(ICounter, KEY, rebind=Rebind.WAIT, timeout=0.1)
    child.kill()
    until(counter.as_object().is_object_dead, "the death is known")
    start = time.monotonic()
    with pytest.raises(bk.CallTimeoutError, match="ended and it was not back in time; the call was not sent") as caught:
        counter.append("lost")
    assert caught.value.code == 999
    patient = get_patient(counter)
    with pytest.raises(bk.CallTimeoutError):
        within(0.1, patient.append)("lost")
    assert time.monotonic() - start < WAIT / 2
    restart()
    counter.append("found")
    assert words(tmp_path) == ["found"]


def get_patient(counter: ICounter) -> ICounter:
    """The same proxy with a search that would take long."""
    counter._finder._timeout = WAIT  # type: ignore[attr-defined]
    return counter


def test_coroutines_wait_without_holding_their_loop(restart: Restart, tmp_path: Path) -> None:
    child = restart()
    counter = get(ICounter, KEY, rebind=Rebind.RETRY_IDEMPOTENT, timeout=WAIT)

    async def main() -> None:
        assert await aio(counter.pid)() == child.pid
        with pytest.raises(bk.DeadObjectError):
            await aio(counter.die_after)("once")
        waiting = [asyncio.create_task(aio(counter.pid)()) for _ in range(3)]
        ticks = 0
        starting = restarter(restart, 1)
        while not all(task.done() for task in waiting):
            ticks += 1
            await asyncio.sleep(0.005)
        pids = {task.result() for task in waiting}
        starting.join(WAIT)
        assert len(pids) == 1 and child.pid not in pids and ticks > 5
        again = restarter(restart, 1)
        assert await aio(counter.read)(1) == ["once", "read", "read"]
        again.join(WAIT)

    asyncio.run(main())


def test_a_samgr_that_is_restarted_is_asked_again_and_a_refusal_is_told(
    running_samgr: Samgr, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = Counter(str(tmp_path / "words"))
    samgr.add_system_ability(KEY, own)
    counter = get(ICounter, KEY, rebind=Rebind.WAIT)
    failures = [
        bk.DeadObjectError("SAMgr is gone"),
        ServiceNotFoundError("not yet"),
        NoServiceManagerError("no SAMgr"),
        ServiceError("it cannot start"),
    ]
    known = samgr.client.get_system_ability

    def failing(key: int, timeout: float) -> bk.IRemoteObject:
        if failures:
            raise failures.pop(0)
        return known(key, timeout)

    monkeypatch.setattr(samgr.client, "get_system_ability", failing)
    finder = counter._finder  # type: ignore[attr-defined]
    finder._lost = bk.RemoteObject("stands for the dead one")
    finder.known = finder._lost
    with pytest.raises(ServiceError, match="it cannot start"):
        counter.append("not sent")
    counter.append("sent")
    assert words(tmp_path) == ["sent"]


def test_a_service_of_this_process_is_called_directly(running_samgr: Samgr, tmp_path: Path) -> None:
    own = Counter(str(tmp_path / "words"))
    samgr.add_system_ability(KEY, own)
    counter = get(ICounter, KEY, rebind=Rebind.WAIT)
    counter.append("here")
    here: object = counter.as_object()
    assert words(tmp_path) == ["here"] and here is own
    assert counter == counter and counter != get(ICounter, KEY, rebind=Rebind.WAIT) and len({counter}) == 1
    assert repr(counter) == "<RebindingICounterProxy of system ability 119, WAIT>"


def test_the_class_of_an_interface_is_made_once(running_samgr: Samgr, tmp_path: Path) -> None:
    samgr.add_system_ability(KEY, Counter(str(tmp_path / "words")))
    first, second = (get(ICounter, KEY, rebind=Rebind.WAIT) for _ in range(2))
    assert type(first) is type(second) and isinstance(first, ICounter)
    assert type(get(IBase, KEY, rebind=Rebind.WAIT)) is not type(first)


def test_wrong_arguments_are_refused(device: Path) -> None:
    with pytest.raises(ParamTypeError, match=r"rebind is one of Rebind\.FAIL, Rebind\.WAIT, Rebind\.RETRY_IDEMPOTENT"):
        get(ICounter, KEY, rebind="wait")  # type: ignore[call-overload]
    with pytest.raises(ParamValueError, match=r"Rebind\.WAIT needs the service's interface"):
        get(None, KEY, rebind=Rebind.WAIT)
    with pytest.raises(ParamTypeError, match="expected a class that declares an interface"):
        get(Counter, KEY, rebind=Rebind.WAIT)
    with pytest.raises(ParamValueError):
        get(ICounter, 0)
