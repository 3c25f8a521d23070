"""Abilities that go when nobody holds them: real processes, counted by the driver that serves them."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.samgr import AbilityState
from binderkit.samgr.profile import Profile, StopEvents
from tests.driver.unix.hostile import until
from tests.samgr.fake_device import Device, ability
from tests.samgr.on_demand import device_process, write_profile
from tests.samgr.processes import WAIT, ask

INTERVAL = 0.1
UNREFERENCED = "[ability.stop-on-demand]\nunreferenced-unload = true\nrecycle-delay = 0\n"


@pytest.fixture
def counting(device: Path) -> Iterator[None]:
    """A SAMgr that counts every INTERVAL, and two services."""
    for number, name in enumerate(("held", "spare"), 0x70):
        write_profile(device / "profiles", name, number, "Lazy", UNREFERENCED)
    with device_process(references_interval=INTERVAL):
        yield


def state(key: int) -> AbilityState:
    return next(one.state for one in samgr.list_ability_states() if one.id == key)


def test_one_that_nobody_holds_is_unloaded_and_one_that_is_held_stays(counting: None) -> None:
    held = samgr.load_system_ability(0x70, timeout=12)
    samgr.load_system_ability(0x71, timeout=12)  # and not kept
    gc.collect()
    until(lambda: state(0x71) is AbilityState.NOT_LOADED, "nobody holds it, so it goes", WAIT)
    # Both were counted at the same interval, the one that is held since earlier.
    assert state(0x70) is AbilityState.LOADED and ask(held, 1, 1) == 2
    del held
    gc.collect()
    until(lambda: state(0x70) is AbilityState.NOT_LOADED, "its last holder is gone", WAIT)
    assert ask(samgr.get_system_ability(0x70), 1, 2) == 3  # started anew


def test_one_that_another_process_holds_stays(counting: None) -> None:
    with bk.spawn("tests.samgr.test_unreferenced:Keeper", 0x70) as keeper:
        samgr.load_system_ability(0x71, timeout=12)
        gc.collect()
        until(lambda: state(0x71) is AbilityState.NOT_LOADED, "nobody holds it, so it goes", WAIT)
        assert state(0x70) is AbilityState.LOADED and ask(keeper.root, 1, 41) == 42
        keeper.kill()
        until(lambda: state(0x70) is AbilityState.NOT_LOADED, "its holder died", WAIT)


class Keeper(bk.RemoteObject):
    """Holds a system ability and asks it what it is asked."""

    def __init__(self, key: int) -> None:
        super().__init__("tests.Keeper")
        self.held = samgr.load_system_ability(key, timeout=12)

    def on_remote_message_request(
        self, code: int, data: bk.MessageSequence, reply: bk.MessageSequence, option: bk.MessageOption
    ) -> bool:
        reply.write_int(ask(self.held, code, data.read_int()))
        return True


@pytest.mark.parametrize("held", [0, 1, 2])
def test_the_count_decides_and_one_that_cannot_be_counted_stays(held: int) -> None:
    """0: the local ability manager refuses to count; 1: only SAMgr holds it; 2: somebody else does, too."""
    one = ability(5, stop_on_demand=StopEvents(unreferenced_unload=True, recycle_delay=0.0))
    device = Device(Profile("demo", Path("/demo.toml"), (one,)), references_interval=0.01)
    try:
        _, local, _ = device.up()
        local.held = held

        def counted() -> bool:
            device.run()
            return ("references", 5) in local.calls

        until(counted, "it is counted", WAIT)
        if held == 1:
            until(lambda: device.run() or device.state(5) is not AbilityState.LOADED, "it goes", WAIT)  # type: ignore[func-returns-value]
            return
        for _ in range(2):
            local.calls.clear()
            until(counted, "it is counted again", WAIT)
        assert device.state(5) is AbilityState.LOADED
    finally:
        device.service.close()
