"""samgr/grants.py: the policy file and whom it covers. How it is used and read again: test_tokens.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from binderkit import limits
from binderkit.errors import ServiceError
from binderkit.samgr.grants import Grant, load_grants
from binderkit.samgr.tokens import TokenInfo

CAMERA = "ohos.permission.CAMERA"


@pytest.mark.parametrize(
    ("grant", "bundle", "name", "granted"),
    [
        (Grant(("*",), (), ()), "", "a", True),
        (Grant(("ohos.permission.C*",), (), ()), "", "a", True),
        (Grant(("ohos.permission.M*",), (), ()), "", "a", False),
        (Grant(("*",), ("com.*",), ()), "com.x", "a", True),
        (Grant(("*",), ("*",), ()), "", "a", False),
        (Grant(("*",), ("com.y",), ("a",)), "com.x", "a", True),
        (Grant(("*",), (), ("b",)), "com.x", "a", False),
    ],
)
def test_whom_a_grant_covers(grant: Grant, bundle: str, name: str, granted: bool) -> None:
    assert grant.covers(TokenInfo(1, 1, 1, name, bundle, ()), CAMERA) is granted


def test_a_full_policy_file(tmp_path: Path) -> None:
    path = tmp_path / "permissions.toml"
    path.write_text(
        '[[grant]]\npermissions = ["a", "b.*"]\nbundles = "c"\nnames = ["d", "e"]\n[[grant]]\npermissions = "*"\n'
    )
    assert load_grants(path) == (Grant(("a", "b.*"), ("c",), ("d", "e")), Grant(("*",), (), ()))


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("grant = 1", "is no array of tables; write [[grant]] with two brackets"),
        ("[grant]\npermissions = 'a'", "is no array of tables"),
        ("grant = [1]", "grant 1: it is no table"),
        ("[[grants]]", "unknown entries ['grants']"),
        ("[[grant]]", "grant 1: 'permissions' is missing"),
        ("[[grant]]\npermissions = 'a'\n[[grant]]\nperm = 1", "grant 2: unknown entries ['perm']"),
        ("[[grant]]\npermissions = []", "permissions = [] is neither a text nor several"),
        ("[[grant]]\npermissions = ['']", "is neither a text nor several"),
        ("[[grant]]\npermissions = 'a'\nnames = [1]", "names = [1] is neither"),
        ("[[grant", "Expected ']]'"),
        ("\xff", "codec can't decode"),
        ("#" * (limits.MIB + 1), "it is larger than 1048576 bytes"),
    ],
)
def test_every_mistake_in_a_policy_is_told(tmp_path: Path, text: str, why: str) -> None:
    path = tmp_path / "permissions.toml"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(ServiceError) as caught:
        load_grants(path)
    assert str(path) in str(caught.value) and why in str(caught.value)


def test_a_policy_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="permission file"):
        load_grants(tmp_path)
