"""samgr/policy.py: what a file says, and what follows from it."""

from __future__ import annotations

from pathlib import Path

import pytest

from binderkit.errors import ServiceError
from binderkit.ipc.context import Caller
from binderkit.samgr.ability import AbilityInfo
from binderkit.samgr.policy import MAX_FILE, Policy

OWNER, ROOT, ALICE, BOB = 500, 0, 1001, 1002

RULES = """
[[allow]]
uid = 1001
ids = ["0x1000-0x1fff", 4700]
names = "com.example.*"
actions = ["add", "get", "list"]

[[allow]]
uid = "*"
names = ["public.*"]
"""


def caller(uid: int) -> Caller:
    return Caller(4242, uid, uid)


@pytest.fixture
def policy(tmp_path: Path) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(RULES)
    return Policy.load(path, owner=OWNER)


def load(tmp_path: Path, text: str) -> Policy:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return Policy.load(path, owner=OWNER)


@pytest.mark.parametrize("uid", [OWNER, ROOT])
def test_without_rules_own_user_and_root_may_do_everything(uid: int) -> None:
    policy = Policy(owner=OWNER)
    info = AbilityInfo(5, "x", 1, uid)
    assert policy.admission(caller(uid)) is None
    assert policy.may_add(caller(uid), info, AbilityInfo(5, "x", 1, ALICE)) is None
    assert policy.may_get(caller(uid), info.keys) is None
    assert policy.may_list(caller(uid), info)


def test_without_rules_others_may_not_even_connect() -> None:
    policy = Policy(owner=OWNER)
    assert "uid 1001 may not use this SAMgr" in (policy.admission(caller(ALICE)) or "")
    assert policy.may_add(caller(ALICE), AbilityInfo(5, "", 1, ALICE), None) is not None
    assert policy.may_get(caller(ALICE), [5]) is not None


@pytest.mark.parametrize(
    ("ability", "name"), [(0x1000, ""), (0x1FFF, ""), (4700, "com.example.a"), (0, "com.example.a")]
)
def test_a_rule_allows_what_it_names(policy: Policy, ability: int, name: str) -> None:
    assert policy.may_add(caller(ALICE), AbilityInfo(ability, name, 1, ALICE), None) is None


@pytest.mark.parametrize(
    ("ability", "name"),
    [(0xFFF, ""), (0x2000, ""), (180, "com.example.a"), (4700, "org.example"), (0, "com.Example.a")],
)
def test_every_identifier_must_be_allowed_to_register(policy: Policy, ability: int, name: str) -> None:
    reason = policy.may_add(caller(ALICE), AbilityInfo(ability, name, 1, ALICE), None)
    assert reason is not None and "uid 1001 may not add system ability" in reason and "policy.toml" in reason


def test_the_default_actions_are_get_and_list(policy: Policy) -> None:
    info = AbilityInfo(9, "public.clock", 1, OWNER)
    assert policy.admission(caller(BOB)) is None
    assert policy.may_get(caller(BOB), info.keys) is None
    assert policy.may_list(caller(BOB), info)
    assert policy.may_add(caller(BOB), AbilityInfo(0, "public.clock", 1, BOB), None) is not None
    assert not policy.may_list(caller(BOB), AbilityInfo(10, "secret", 1, OWNER))


def test_an_ability_of_another_user_is_neither_replaced_nor_removed(policy: Policy) -> None:
    of_owner = AbilityInfo(4700, "", 1, OWNER)
    mine = AbilityInfo(4700, "", 2, ALICE)
    assert "belongs to another user" in (policy.may_add(caller(ALICE), mine, of_owner) or "")
    assert policy.may_remove(caller(ALICE), of_owner) is not None
    assert policy.may_add(caller(ALICE), mine, mine) is None
    assert policy.may_remove(caller(ALICE), mine) is None
    assert policy.may_remove(caller(OWNER), mine) is None


def test_every_id_can_be_allowed_at_once(tmp_path: Path) -> None:
    policy = load(tmp_path, '[[allow]]\nuid = [1001, 1002]\nids = "*"\nactions = "get"')
    assert policy.may_get(caller(BOB), [0xFFFFFF]) is None
    assert policy.may_get(caller(BOB), ["name"]) is not None


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("allow = 3", "two brackets"),
        ("allow = [3]", "rule 1: it is no table"),
        ("[[deny]]\nuid = 1", "unknown entries ['deny']"),
        ("android = true", "android = True is no API level"),
        ("android = -1", "android = -1 is no API level"),
        ('android = "13"', "android = '13' is no API level"),
        ('[[allow]]\nids = "*"', "rule 1: 'uid' is missing"),
        ("[[allow]]\nuid = 1", "neither 'ids' nor 'names'"),
        ('[[allow]]\nuid = -1\nids = "*"', "uid -1 is no user number"),
        ('[[allow]]\nuid = true\nids = "*"', "uid True is no user number"),
        ('[[allow]]\nuid = "bob"\nids = "*"', "uid 'bob' is no user number"),
        ("[[allow]]\nuid = 1\nids = 0", "not within 1"),
        ('[[allow]]\nuid = 1\nids = "5-3"', "smaller number first"),
        ('[[allow]]\nuid = 1\nids = "all"', "neither an id nor a range"),
        ("[[allow]]\nuid = 1\nids = 1.5", "neither an id nor a range"),
        ("[[allow]]\nuid = 1\nnames = 5", "no pattern"),
        ('[[allow]]\nuid = 1\nids = "*"\nactions = ["fly"]', "action 'fly' is unknown"),
        ('[[allow]]\nuid = 1\nids = "*"\ngid = 3', "unknown entries ['gid']"),
        ('[[allow]]\nuid = 1\nids = "*"\n[[allow]]\nuid = 1', "rule 2:"),
        ("[[allow", "policy.toml: "),
        ("#" * (MAX_FILE + 1), "larger than"),
    ],
)
def test_a_wrong_file_is_refused_with_file_rule_and_reason(tmp_path: Path, text: str, why: str) -> None:
    with pytest.raises(ServiceError) as caught:
        load(tmp_path, text)
    assert why in str(caught.value) and str(tmp_path / "policy.toml") in str(caught.value)


def test_the_android_whose_programs_are_answered(tmp_path: Path) -> None:
    assert load(tmp_path, 'android = 33\n[[allow]]\nuid = 1\nids = "*"').android == 33
    assert load(tmp_path, "").android is None and Policy().android is None


def test_a_missing_file_and_one_that_is_no_text_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="No such file"):
        Policy.load(tmp_path / "none.toml")
    (tmp_path / "bad.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ServiceError, match="utf-8"):
        Policy.load(tmp_path / "bad.toml")
