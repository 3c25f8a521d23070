"""samgr/waiters.py: futures, quotas, and nothing left at the end."""

from __future__ import annotations

import asyncio
import threading

import pytest

import binderkit as bk
from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr import codes
from binderkit.samgr.ability import AbilityInfo
from binderkit.samgr.waiters import Waiters, resolve
from tests.samgr.processes import WAIT

OBJECT = bk.RemoteObject("tests.Object")


def test_those_who_wait_for_id_or_name_are_taken_once() -> None:
    async def scene() -> None:
        waiters = Waiters()
        by_id, by_name, other = (asyncio.get_running_loop().create_future() for _ in range(3))
        waiters.add(10, 5, by_id)
        waiters.add(11, "five", by_name)
        waiters.add(10, "six", other)
        assert waiters.counts() == {5: 1, "five": 1, "six": 1}
        assert waiters.take(AbilityInfo(5, "five", 1, 0)) == [by_id, by_name]
        assert waiters.take(AbilityInfo(5, "five", 1, 0)) == []
        for pid, key, future in ((10, 5, by_id), (11, "five", by_name), (10, "six", other)):
            waiters.end(pid, key, future)
        assert len(waiters) == 0 and waiters.counts() == {}

    asyncio.run(scene())


def test_the_257th_wait_of_a_process_is_refused_and_others_go_on() -> None:
    async def scene() -> None:
        waiters, make = Waiters(), asyncio.get_running_loop().create_future
        for _ in range(limits.MAX_SUBSCRIPTIONS_PER_PID):
            waiters.add(10, 5, make())
        with pytest.raises(ServiceError) as caught:
            waiters.add(10, 6, make())
        assert caught.value.code == codes.SUBSCRIBE_LIMIT
        waiters.add(11, 6, make())

    asyncio.run(scene())


def test_a_waiter_is_resolved_from_another_thread_and_a_cancelled_one_left_alone() -> None:
    async def scene() -> None:
        waiting: asyncio.Future[bk.IRemoteObject] = asyncio.get_running_loop().create_future()
        cancelled: asyncio.Future[bk.IRemoteObject] = asyncio.get_running_loop().create_future()
        cancelled.cancel()

        def resolve_both() -> None:
            resolve(cancelled, OBJECT)
            resolve(waiting, OBJECT)

        thread = threading.Thread(target=resolve_both)
        thread.start()
        assert await asyncio.wait_for(waiting, WAIT) is OBJECT
        thread.join(WAIT)
        assert cancelled.cancelled()

    asyncio.run(scene())
