"""Two whole devices: real daemons, real softbus processes, real Zenoh with mutual TLS on the loopback interface."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.softbus.two_devices import ROOT, TwoDevices, WholeDevice

pytestmark = pytest.mark.timeout(150)
ECHO, PRIVATE, GUARDED, UNDECLARED = 0x5000, 0x5001, 0x5201, 0x5300
BETA = f"beta-{os.getpid()}"
"""A name that no device of another test run has: those are near by, too."""


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
    devices.owner.ask("register", ECHO, "tests.echo", True)
    return devices


@pytest.mark.slow
def test_pair_find_call_and_be_called_back(devices: TwoDevices) -> None:
    user, owner = devices.user, devices.owner
    one, two = devices.pair()
    assert [device["udid"] for device in user.ask("devices")] == [two]
    owner.ask("register", ECHO, "tests.echo", True)
    owner.ask("register", PRIVATE, "tests.private", False)
    assert user.ask("list", two) == [{"id": ECHO, "name": "tests.echo", "running": True}]
    for device in (two, two[:8], owner.ask("own")["network_id"]):
        assert user.ask("get", ECHO, device) is True
        assert user.ask("echo", 2**62) == 2**62
    assert user.ask("get", "tests.echo", two) is True
    assert user.ask("caller") == one
    assert user.ask("call_back", "hello").startswith("hello in ")
    user.wait("told", "hello")
    # Both ways: the owner of the circle is not a server by nature.
    user.ask("register", ECHO, "tests.echo", True)
    assert owner.ask("get", ECHO, one) is True
    assert owner.ask("caller") == two
    assert user.ask("check", "tests.echo", two) is True
    assert user.ask("check", "tests.private", two) is False


@pytest.mark.slow
def test_sessions_and_what_is_large_travel_over_streams(paired: TwoDevices) -> None:
    user, owner = paired.user, paired.owner
    assert user.ask("get", ECHO, owner.ask("own")["udid"]) is True
    for size in (0, 100_000, 3_000_000):
        assert user.ask("large", size) is True
    owner.ask("serve_sessions", "tests.session")
    assert user.ask("talk", "tests.session", owner.ask("own")["network_id"], 20, 1000) == 20


@pytest.mark.slow
def test_what_cannot_be_had_is_said_with_its_code(paired: TwoDevices) -> None:
    user, two = paired.user, paired.owner.ask("own")["udid"]
    paired.owner.ask("register", PRIVATE, "tests.private", False)
    for key, device, code, word in (
        (PRIVATE, two, 115, "distributed"),
        ("tests.private", two, 113, "offers no system ability"),
        (ECHO + 7, two, 113, "no system ability"),
        (4700, two, 115, "use the one here"),
        (1401, two, 115, "use the one here"),
        (UNDECLARED, two, 1024, "this device does not declare"),
        (ECHO, "nobody", 108, "device list"),
        (ECHO, "0" * 64, 108, "device list"),
        (ECHO, "x" * 65, 401, "names no device"),
    ):
        found, text = user.fails("get", key, device)
        assert (found, word in text) == (code, True), text


@pytest.mark.slow
def test_an_ability_that_needs_a_permission_goes_to_devices_its_profile_names(
    paired: TwoDevices, tmp_path: Path
) -> None:
    """What a device may have, and that a changed profile counts, also that of the asking one."""
    user, owner = paired.user, paired.owner
    one, two = user.ask("own")["udid"], owner.ask("own")["udid"]
    profile = tmp_path / "guarded.toml"
    text = (
        f'process = "guarded"\n[[ability]]\nid = {GUARDED}\nentry = "tests.softbus.device_program:Echo"\n'
        'run-on-create = false\ndistributed = true\npermission = "ohos.permission.CAMERA"\n'
    )
    for access, code, word in (("", 201, "ohos.permission.CAMERA"), (f'["{"0" * 64}"]', 201, "remote-access")):
        profile.write_text(text + (f"remote-access = {access}\n" if access else ""))
        _install(paired.b, profile)
        found, why = user.fails("get", GUARDED, two)
        assert (found, word in why) == (code, True), why
        assert GUARDED not in [ability["id"] for ability in user.ask("list", two)]
    for access in (f'["{one}"]', '["trusted"]'):
        profile.write_text(f"{text}remote-access = {access}\n")
        _install(paired.b, profile)
        assert user.ask("get", GUARDED, two) is True
        assert user.ask("echo", 4) == 4
        assert GUARDED in [ability["id"] for ability in user.ask("list", two)]


def _install(device: WholeDevice, profile: Path) -> None:
    for words in (("install", str(profile)), ("reload",)):
        done = device.command("profiles", *words)
        assert done.returncode == 0, done.stderr


@pytest.mark.slow
def test_an_application_needs_a_permission_for_other_devices(paired: TwoDevices, tmp_path: Path) -> None:
    two = paired.owner.ask("own")["udid"]
    for name, permissions in (("tests.with", '"ohos.permission.DISTRIBUTED_DATASYNC"'), ("tests.without", "")):
        bundle = tmp_path / name
        bundle.mkdir()
        (bundle / "bundle.toml").write_text(
            f'name = "{name}"\nversion = "1"\nrequest-permissions = [{permissions}]\n[[ability]]\nname = "Asker"\n'
            'exported = true\nentry = "tests.softbus.device_program:AskerAbility"\n'
        )
        done = paired.a.command("bundles", "install", str(bundle))
        assert done.returncode == 0, done.stderr
    assert paired.user.ask("app_asks", "tests.with", ECHO, two) == "8"
    refused = paired.user.ask("app_asks", "tests.without", ECHO, two)
    assert refused.startswith("201 PermissionDeniedError: ") and "DISTRIBUTED_DATASYNC" in refused


@pytest.mark.slow
def test_abilities_of_another_device_come_and_go(paired: TwoDevices) -> None:
    user, owner = paired.user, paired.owner
    two = owner.ask("own")["udid"]
    assert user.fails("hear", UNDECLARED, two)[0] == 1024
    assert user.fails("hear", ECHO, "nobody")[0] == 108
    user.ask("hear", ECHO, two)
    user.wait("added", ECHO, two)
    user.ask("hear", "tests.private", two[:8])
    service = paired.b.program()
    service.ask("register", PRIVATE, "tests.private", True)
    user.wait("added", PRIVATE, two)
    service.kill_now()
    user.wait("removed", PRIVATE, two)
    # Its softbus ends: everything is gone, and there again when it is back. Then ours does.
    for device in (paired.owner, paired.user):
        os.kill(device.ask("pid"), signal.SIGKILL)
        user.wait("removed", ECHO, two)
        user.wait("added", ECHO, two)
    user.ask("hear_no_more", ECHO, two)
    user.forget()
    owner.ask("remove", ECHO)
    user.ask("load", ECHO, two)
    user.wait("not loaded", ECHO, 113)
    owner.ask("register", ECHO, "tests.echo", True)
    user.ask("load", "tests.echo", two)
    user.wait("loaded", "tests.echo", 5)
    assert not [line for line in user.heard if line[0] in ("added", "removed")]


@pytest.mark.slow
def test_the_scheduler_of_this_device_is_there(devices: TwoDevices) -> None:
    own = devices.user.ask("own")
    assert devices.user.ask("is_local", own["udid"]) is True
    assert devices.user.ask("is_local", own["network_id"]) is True
    assert devices.user.ask("is_local", "0" * 64) is False


@pytest.mark.slow
def test_two_devices_of_one_name_must_be_named_by_udid(paired: TwoDevices) -> None:
    user, owner = paired.user, paired.owner
    user.ask("name", "same")
    owner.ask("name", "same")
    user.wait("device", "changed", owner.ask("own")["udid"])
    code, text = user.fails("get", ECHO, "same")
    assert code == 108 and "2 devices" in text
    owner.ask("name", "other")
    user.wait("device", "changed", owner.ask("own")["udid"])
    assert user.ask("get", ECHO, "other") is True


@pytest.mark.slow
def test_the_death_of_the_ability_is_told(paired: TwoDevices) -> None:
    user, two = paired.user, paired.owner.ask("own")["udid"]
    service = paired.b.program()
    service.ask("register", ECHO + 1, "tests.mortal", True)
    assert user.ask("get", ECHO + 1, two) is True
    user.ask("watch_death")
    service.kill_now()
    user.wait("died")
    assert user.fails("echo", 1)[0] == -32
    assert user.fails("get", ECHO + 1, two)[0] == 113
    assert user.ask("get", ECHO, two) is True  # nothing else died


@pytest.mark.slow
def test_a_killed_softbus_comes_back_and_things_go_on(paired: TwoDevices) -> None:
    user, two = paired.user, paired.owner.ask("own")["udid"]
    before = paired.owner.ask("own")["network_id"]
    assert user.ask("get", ECHO, two) is True
    user.ask("watch_death")
    user.forget()
    os.kill(paired.owner.ask("pid"), signal.SIGKILL)
    user.wait("died")
    user.wait("device", "offline", two)
    user.wait("device", "online", two)
    assert user.fails("echo", 1)[0] == -32  # the old proxy stays dead
    assert user.ask("get", ECHO, two) is True
    assert user.ask("echo", 3) == 3
    after = paired.owner.ask("own")
    assert after["udid"] == two and after["network_id"] != before
    # Our own softbus, too: the proxies through it are dead, the next ones work.
    user.ask("watch_death")
    os.kill(user.ask("pid"), signal.SIGKILL)
    user.wait("died")
    user.forget()
    user.ask("watch")
    user.wait("device", "online", two)
    assert user.ask("get", ECHO, two) is True
    assert user.ask("echo", 4) == 4


@pytest.mark.slow
def test_unpaired_and_paired_again(paired: TwoDevices) -> None:
    user, owner = paired.user, paired.owner
    one, two = user.ask("own")["udid"], owner.ask("own")["udid"]
    assert user.ask("get", ECHO, two) is True
    user.ask("watch_death")
    user.forget()
    owner.forget()
    assert owner.ask("unpair", one) is True
    user.wait("died")
    user.wait("device", "offline", two)
    owner.wait("device", "offline", one)
    assert owner.ask("devices") == []
    assert user.fails("get", ECHO, two)[0] == 108
    assert owner.fails("get", ECHO, one)[0] == 108
    user.forget()
    owner.forget()
    devices_again = paired.pair()
    assert devices_again == (one, two)
    assert user.ask("get", ECHO, two) is True


@pytest.mark.slow
def test_a_wrong_pin_pairs_nobody(devices: TwoDevices) -> None:
    offer = devices.owner.ask("offer")
    wrong = "000000" if offer["pin"] != "000000" else "111111"
    code, text = devices.user.fails("pair", offer["port"], wrong)
    assert code == -425983984 and "PIN" in text
    assert devices.user.ask("devices") == devices.owner.ask("devices") == []
    assert devices.owner.fails("offer")[1].startswith("this device offers pairing already")


@pytest.mark.slow
def test_a_secret_pairs_without_a_person(devices: TwoDevices) -> None:
    secret = "a secret of the whole fleet"
    offer = devices.owner.ask("offer", secret)
    assert offer["pin"] == ""
    devices.user.ask("pair", offer["port"], "", secret)
    devices.owner.wait("paired", devices.user.ask("own")["udid"])
    devices.user.wait("device", "online", devices.owner.ask("own")["udid"])


@pytest.mark.slow
def test_devices_near_by_are_found_until_their_program_ends(devices: TwoDevices) -> None:
    devices.owner.ask("name", BETA)
    devices.owner.ask("publish")
    devices.user.ask("find")
    devices.user.wait("found", BETA)
    devices.owner.kill_now()
    devices.user.wait("lost", BETA)


@pytest.mark.slow
def test_the_daemon_is_told_of_devices(devices: TwoDevices, tmp_path: Path) -> None:
    """An ability that a device starts: the daemon knows of devices only what softbus told it."""
    profile = tmp_path / "on-device.toml"
    profile.write_text(
        'process = "on-device"\n[[ability]]\nid = 0x5100\nentry = "tests.softbus.device_program:Echo"\n'
        "run-on-create = false\n[ability.start-on-demand]\n"
        '[[ability.start-on-demand.deviceonline]]\nname = "deviceonline"\nvalue = "on"\n'
    )
    installed = devices.a.command("profiles", "install", str(profile))
    assert installed.returncode == 0, installed.stderr
    devices.user.close()
    devices.a.restart()
    devices.user = devices.a.program()
    assert devices.user.ask("running", 0x5100) is False
    devices.pair()
    assert devices.user.ask("wait_for", 0x5100) is True


@pytest.mark.slow
def test_an_ability_of_another_device_is_connected(devices: TwoDevices, tmp_path: Path) -> None:
    profile = tmp_path / "visitor.toml"
    profile.write_text(
        'process = "visitor"\npermissions = ["ohos.permission.DISTRIBUTED_DATASYNC"]\n'
        '[[ability]]\nid = 0x5200\nentry = "tests.softbus.device_program:Visitor"\nrun-on-create = false\n'
    )
    bundle = tmp_path / "visited"
    bundle.mkdir()
    (bundle / "bundle.toml").write_text(
        'name = "tests.visited"\nversion = "1"\nrequest-permissions = ["ohos.permission.DISTRIBUTED_DATASYNC"]\n'
        '[[ability]]\nname = "Echo"\nexported = true\nentry = "tests.softbus.device_program:EchoAbility"\n'
    )
    for device, command in (
        (devices.a, ("profiles", "install", str(profile))),
        (devices.b, ("bundles", "install", str(bundle))),
    ):
        done = device.command(*command)
        assert done.returncode == 0, done.stderr
    devices.user.close()
    devices.a.restart()
    devices.user = devices.a.program()
    one, two = devices.pair()
    assert devices.user.ask("visit", two) == f"True {one} 7"


@pytest.mark.slow
def test_the_command_line(devices: TwoDevices) -> None:
    a, b = devices.a, devices.b
    assert a.command("device", "name", "alpha").returncode == b.command("device", "name", BETA).returncode == 0
    assert a.command("device", "name").stdout == "alpha\n"
    command = [sys.executable, "-m", "binderkit.cli.main", "device", "pair"]
    with subprocess.Popen(command, env=b.environment, cwd=ROOT, stdout=subprocess.PIPE, text=True) as offering:
        assert offering.stdout is not None
        pin = offering.stdout.readline().split()[1]
        near = [
            one for one in json.loads(a.command("device", "list", "--near", "--json").stdout) if one["name"] == BETA
        ]
        assert len(near) == 1 and near[0]["pairing_port"]
        joined = a.command("device", "pair", BETA, "--pin", pin)
        assert joined.stdout.startswith(f"paired with {BETA} ("), joined.stderr
        assert "paired with alpha" in offering.stdout.read()
    assert offering.returncode == 0
    devices.owner.ask("register", ECHO, "tests.echo", True)
    assert f" online {BETA} (" in a.command("device", "watch", "-c", "1").stdout
    listed = {one["name"]: one["online"] for one in json.loads(a.command("device", "list", "--json").stdout)}
    assert listed == {"alpha": True, BETA: True}
    assert "tests.echo" in a.command("list", "--device", BETA).stdout
    assert a.command("device", "unpair", BETA).stdout == f"{BETA} is not trusted any more\n"
    refused = a.command("list", "--device", BETA)
    assert refused.returncode == 1 and "[code 108]" in refused.stderr
    assert BETA not in a.command("device", "list").stdout


def test_without_its_packages_softbus_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    from binderkit.dbinder import ability
    from binderkit.errors import ServiceError

    monkeypatch.setattr(ability, "_NEEDED", ("zeroconf", "no_such_package"))
    with pytest.raises(ServiceError, match=r"no_such_package is not installed.*binderkit\[rpc\]"):
        ability.check_packages()
