"""samgr/operations_remote.py: which abilities other devices get, and which this one may ask for; by whom it is told."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.errors import RefusedError, ServiceError, ServiceNotFoundError
from binderkit.ipc.context import Caller
from binderkit.ipc.invocation import PERMISSION
from binderkit.samgr import codes
from binderkit.samgr.operations_remote import RemoteRule
from binderkit.samgr.policy import Policy, Rule
from binderkit.samgr.profile import Profile
from tests.samgr.fake_device import STRANGER, Device, Local, ability
from tests.samgr.processes import Adder

ME, YOU = "a" * 64, "b" * 64
CAMERA = "ohos.permission.CAMERA"
SOFTBUS = Caller(4700, STRANGER.uid, 1)
SPEAKER = Profile("softbus", Path("/softbus.toml"), (ability(codes.SOFTBUS_ID),))


def permitted(caller: Caller, permission: str) -> bool:
    """Softbus has its permission, our own user all, nobody else any."""
    return (caller is SOFTBUS and permission == PERMISSION) or caller.uid not in (STRANGER.uid,)


@pytest.fixture
def device() -> Iterator[Device]:
    profile = Profile(
        "demo",
        Path("/demo.toml"),
        (
            ability(5),
            ability(6, distributed=True),
            ability(7, distributed=True, permission=CAMERA),
            ability(8, distributed=True, permission=CAMERA, remote_access=(ME,)),
            ability(9, distributed=True, remote_access=(ME,)),
            ability(10, distributed=True, permission=CAMERA, remote_access=("trusted",)),
        ),
    )
    uses = Profile("uses", Path("/uses.toml"), (), remote_abilities=(20, "demo.far"))
    made = Device(profile, uses, SPEAKER, permitted=permitted)
    yield made
    made.service.close()


@pytest.fixture
def softbus(device: Device) -> samgr.SystemAbilityManagerClient:
    """The process that hosts 4700."""
    return device.up(codes.SOFTBUS_ID)[0]


@pytest.mark.parametrize(
    ("key", "device_id", "code"),
    [
        (5, ME, 1024),
        (6, ME, 0),
        ("demo.sa6", ME, 0),
        (7, ME, 201),
        (8, ME, 0),
        (8, YOU, 201),
        (9, ME, 0),
        (9, YOU, 201),
        (10, ME, 0),
        (10, YOU, 0),
        (20, ME, 1008),
        (11, ME, 1008),
        ("demo.far", ME, 1008),
        (6, "kitchen", 1001),
        (6, ME.upper(), 1001),
    ],
)
def test_what_a_device_may_have(
    softbus: samgr.SystemAbilityManagerClient, key: int | str, device_id: str, code: int
) -> None:
    if not code:
        found = softbus.check_remote_system_ability(key, device_id)
        assert found == (6 if key == "demo.sa6" else key)
        return
    with pytest.raises(ServiceError) as caught:
        softbus.check_remote_system_ability(key, device_id)
    assert caught.value.code == code
    assert isinstance(caught.value, ServiceNotFoundError) is (code == 1008)


def test_the_text_says_what_to_write_where(softbus: samgr.SystemAbilityManagerClient) -> None:
    for key, words in ((7, [CAMERA, "remote-access", YOU[:16]]), (9, ["not for every device", "remote-access"])):
        with pytest.raises(ServiceError) as caught:
            softbus.check_remote_system_ability(key, YOU)
        assert all(word in str(caught.value) for word in words), str(caught.value)
    with pytest.raises(ServiceError, match="'distributed = true' in its profile there"):
        softbus.check_remote_system_ability(5, YOU)


@pytest.mark.parametrize(
    ("key", "declared"), [(5, False), (6, True), ("demo.sa6", True), (20, True), ("demo.far", True)]
)
def test_what_this_device_declares(softbus: samgr.SystemAbilityManagerClient, key: int | str, declared: bool) -> None:
    if declared:
        assert softbus.check_remote_system_ability(key) == (6 if key in (6, "demo.sa6") else 0)
        return
    with pytest.raises(
        ServiceError, match=r"this device does not declare .* on this device too; else .*reload"
    ) as caught:
        softbus.check_remote_system_ability(key)
    assert caught.value.code == codes.NOT_DISTRIBUTED == 1024


def test_what_is_registered_without_a_profile_counts(device: Device, softbus: samgr.SystemAbilityManagerClient) -> None:
    client = device.client
    client.add_system_ability(30, Adder(), distributed=True)
    client.add_system_ability(31, Adder(), distributed=False)
    client.add_system_ability(32, Adder(), distributed=True, permission=CAMERA)
    assert softbus.check_remote_system_ability(30) == softbus.check_remote_system_ability(30, ME) == 30
    for key, code in ((31, 1024), (32, 201)):
        with pytest.raises(ServiceError) as caught:
            softbus.check_remote_system_ability(key, ME)
        assert caught.value.code == code
    guarded = {one.id: one.guarded for one in client.list_ability_states()}
    assert guarded == {
        5: False,
        6: False,
        7: True,
        8: True,
        9: True,
        10: False,
        30: False,
        31: False,
        32: True,
        4700: False,
    }


def test_new_profiles_declare_other_abilities(device: Device, softbus: samgr.SystemAbilityManagerClient) -> None:
    uses = Profile("uses", Path("/uses.toml"), (), remote_abilities=(21,))
    device.service.reload({"uses": uses, "softbus": SPEAKER})
    assert softbus.check_remote_system_ability(21) == 0
    with pytest.raises(ServiceError, match="does not declare"):
        softbus.check_remote_system_ability(20)


def test_only_who_speaks_for_the_device_is_told(device: Device, softbus: samgr.SystemAbilityManagerClient) -> None:
    assert softbus.check_remote_system_ability(6, ME) == 6
    (pid,) = {one.pid for one in device.client.list_ability_states() if one.id == codes.SOFTBUS_ID}
    me = device.client
    for client in (me, device.as_caller(STRANGER), device.as_caller(Caller(pid, 0, 0, device_id=ME))):
        with pytest.raises(ServiceError, match=r"check_system_ability\(…, device_id=…\).* 4700") as caught:
            client.check_remote_system_ability(6, ME)
        assert caught.value.code == 407


def test_softbus_is_told_before_it_is_registered_and_nobody_while_there_is_none(device: Device) -> None:
    with pytest.raises(ServiceError) as caught:
        device.pid(77).check_remote_system_ability(6, ME)
    assert caught.value.code == 407
    with pytest.raises(RefusedError, match="is not known"):
        device.pid(0).check_remote_system_ability(6, ME)
    device.client.load_system_ability(codes.SOFTBUS_ID, samgr.SystemAbilityLoadCallback())
    device.run()
    pid = device.client.get_system_process_info(codes.SOFTBUS_ID).pid
    device.pid(pid).add_system_process("softbus", Local())
    assert device.pid(pid).check_remote_system_ability(6, ME) == 6


def test_samgr_loads_nothing_of_another_device(device: Device) -> None:
    """What a client of OpenHarmony's SAMgr sends for it: id, device, callback."""
    data, reply = bk.MessageSequence(), bk.MessageSequence()
    data.write_interface_token(codes.DESCRIPTOR)
    data.write_int(6)
    data.write_string(ME)
    data.write_remote_object(Adder())
    device.client.as_object().send_request(codes.LOAD_REMOTE_SYSTEM_ABILITY, data, reply)
    assert reply.read_int() == 407
    assert "load_system_ability(…, callback, device_id=…)" in reply.read_string()


