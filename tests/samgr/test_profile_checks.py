"""samgr/profile_checks.py: names, entries, dependencies."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from binderkit.samgr.profile import AbilityProfile
from binderkit.samgr.profile_checks import dependency_cycles, entry_problem, is_permission, is_process_name


@given(st.lists(st.tuples(st.integers(1, 12), st.integers(1, 12)), max_size=30))
def test_cycles_are_found_exactly_when_there_are_some(edges: list[tuple[int, int]]) -> None:
    depends: dict[int, set[int]] = {one: set() for one in range(1, 13)}
    for a, b in edges:
        if a != b:
            depends[a].add(b)
    abilities = [AbilityProfile(id=one, entry="m:C", depend=tuple(sorted(more))) for one, more in depends.items()]
    left = {one: set(more) for one, more in depends.items()}
    while free := [one for one, more in left.items() if not more]:  # take away what waits for nobody
        for one in free:
            del left[one]
        for more in left.values():
            more.difference_update(free)
    assert bool(dependency_cycles(abilities)) is bool(left)


def test_a_long_chain_of_dependencies_is_no_cycle() -> None:
    abilities = [AbilityProfile(id=one, entry="m:C", depend=(one + 1,)) for one in range(1, 5000)]
    assert dependency_cycles(abilities) == []


def test_entries() -> None:
    for entry in ["m:C", "a.b:C.D", "f.py", "/a b/f.py", "f.py:C", "ä:Ö"]:
        assert entry_problem(entry) is None, entry
    for entry in ["", ":", "m", "m:", ":C", "m:C:D", "1m:C", "m:1", "f.so", "libx.so.1:C", "m:C()"]:
        assert entry_problem(entry), entry


def test_names_of_processes_and_permissions() -> None:
    for good in ("a", "photo-host", "com.example.photos", "_x", "7"):
        assert is_process_name(good)
    for bad in ("", ".", "..", "-x", "a/b", "a b", "a\n", "ä", "a" * 129):
        assert not is_process_name(bad)
    assert is_permission("ohos.permission.CAMERA")
    for bad in ("", "a b", ".a", "a.", "ä.b", "a" * 129):
        assert not is_permission(bad)
