"""samgr/aio.py: the functions as coroutines, on one event loop, around a real SAMgr."""

from __future__ import annotations

import asyncio
import inspect
import subprocess
from pathlib import Path
from types import ModuleType

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.errors import ParamValueError, ServiceNotFoundError
from binderkit.samgr import aio, client
from binderkit.samgr.local import ILocalAbilityManager
from binderkit.samgr.reason import OnDemandReason
from tests.driver.unix.hostile import until
from tests.samgr.on_demand import device_process, write_profile
from tests.samgr.processes import WAIT, Adder, samgr_process

Samgr = subprocess.Popen[bytes]


class Heard(samgr.SystemAbilityListener):
    """Puts what it hears into a queue of the loop."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = asyncio.get_running_loop()
        self.events: asyncio.Queue[tuple[str, int]] = asyncio.Queue()

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.loop.call_soon_threadsafe(self.events.put_nowait, ("added", ability_id))

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.loop.call_soon_threadsafe(self.events.put_nowait, ("removed", ability_id))


def test_what_is_added_is_found_and_removed(running_samgr: Samgr) -> None:
    async def scene() -> None:
        adder, listener = Adder(), Heard()
        await aio.subscribe_system_ability(7, listener)
        assert await aio.check_system_ability(7) is None
        with pytest.raises(ServiceNotFoundError):
            await aio.get_system_ability(7)
        waiting = [asyncio.create_task(aio.get_system_ability(7, WAIT)) for _ in range(20)]
        assert await aio.add_system_ability(7, adder, name="seven") == 7
        assert await asyncio.gather(*waiting) == [adder] * 20
        assert await aio.get_system_ability("seven") is adder
        assert await aio.check_system_ability(7) is adder
        assert 7 in [info.id for info in await aio.list_system_abilities()]
        assert 7 in [status.id for status in await aio.list_ability_states()]
        assert await asyncio.wait_for(listener.events.get(), WAIT) == ("added", 7)
        await aio.remove_system_ability(7)
        assert await asyncio.wait_for(listener.events.get(), WAIT) == ("removed", 7)
        await aio.unsubscribe_system_ability(7, listener)

    asyncio.run(scene())


def test_a_cancelled_wait_is_over_in_samgr_too(running_samgr: Samgr) -> None:
    async def scene() -> None:
        task = asyncio.create_task(aio.wait_for_system_ability(7))
        while "1 for 7" not in await asyncio.to_thread(waiting):
            pass
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        while "1 for 7" in await asyncio.to_thread(waiting):
            pass

    asyncio.run(asyncio.wait_for(scene(), WAIT))


def waiting() -> str:
    """Return what SAMgr says of who waits."""
    from binderkit.cli import target

    return target.dump(samgr.system_ability_manager().as_object(), ["--listener"], WAIT).decode()


def test_processes_are_listed_and_watched(running_samgr: Samgr) -> None:
    async def scene() -> None:
        listener = samgr.SystemProcessListener()
        await aio.subscribe_system_process(listener)
        await asyncio.to_thread(samgr.add_system_process, "mine", Adder())
        assert [info.name for info in await aio.list_system_processes()] == ["binderkit.softbus", "mine"]
        await aio.unsubscribe_system_process(listener)

    asyncio.run(scene())


def test_a_load_starts_the_service_and_blocks_nobody(device: Path) -> None:
    write_profile(device / "profiles", "lazy", 5, "Lazy")

    async def scene() -> None:
        turns = 0
        task = asyncio.create_task(aio.load_system_ability(5, timeout=12))
        while not task.done():
            await asyncio.sleep(0)
            turns += 1
        assert isinstance(await task, bk.RemoteProxy)
        assert turns > 10
        for refused in (aio.unload_system_ability, aio.cancel_unload_system_ability):
            with pytest.raises(bk.IpcError, match="only its own process"):
                await refused(5)
        with pytest.raises(ParamValueError, match="at most 12"):
            await aio.load_system_ability(5, timeout=13)

    with device_process():
        asyncio.run(asyncio.wait_for(scene(), WAIT))


def test_every_function_has_a_twin_with_the_same_arguments() -> None:
    def functions(module: ModuleType) -> dict[str, list[str]]:
        return {
            name: list(inspect.signature(one).parameters)
            for name, one in vars(module).items()
            if inspect.isfunction(one) and one.__module__ == module.__name__ and name[0] != "_"
        }

    sync, twins = functions(client), functions(aio)
    del sync["system_ability_manager"]  # finding SAMgr is part of every call
    for name in ("load_system_ability", "add_system_ability"):  # no callback; options as they are
        del sync[name], twins[name]
    assert twins == sync
    assert all(inspect.iscoroutinefunction(getattr(aio, name)) for name in twins)


def test_the_rarer_ones_ask_the_same(device: Path) -> None:
    write_profile(device / "profiles", "lazy", 5, "Lazy", 'extension = ["backup"]')

    async def scene() -> None:
        assert await aio.check_on_demand_system_ability_info(5) == "lazy"
        assert await aio.check_on_demand_system_ability_info(6) is None
        remote = await aio.get_system_ability(5)
        info = await aio.get_system_process_info(5)
        assert isinstance(remote, bk.RemoteProxy) and info.pid == remote.owner.pid
        assert await aio.get_extension_ability_ids("backup", running=True) == [5]
        local = await aio.get_local_ability_manager(5)
        assert await aio.get_running_extension_infos("backup") == [(5, local)]
        assert await aio.get_idle_processes() == []
        assert await aio.get_on_demand_ability_ids() == []
        await aio.unload_processes(["lazy"])
        with pytest.raises(bk.IpcError, match="does not know transaction 113"):
            await aio.reload_profiles()
        await aio.add_system_process("tool", _Local())
        await aio.add_on_demand_system_ability_info(50)
        assert await aio.check_on_demand_system_ability_info(50) == "tool"
        assert await aio.get_on_demand_ability_ids() == [50]

    with device_process():
        asyncio.run(asyncio.wait_for(scene(), WAIT))


def test_an_offer_is_made_again_when_samgr_was_restarted(device: Path) -> None:
    """And the program is told to start what it offered: the object comes from there."""
    local = _Local()
    with samgr_process() as first:
        samgr.add_system_process("tool", local)
        samgr.add_on_demand_system_ability_info(50)
        first.kill()
        first.wait(WAIT)
    with samgr_process():
        until(lambda: samgr.check_on_demand_system_ability_info(50) == "tool", "the offer is known again")
        assert samgr.load_system_ability(50) is local.adder


class _Local(ILocalAbilityManager):
    """The local ability manager of a program that offers an Adder."""

    def __init__(self) -> None:
        self.adder = Adder()

    def start_ability(self, ability_id: int, reason: OnDemandReason) -> None:
        samgr.add_system_ability(ability_id, self.adder)

    def stop_ability(self, ability_id: int, reason: OnDemandReason) -> None:
        samgr.remove_system_ability(ability_id)

    def idle_ability(self, ability_id: int, reason: OnDemandReason) -> int:
        return 0

    def active_ability(self, ability_id: int, reason: OnDemandReason) -> bool:
        return True

    def extension(self, ability_id: int, name: str, data: bytes) -> bytes:
        return data

    def stop_process(self) -> None:
        raise AssertionError("nobody ends this process")

    def references(self, ability_id: int) -> int:
        return 1
