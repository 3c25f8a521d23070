"""samgr/profile_json.py: every kind of mistake is told by file, field, why, and what is allowed."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from binderkit.errors import ProfileError
from binderkit.samgr.profile import load_profile
from binderkit.samgr.profile_json import read_trust
from tests.samgr.profiles import plain, small_toml, write


def problems(path: Path) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as caught:
        load_profile(path)
    return caught.value.problems


def top(**more: Any) -> dict[str, Any]:
    return {**plain(), **more}


def start(**events: Any) -> dict[str, Any]:
    return plain(**{"start-on-demand": events})


def stop(**more: Any) -> dict[str, Any]:
    return plain(**{"stop-on-demand": more})


A = "systemability[0]"


MISTAKES: list[tuple[dict[str, Any], str, str]] = [
    ({}, "process", "it is missing"),
    ({"systemability": []}, "process", "it is missing"),
    ({"process": "p", "systemability": []}, "systemability", "0 abilities, expected 1 to 100"),
    ({"process": "p", "systemability": {}}, "systemability", "expected a list, got a table"),
    ({"process": 5, "systemability": []}, "process", "expected a text, got a whole number"),
    (top(process=""), "process", "length >= 1"),
    (top(process="a/b"), "process", "'a/b' is no name; allowed are letters"),
    (top(process="../x"), "process", "is no name"),
    (top(process=".x"), "process", "is no name"),
    (top(process="p" * 129), "process", "129 characters; allowed are 128"),
    (top(process="a\nb"), "process", "control characters"),
    (top(proces="x"), "proces", "there is no such field; did you mean 'process'? there are command, environment"),
    (top(user=""), "user", "length >= 1"),
    (top(command="sh"), "command", "expected a list, got a text"),
    (top(environment={"1A": "x"}), "environment.1A", "do not begin with a digit"),
    (top(environment={"BINDERKIT_RUNTIME_DIR": "x"}), "environment.BINDERKIT_RUNTIME_DIR", "set by whoever starts"),
    (top(environment={"A": "x\ny"}), "environment.A", "control characters"),
    (top(environment={"A": 5}), "environment.*", "expected a text"),
    (top(limits={"memory-mb": 0}), "limits.memory-mb", ">= 1"),
    (top(limits={"nice": 20}), "limits.nice", "<= 19"),
    (top(limits={"memory": 1}), "limits.memory", "did you mean 'memory-mb'?"),
    (top(permissions=["no way"]), "permissions[0]", "they are like 'ohos.permission.CAMERA'"),
    (plain(name=0), f"{A}.name", ">= 1"),
    (plain(name=0x1000000), f"{A}.name", "<= 16777215"),
    (plain(name=True), f"{A}.name", "expected a whole number, got true or false"),
    (plain(name="x"), f"{A}.name", "expected a whole number, got a text"),
    (plain(name=1.5), f"{A}.name", "expected a whole number"),
    ({"process": "p", "systemability": [{"libpath": "m:C"}]}, f"{A}.name", "it is missing"),
    ({"process": "p", "systemability": [{"name": 1}]}, f"{A}.libpath", "it is missing"),
    (plain(libpath="libphotos.z.so"), f"{A}.libpath", "native library, which Python cannot host"),
    (plain(libpath="photos"), f"{A}.libpath", "names no class; write 'module:Class'"),
    (plain(libpath="a b:C"), f"{A}.libpath", "names no class"),
    (plain(libpath="photos.py:"), f"{A}.libpath", "write 'file.py:Class'"),
    (plain(libpath="m:" + "C" * 130), f"{A}.libpath", "allowed are 128"),
    (plain(**{"service-name": "47"}), f"{A}.service-name", "would be taken for an id"),
    (plain(**{"run-on-create": "yes"}), f"{A}.run-on-create", "expected true or false, got a text"),
    (plain(run_on_create=True), f"{A}.run_on_create", "did you mean 'run-on-create'?"),
    (plain(depend=[0]), f"{A}.depend[0]", ">= 1"),
    (plain(depend=4700), f"{A}.depend", "expected a list"),
    (plain(depend=[4097]), f"{A}.depend", "depends on itself"),
    (plain(depend=[1, 1]), f"{A}.depend", "an id is there twice"),
    (plain(**{"depend-time-out": -1}), f"{A}.depend-time-out", "0 (default) to 60000 milliseconds"),
    (plain(**{"depend-time-out": 60001}), f"{A}.depend-time-out", "0 (default) to 60000 milliseconds"),
    (plain(**{"dump-level": 16}), f"{A}.dump-level", "<= 15"),
    (plain(bootphase="Boot"), f"{A}.bootphase", "invalid enum value 'Boot'"),
    (plain(**{"recycle-strategy": "never"}), f"{A}.recycle-strategy", "invalid enum value 'never'"),
    (plain(extension=["e"] * 101), f"{A}.extension", "length <= 100"),
    (plain(extension=[""]), f"{A}.extension[0]", "length >= 1"),
    (plain(extension=["e" * 129]), f"{A}.extension[0]", "129 characters"),
    (plain(permission="x y"), f"{A}.permission", "is no permission"),
    (plain(**{"remote-access": "trusted"}), f"{A}.remote-access", "expected a list"),
    (plain(**{"remote-access": ["trusted"]}), f"{A}.remote-access", "set 'distributed' to true, or take this out"),
    (plain(distributed=True, **{"remote-access": ["a" * 63]}), f"{A}.remote-access", "neither a UDID (64 digits"),
    (plain(distributed=True, **{"remote-access": ["A" * 64]}), f"{A}.remote-access", "neither a UDID (64 digits"),
    (plain(distributed=True, **{"remote-access": ["trusted", "a" * 64]}), f"{A}.remote-access", "nor 'trusted' alone"),
    (
        plain(distributed=True, **{"remote-access": [f"{one:064x}" for one in range(65)]}),
        f"{A}.remote-access",
        "65 devices, allowed are 64",
    ),
    (top(**{"remote-abilities": 4097}), "remote-abilities", "expected a list"),
    (top(**{"remote-abilities": [0]}), "remote-abilities[0]", ">= 1"),
    (top(**{"remote-abilities": ["a b"]}), "remote-abilities[0]", "'a b' is no name of a system ability"),
    (top(**{"remote-abilities": [""]}), "remote-abilities[0]", "length >= 1"),
    (plain(**{"multi-instance": True}), f"{A}.multi-instance", "does not exist on Linux"),
    (stop(**{"recycle-delaytime": -1}), f"{A}.stop-on-demand.recycle-delaytime", "0 to 300000 milliseconds"),
    (stop(**{"recycle-delaytime": 300001}), f"{A}.stop-on-demand.recycle-delaytime", "0 to 300000 milliseconds"),
    (stop(**{"longtimeunused-unload": 0}), f"{A}.stop-on-demand.longtimeunused-unload", "1 to 120 minutes"),
    (stop(**{"longtimeunused-unload": 121}), f"{A}.stop-on-demand.longtimeunused-unload", "1 to 120 minutes"),
    (stop(unreferenced=True), f"{A}.stop-on-demand.unreferenced", "did you mean 'unreferenced-unload'?"),
    (start(timer=[]), f"{A}.start-on-demand.timer", "there is no such field"),
    (start(param={}), f"{A}.start-on-demand.param", "expected a list, got a table"),
    (start(param=[{}]), f"{A}.start-on-demand.param[0].name", "it is missing"),
    (start(param=[{"name": "a", "valu": "1"}]), f"{A}.start-on-demand.param[0].valu", "did you mean 'value'?"),
    (start(param=[{"name": "a", "value": 1}]), f"{A}.start-on-demand.param[0].value", "expected a text"),
    (start(param=[{"name": "a"}, {"name": "a..b"}]), f"{A}.start-on-demand.param[1].name", "cannot be a parameter"),
    (
        start(timedevent=[{"name": "loopevent", "value": "29"}]),
        f"{A}.start-on-demand.timedevent[0].value",
        "seconds from 30",
    ),
    (
        start(commonevent=[{"name": "a", "load-priority": "Highest"}]),
        f"{A}.start-on-demand.commonevent[0].load-priority",
        "invalid enum value",
    ),
    (
        start(commonevent=[{"name": "a", "conditions": [{"eventId": "sun", "name": "a"}]}]),
        f"{A}.start-on-demand.commonevent[0].conditions[0].eventId",
        "use param, settingswitch",
    ),
    (
        start(commonevent=[{"name": "a", "conditions": [{"name": "a"}]}]),
        f"{A}.start-on-demand.commonevent[0].conditions[0].eventId",
        "it is missing",
    ),
    (start(param=[{"name": "a"}] * 101), f"{A}.start-on-demand", "101 events, allowed are 100"),
]


def test_mistakes(tmp_path: Path) -> None:
    for document, field, why in MISTAKES:  # one test: a leak check for each of them would take longer than they do
        path = write(tmp_path, "p.json", document)
        found = problems(path)
        starts = (f"{path}: {field}: ", f"{path}: {field}.: ")
        assert any(one.startswith(starts) and why in one for one in found), (document, field, found)


@pytest.mark.parametrize(
    ("more", "field", "why"),
    [
        ("depend-timeout = 0.0", "depend-timeout", "above 0 to 60 seconds"),
        ("depend-timeout = nan", "depend-timeout", "above 0 to 60 seconds"),
        ("stop-on-demand.recycle-delay = 301", "stop-on-demand.recycle-delay", "0 to 300 seconds"),
        ("stop-on-demand.recycle-delay = nan", "stop-on-demand.recycle-delay", "0 to 300 seconds"),
        ("stop-on-demand.long-unused = 1", "stop-on-demand.long-unused", "60 to 7200 seconds"),
        ("stop-on-demand.recycle-delaytime = 1", "stop-on-demand.recycle-delaytime", "did you mean 'recycle-delay'?"),
        ('name = "12"', "name", "would be taken for an id"),
        ("bootphase = 1979-05-27", "bootphase", "got `date`"),
    ],
)
def test_mistakes_with_the_names_and_units_of_toml(tmp_path: Path, more: str, field: str, why: str) -> None:
    path = write(tmp_path, "p.toml", small_toml("p", 7, more=more))
    (problem,) = problems(path)
    assert problem.startswith(f"{path}: ability[0].{field}: ")
    assert why.strip("`") in problem.replace("`", "") or why.replace("`", "") in problem


def test_ids_and_names_are_there_once(tmp_path: Path) -> None:
    found = problems(write(tmp_path, "p.toml", small_toml("p", 7, 8, 7)))
    assert found == (f"{tmp_path}/p.toml: ability[2]: 7 (0x7) is also ability[0]; every id and name is there once",)
    named = problems(write(tmp_path, "q.toml", small_toml("p", 7, 8, more='name = "same"')))
    assert "'same' is also ability[0]" in named[0]


def test_abilities_that_wait_for_each_other(tmp_path: Path) -> None:
    text = small_toml("p", 1, more="depend = [2]") + small_toml("p", 2, more="depend = [3]").split("\n", 1)[1]
    text += small_toml("p", 3, more="depend = [1, 99]").split("\n", 1)[1]
    (problem,) = problems(write(tmp_path, "p.toml", text))
    assert "1 (0x1) → 2 (0x2) → 3 (0x3) → 1 (0x1) wait for each other for ever" in problem


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**70) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FULL = plain(
    **{
        "depend": [5],
        "extension": ["backup"],
        "permission": "a.b",
        "start-on-demand": {"param": [{"name": "a", "conditions": [{"eventId": "param", "name": "b"}]}]},
        "stop-on-demand": {"timedevent": [{"name": "loopevent", "value": "60"}], "recycle-delaytime": 5},
    }
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return (container, key) of everything in a document."""
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [place for key, part in items for place in ((value, key), *places(part))]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150, deadline=None)
@given(st.data(), JSON)
def test_any_value_at_any_place_is_taken_or_told(tmp_path: Path, data: st.DataObject, value: Any) -> None:
    document = copy.deepcopy(FULL)
    container, key = data.draw(st.sampled_from(places(document)))
    container[key] = value
    path = write(tmp_path, "p.json", document)
    try:
        load_profile(path)
    except ProfileError as error:
        assert all(problem.startswith(f"{path}: ") for problem in error.problems)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=100, deadline=None)
@given(st.binary(max_size=60), st.sampled_from([".json", ".toml", ".json5"]))
def test_any_bytes_are_told(tmp_path: Path, content: bytes, suffix: str) -> None:
    with pytest.raises(ProfileError):
        load_profile(write(tmp_path, f"p{suffix}", content))


def test_trust_files(tmp_path: Path) -> None:
    path = write(tmp_path, "p_trust.json", {"process": "p", "allow": [1, 2]})
    assert read_trust(path) == ("p", frozenset({1, 2}))
    with pytest.raises(ProfileError, match="allow"):
        read_trust(write(tmp_path, "q_trust.json", {"process": "p", "allow": ["1"]}))
