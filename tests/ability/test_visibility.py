"""visibility.py: the whole table of who may use what (reference 3.4)."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.ability.manifest import AbilityManifest, Bundle
from binderkit.ability.visibility import START_INVISIBLE_ABILITY, Asking, check, of_device
from binderkit.errors import AbilityError

NEEDED = "test.permission.NEEDED"


def bundle_with(kind: str, exported: bool, permissions: tuple[str, ...]) -> tuple[Bundle, AbilityManifest]:
    ability = AbilityManifest("S", kind, exported, permissions, "m:C", "a.b")
    return Bundle("a.b", "1", "entry", (ability,), (), Path("/")), ability


@given(
    service=st.booleans(),
    exported=st.booleans(),
    guarded=st.booleans(),
    own=st.booleans(),
    native=st.booleans(),
    granted=st.sets(st.sampled_from([NEEDED, START_INVISIBLE_ABILITY])),
)
def test_the_table(service: bool, exported: bool, guarded: bool, own: bool, native: bool, granted: set[str]) -> None:
    bundle, ability = bundle_with("service" if service else "page", exported, (NEEDED,) if guarded else ())
    asking = Asking("process 5", "a.b" if own else "", native and not own, granted.__contains__)
    visible = exported or own or asking.native or START_INVISIBLE_ABILITY in granted
    expected = 0
    if not service:
        expected = 16000002
    elif not visible:
        expected = 16000004
    elif guarded and not own and NEEDED not in granted:
        expected = 201

    try:
        check(asking, bundle, ability)
    except AbilityError as error:
        assert error.code == expected
        assert "a.b/S" in str(error)
    else:
        assert expected == 0


def test_the_texts_name_caller_ability_and_what_to_do() -> None:
    asking = Asking("process 5 of c.d", "c.d", native=False, granted=lambda _: False)
    with pytest.raises(AbilityError, match=r"process 5 of c\.d of another application .* set exported = true"):
        check(asking, *bundle_with("service", False, ()))
    with pytest.raises(AbilityError, match=r"process 5 of c\.d lacks test\.permission\.NEEDED, needed for a\.b/S; its"):
        check(asking, *bundle_with("service", True, (NEEDED,)))


def test_another_device_may_use_what_is_exported_to_everybody() -> None:
    asking = of_device("ab" * 32)
    check(asking, *bundle_with("service", True, ()))
    with pytest.raises(AbilityError, match="device abababab of another application may not use it") as caught:
        check(asking, *bundle_with("service", False, ()))
    assert caught.value.code == 16000004
    with pytest.raises(AbilityError, match=r"device abababab lacks test\.permission\.NEEDED") as caught:
        check(asking, *bundle_with("service", True, (NEEDED,)))
    assert caught.value.code == 201
