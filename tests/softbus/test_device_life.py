"""A device that stays itself: its softbus or its daemon killed, restarted, leaving a circle, being put out of it."""

from __future__ import annotations

import json
import os
import signal
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.softbus.local_devices import until
from tests.softbus.two_devices import TwoDevices, WholeDevice

pytestmark = [pytest.mark.slow, pytest.mark.timeout(150)]
ECHO = 0x5000


@pytest.fixture
def devices() -> Iterator[TwoDevices]:
    two = TwoDevices()
    try:
        yield two
    finally:
        two.close()


@pytest.fixture
def paired(devices: TwoDevices) -> TwoDevices:
    devices.pair()
    return devices


def listed(device: WholeDevice) -> dict[str, dict[str, Any]]:
    """Return what ``binderkit device list`` shows, by name."""
    done = device.command("device", "list", "--json")
    assert done.returncode == 0, done.stderr
    return {one["name"]: one for one in json.loads(done.stdout)}


def test_softbus_outlives_its_daemon_and_is_found_again(paired: TwoDevices) -> None:
    user, owner = paired.user, paired.owner
    one, two = user.ask("own"), owner.ask("own")
    pid = user.ask("pid")
    owner.ask("register", ECHO, "tests.echo", True)
    assert user.ask("get", ECHO, two["udid"]) is True
    paired.a.crash()
    # What is held goes on, without SAMgr.
    assert user.ask("echo", 5) == 5
    late = paired.a.program()
    late.ask("watch")
    late.wait("device", "online", two["udid"])
    assert late.ask("pid") == pid
    assert late.ask("own")["network_id"] == one["network_id"]
    assert late.ask("get", ECHO, two["udid"]) is True
    assert late.ask("echo", 6) == 6
    # The new daemon starts the next one, when this one ends.
    os.kill(pid, signal.SIGKILL)
    until(lambda: listed(paired.a)[late.ask("own")["name"]]["online"], "softbus runs again")
    assert late.ask("pid") != pid and late.ask("own")["udid"] == one["udid"]


def test_a_device_keeps_whom_it_trusts_over_a_restart_of_everything(paired: TwoDevices) -> None:
    user, two = paired.user, paired.owner.ask("own")["udid"]
    paired.owner.ask("name", "kitchen")
    user.wait("device", "changed", two)
    user.close()
    paired.owner.close()
    paired.a.restart()
    paired.b.restart()
    # Nobody asked for it: a device that was used before is there for the others.
    again = paired.a.program()
    again.ask("watch")
    again.wait("device", "online", two)
    assert listed(paired.a)["kitchen"]["udid"] == two


def test_a_state_of_its_own_outlives_a_reboot(devices: TwoDevices, tmp_path: Path) -> None:
    state = tmp_path / "state"
    group = devices.a.environment["BINDERKIT_SOFTBUS_GROUP"]
    third = WholeDevice(group, BINDERKIT_SOFTBUS_STATE=str(state))
    try:
        offer, program = devices.owner.ask("offer"), third.program()
        program.ask("pair", offer["port"], offer["pin"])
        own, two = program.ask("own")["udid"], devices.owner.ask("own")["udid"]
        program.wait("device", "online", two)
        program.close()
        third.reboot()
        assert sorted(path.name for path in state.iterdir()) == [
            "acquaintances.json",
            "device.key",
            "softbus.lock",
            "trust.json",
            "trust.lock",
        ]
        assert {stat.S_IMODE(path.stat().st_mode) for path in state.iterdir()} == {0o600}
        again = third.program()
        again.ask("watch")
        again.wait("device", "online", two)
        assert again.ask("own")["udid"] == own
    finally:
        third.close()


def test_a_second_softbus_on_the_same_state_is_refused_with_words(devices: TwoDevices) -> None:
    taken = devices.a.directory / "softbus"
    devices.user.ask("own")
    other = WholeDevice("224.0.0.224:7446", BINDERKIT_SOFTBUS_STATE=str(taken))
    try:
        done = other.command("device", "list")
        assert done.returncode == 1
        assert f"another softbus process (pid {devices.user.ask('pid')}) uses {taken}" in done.stderr, done.stderr
    finally:
        other.close()


def test_put_out_by_the_owner_for_all_members(paired: TwoDevices) -> None:
    one, two = paired.user.ask("own")["udid"], paired.owner.ask("own")["udid"]
    refused = paired.a.command("device", "unpair", two, "--everywhere")
    assert refused.returncode == 1 and "only the owner of the circle can put out" in refused.stderr
    done = paired.b.command("device", "unpair", one, "--everywhere")
    assert done.stdout == f"{one} is not trusted any more, by no device of this circle\n", done.stderr
    paired.user.wait("device", "offline", two)
    paired.owner.wait("device", "untrusted", one)
    paired.owner.wait("device", "offline", one)
    assert paired.owner.ask("devices") == []
    # It is not a member any more: there is nobody to put out.
    missing = paired.b.command("device", "unpair", one, "--everywhere")
    assert missing.returncode == 1 and "[code 108]" in missing.stderr


def test_leaving_the_circle(paired: TwoDevices) -> None:
    one, two = paired.user.ask("own")["udid"], paired.owner.ask("own")["udid"]
    left = paired.a.command("device", "leave")
    assert left.returncode == 0 and left.stdout == "this device has left its circle and trusts no other any more\n"
    paired.user.wait("device", "untrusted", two)
    paired.user.wait("device", "offline", two)
    paired.owner.wait("device", "offline", one)
    assert paired.user.ask("devices") == []
    assert paired.user.ask("own") | {"last_seen": 0} == {
        **paired.user.ask("own"),
        "udid": one,
        "owner": True,
        "last_seen": 0,
    }
    # The owner still lists it, as one that is off; both can be paired again.
    (offline,) = paired.owner.ask("devices")
    assert (offline["udid"], offline["online"]) == (one, False) and offline["last_seen"]
    paired.user.forget()
    paired.owner.forget()
    assert paired.pair() == (one, two)
