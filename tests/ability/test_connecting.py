"""connecting.py: connections as blocks, in coroutines and in plain code, however they end."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import pytest

from binderkit.ability import (
    AbilityError,
    Want,
    connect,
    list_service_extension_abilities,
    start_service_extension_ability,
    stop_service_extension_ability,
)
from binderkit.ability.client import open_connections
from binderkit.interface import aio
from tests.ability.clients import journal, want
from tests.ability.contracts import IRecorder
from tests.ability.device import WAIT, wait_until_no_host_runs


def test_async_with_gives_a_typed_proxy_and_ends_the_connection(directory: Path) -> None:
    async def main() -> list[str]:
        async with connect(want("Async"), IRecorder) as recorder:
            return await aio(recorder.events)()

    assert asyncio.run(main()) == ["create", "connect"]
    assert open_connections() == set()
    wait_until_no_host_runs(directory)
    assert journal(directory)[-2:] == ["Async disconnect", "Async destroy"]


def test_many_at_once_share_one_ability(directory: Path) -> None:
    async def one() -> int:
        async with connect(want("Recorder"), IRecorder) as recorder:
            return await aio(recorder.pid)()

    async def main() -> list[int]:
        async with connect(want("Recorder")):
            return await asyncio.gather(*(one() for _ in range(20)))

    assert len(set(asyncio.run(main()))) == 1
    assert journal(directory)[:2] == ["Recorder create", "Recorder connect"]


def test_failures_are_raised_with_code_and_text(directory: Path) -> None:
    async def main() -> None:
        async with connect(want("Hidden")):
            pytest.fail("connected")

    with pytest.raises(AbilityError, match="is not exported") as raised:
        asyncio.run(main())
    assert raised.value.code == 16000004
    with pytest.raises(AbilityError, match="is not exported"), connect(want("Hidden")):
        pytest.fail("connected")


def test_an_exception_in_the_block_ends_the_connection_and_goes_on(directory: Path) -> None:
    with pytest.raises(ZeroDivisionError), connect(want("Recorder")):
        raise ZeroDivisionError
    assert open_connections() == set()


def test_a_cancelled_wait_for_the_object_leaves_nothing_behind(directory: Path) -> None:
    async def main() -> None:
        async def wait() -> None:
            async with connect(want("HangsAtConnect")):
                pytest.fail("connected")

        task = asyncio.create_task(wait())
        while not any(report.state == "ACTIVE" for report in await asyncio.to_thread(list_service_extension_abilities)):
            assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert open_connections() == set()
    (report,) = list_service_extension_abilities()
    os.kill(report.pid, signal.SIGKILL)


def test_the_block_can_see_that_the_service_died(directory: Path) -> None:
    connection = connect(want("Recorder"), IRecorder)
    with connection as recorder:
        os.kill(recorder.pid(), signal.SIGKILL)
        connection.ended.result(WAIT)


def test_a_started_ability_is_not_ended_by_a_block(directory: Path) -> None:
    start_service_extension_ability(want("Recorder"))
    with connect(want("Recorder")):
        pass
    assert [report.start_id for report in list_service_extension_abilities()] == [1]
    stop_service_extension_ability(want("Recorder"))


def test_without_an_ability_manager_it_says_so(installed: Path) -> None:
    with pytest.raises(AbilityError, match=r"the ability manager .* is not there"), connect(Want("a.b", "S")):
        pytest.fail("connected")