def test_softbus_gets_for_others_what_the_profile_lets_them_have(device: Device) -> None:
    """It has no permission itself; ability 7 no other device may have, so softbus may not either."""
    open_policy = Device(
        Profile(
            "p", Path("/p.toml"), (ability(7, permission=CAMERA), ability(8, permission=CAMERA, remote_access=(ME,)))
        ),
        policy=Policy([Rule(None, ((1, 0xFFFFFF),), ("*",), frozenset({"get"}))]),
        permitted=permitted,
    )
    try:
        for key in (7, 8):
            open_policy.up(key)
        assert open_policy.as_caller(SOFTBUS).check_system_ability(8) is not None
        for caller, key in ((SOFTBUS, 7), (STRANGER, 8)):
            with pytest.raises(bk.RefusedError, match=CAMERA):
                open_policy.as_caller(caller).check_system_ability(key)
    finally:
        open_policy.service.close()


def test_a_rule_that_names_nobody_lets_nobody_in() -> None:
    rule = RemoteRule(5, "system ability 5", True, CAMERA, ())
    for device_id in ("", ME, "trusted"):
        with pytest.raises(ServiceError):
            rule.check(device_id)
    replace_all = rule._replace(remote_access=("trusted",))
    replace_all.check(ME)
    assert rule.guarded and not replace_all.guarded
