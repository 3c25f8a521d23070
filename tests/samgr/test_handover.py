"""samgr/handover.py: a checked profile reaches its process without being checked again."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import ServiceError
from binderkit.samgr import handover
from binderkit.samgr.profile import (
    AbilityProfile,
    BootPhase,
    OnDemandEvents,
    Profile,
    RecycleStrategy,
    ResourceLimits,
    StopEvents,
    load_profile,
)
from tests.samgr.profiles import TOML

PATH = Path("/profiles/photos.toml")
ABILITIES = st.builds(
    AbilityProfile,
    id=st.integers(1, 0xFFFFFF),
    entry=st.text(min_size=1),
    name=st.text(),
    run_on_create=st.booleans(),
    distributed=st.booleans(),
    depend=st.lists(st.integers(1, 0xFFFFFF), max_size=4).map(tuple),
    depend_timeout=st.floats(0.001, 60),
    dump_level=st.integers(0, 15),
    boot_phase=st.sampled_from(BootPhase),
    extensions=st.lists(st.text(min_size=1), max_size=4).map(tuple),
    permission=st.text(),
)
PROFILES = st.builds(
    Profile, st.text(min_size=1), st.just(PATH), st.lists(ABILITIES, min_size=1, max_size=3).map(tuple)
)


@given(PROFILES)
def test_what_a_host_uses_arrives_as_it_was(profile: Profile) -> None:
    variables: dict[str, str] = {"OTHER": "1", **handover.handed(profile)}
    assert handover.take(PATH, variables) == profile
    assert variables == {"OTHER": "1"}
    assert handover.take(PATH, variables) is None


def test_what_is_samgrs_business_stays_there(tmp_path: Path) -> None:
    file = tmp_path / "photos.toml"
    file.write_text(TOML)
    whole = replace(load_profile(file), command=())
    got = handover.take(file, handover.handed(whole))
    assert got is not None
    assert (got.process, got.path) == (whole.process, whole.path)
    assert (got.permissions, got.environment, got.limits, got.user) == ((), {}, ResourceLimits(), None)
    assert got.abilities == tuple(
        replace(
            one,
            auto_restart=False,
            start_on_demand=OnDemandEvents(),
            stop_on_demand=StopEvents(),
            recycle_strategy=RecycleStrategy.IMMEDIATELY,
        )
        for one in whole.abilities
    )


def test_a_process_with_a_command_of_its_own_gets_nothing() -> None:
    assert handover.handed(Profile("p", PATH, (AbilityProfile(1, "a:B"),), command=("/bin/host",))) == {}


def test_a_profile_that_is_too_large_for_a_variable_is_read_from_its_file() -> None:
    abilities = tuple(AbilityProfile(number, "a:" + "B" * 2000) for number in range(1, 60))
    assert handover.handed(Profile("p", PATH, abilities)) == {}


def test_another_files_profile_is_not_taken() -> None:
    variables = handover.handed(Profile("p", PATH, (AbilityProfile(1, "a:B"),)))
    assert handover.take(Path("/profiles/other.toml"), variables) is None
    assert variables == {}


GOOD: dict[str, Any] = json.loads(handover.handed(Profile("p", PATH, (AbilityProfile(1, "a:B"),)))[handover.VARIABLE])


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        "5",
        "{}",
        json.dumps({"path": str(PATH)}),
        json.dumps({**GOOD, "abilities": 5}),
        json.dumps({**GOOD, "abilities": ["x"]}),
        json.dumps({**GOOD, "abilities": [{}]}),
        json.dumps({**GOOD, "abilities": [{**GOOD["abilities"][0], "boot_phase": 7}]}),
        json.dumps({**GOOD, "abilities": [{**GOOD["abilities"][0], "more": 7}]}),
    ],
)
def test_anything_else_in_the_variable_is_an_error(text: str) -> None:
    with pytest.raises(ServiceError, match=r"BINDERKIT_PROFILE is not what SAMgr gives .*; unset it") as caught:
        handover.take(PATH, {handover.VARIABLE: text})
    assert caught.value.code == 1001
