"""Who calls, as a handler sees it when another device does: real local drivers on both ends, a process of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator

import pytest

from binderkit.errors import PermissionDeniedError
from binderkit.interface import proxy
from tests.dbinder.callers import Facts, ICallers
from tests.dbinder.real import Real


@pytest.fixture
def real() -> Iterator[Real]:
    made = Real("tests.dbinder.callers:service")
    try:
        yield made
    finally:
        made.close()


def there(real: Real) -> ICallers:
    return proxy(ICallers, real.get())


def expected(real: Real) -> Facts:
    return Facts(
        device=real.udid,
        local_device=real.b_udid,
        is_local=False,
        pid=-1,
        uid=-1,
        token=0,
        d_pid=os.getpid(),
        d_uid=os.getuid(),
        d_token=0,
        handling=True,
        restored=True,
    )


def test_a_handler_sees_the_device_and_nothing_it_could_mistake_for_a_process_of_its_own(real: Real) -> None:
    assert there(real).here() == expected(real)


def test_a_coroutine_sees_the_same_also_in_a_task_of_its_own(real: Real) -> None:

    async def ask() -> list[Facts]:
        remote = there(real)
        return list(await asyncio.gather(*(remote.later() for _ in range(3))))

    assert asyncio.run(ask()) == [expected(real)] * 3


def test_a_local_caller_of_the_same_object_is_seen_as_what_it_is(real: Real) -> None:
    local = proxy(ICallers, real.child.root).here()
    assert (local.device, local.is_local, local.pid, local.uid) == ("", True, os.getpid(), os.getuid())
    assert local.token != 0


def test_what_needs_a_permission_runs_for_no_other_device(real: Real) -> None:
    """Its SAMgr gives every token every permission: what refuses is that another device's token is none."""
    local, remote = proxy(ICallers, real.child.root), there(real)
    calls = (remote.guarded, lambda: asyncio.run(remote.guarded_later()), remote.asked, remote.of_applications)
    for call in calls:
        with pytest.raises(PermissionDeniedError, match="callers of other devices have none") as caught:
            call()
        assert caught.value.code == 201
    assert local.ran() == []
    assert local.guarded() == asyncio.run(local.guarded_later()) == local.asked() == "ran"
    assert remote.ran() == ["guarded", "guarded_later", "asked"]
