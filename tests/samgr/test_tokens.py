"""samgr/tokens.py: who has a token, what it allows, and what a restarted SAMgr still knows."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from binderkit import limits
from binderkit.errors import ParamTypeError, ParamValueError, ServiceError
from binderkit.samgr import tokens
from binderkit.samgr.tokens import MAX_TOKEN, Facts, TokenInfo, TokenRegistry, facts_of

CAMERA = "ohos.permission.CAMERA"
MEDIA = "ohos.permission.MEDIA_READ"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process that leads a session, with a child in it; prints the child's pid."""
    with subprocess.Popen(
        ["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, start_new_session=True
    ) as process:
        yield process
        os.killpg(process.pid, 9)


def test_a_token_is_for_one_process(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    registry = TokenRegistry(tmp_path)
    token = registry.issue(sleeper.pid, name="a", bundle="b", permissions=[CAMERA, CAMERA, MEDIA])
    assert 1 <= token <= MAX_TOKEN
    assert registry.token_of(sleeper.pid) == token
    assert registry.info(token) == TokenInfo(token, sleeper.pid, os.geteuid(), "a", "b", (CAMERA, MEDIA))
    for other in (os.getpid(), os.getppid(), 0, -1, 2**22 + 1):
        assert registry.token_of(other) == 0
    again = registry.issue(sleeper.pid, name="a")
    assert registry.token_of(sleeper.pid) == again
    with pytest.raises(ServiceError, match=f"no process has the access token {token:#x}") as caught:
        registry.info(token)
    assert caught.value.code == 1007
    registry.forget(sleeper.pid)
    registry.forget(sleeper.pid)
    assert registry.token_of(sleeper.pid) == 0


def test_the_session_inherits_it(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    assert sleeper.stdout is not None
    child = int(sleeper.stdout.readline())
    registry = TokenRegistry(tmp_path)
    assert registry.token_of(child) == 0
    token = registry.issue(sleeper.pid, name="a")
    assert registry.token_of(child) == token
    registry.forget(sleeper.pid)
    assert registry.token_of(child) == 0


def test_a_pid_that_is_another_process_now_brings_no_token(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sleeper.stdout is not None
    child = int(sleeper.stdout.readline())
    registry = TokenRegistry(tmp_path)
    token = registry.issue(sleeper.pid, name="a", permissions=[CAMERA])
    real = facts_of

    def reused(pid: int) -> Facts | None:
        facts = real(pid)
        assert facts is not None
        return Facts(facts.start + 1, facts.session) if pid == sleeper.pid else facts

    monkeypatch.setattr(tokens, "facts_of", reused)
    assert registry.token_of(sleeper.pid) == 0
    assert registry.token_of(child) == 0
    assert TokenRegistry(tmp_path).token_of(sleeper.pid) == 0
    monkeypatch.undo()
    assert registry.token_of(sleeper.pid) == token


def test_facts_of_a_process_with_a_strange_name(tmp_path: Path) -> None:
    program = tmp_path / ") S 1 2 ("
    program.symlink_to("/bin/sleep")
    with subprocess.Popen([program, "1000"], start_new_session=True) as process:
        facts = facts_of(process.pid)
        mine = facts_of(os.getpid())
        process.kill()
    assert facts is not None and mine is not None
    assert facts.session == process.pid and facts.start >= mine.start
    assert facts_of(process.pid) is None


def test_no_process_no_token(tmp_path: Path) -> None:
    with pytest.raises(ServiceError, match="there is no process") as caught:
        TokenRegistry(tmp_path).issue(2**22 + 1, name="a")
    assert caught.value.code == 1007


@pytest.mark.parametrize(
    ("permissions", "error"),
    [([1], ParamTypeError), ([""], ParamValueError), (["a b"], ParamValueError), (["x" * 129], ParamValueError),
     ([".a"], ParamValueError), (["a\n"], ParamValueError)],
)  # fmt: skip
def test_permissions_that_cannot_be_one(tmp_path: Path, permissions: list[Any], error: type[Exception]) -> None:
    registry = TokenRegistry(tmp_path)
    with pytest.raises(error, match="permission"):
        registry.issue(os.getpid(), name="a", permissions=permissions)
    with pytest.raises(ParamValueError, match="1025 permissions, the limit is 1024"):
        registry.issue(os.getpid(), name="a", permissions=[CAMERA] * (limits.MAX_PERMISSIONS + 1))
    assert registry.token_of(os.getpid()) == 0


# --- the token file -------------------------------------------------------------------------------------


def test_a_restarted_samgr_knows_the_living(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    first = TokenRegistry(tmp_path)
    with subprocess.Popen(["sleep", "1000"]) as mortal:
        dead = first.issue(mortal.pid, name="dead")
        token = first.issue(sleeper.pid, name="a", bundle="b", permissions=[CAMERA], uid=77)
        mortal.kill()
    second = TokenRegistry(tmp_path)
    assert second.info(token) == first.info(token)
    assert second.token_of(sleeper.pid) == token
    with pytest.raises(ServiceError):
        second.info(dead)
    assert (tmp_path / "tokens.json").stat().st_mode & 0o777 == 0o600


def test_processes_of_an_earlier_samgr_leave_no_record_behind(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    with subprocess.Popen(["sleep", "1000"]) as mortal:
        TokenRegistry(tmp_path).issue(mortal.pid, name="a")
        second = TokenRegistry(tmp_path)
        assert [info.name for info in second.living()] == ["a"]
        mortal.kill()
    assert second.living() == []
    second.issue(sleeper.pid, name="b")
    assert list(second._by_pid) == [sleeper.pid] and len(second._by_token) == 1 and not second._inherited


def test_after_a_reboot_nobody_is_known(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    TokenRegistry(tmp_path).issue(sleeper.pid, name="a")
    path = tmp_path / "tokens.json"
    document = json.loads(path.read_text())
    path.write_text(json.dumps({**document, "boot": "another"}))
    assert TokenRegistry(tmp_path).token_of(sleeper.pid) == 0


def valid_row() -> dict[str, Any]:
    facts = facts_of(os.getpid())
    assert facts is not None
    return {
        "token": 5,
        "pid": os.getpid(),
        "uid": 0,
        "name": "a",
        "bundle": "",
        "permissions": [CAMERA],
        "start": facts.start,
    }


@pytest.mark.parametrize(
    "change",
    [{"token": 0}, {"token": 2**32}, {"token": True}, {"token": "5"}, {"pid": 0}, {"pid": 2**31}, {"uid": -1},
     {"name": 1}, {"bundle": None}, {"permissions": "x"}, {"permissions": [1]}, {"permissions": ["a b"]},
     {"start": 1.5}, {"more": 1}],
)  # fmt: skip
def test_a_row_that_is_wrong_voids_the_file(
    tmp_path: Path, change: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "tokens.json"
    boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    path.write_text(json.dumps({"boot": boot, "tokens": [valid_row()]}))
    assert TokenRegistry(tmp_path).token_of(os.getpid()) == 5
    path.write_text(json.dumps({"boot": boot, "tokens": [{**valid_row(), **change}]}))
    assert TokenRegistry(tmp_path).token_of(os.getpid()) == 0
    assert "cannot be used" in caplog.text


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    text=st.binary(max_size=80)
    | st.recursive(st.none() | st.integers() | st.text(max_size=5), lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["boot", "tokens", "pid"]), inner)).map(lambda value: json.dumps(value).encode())
)  # fmt: skip
def test_any_file_is_survived(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "tokens.json").write_bytes(text)
    assert TokenRegistry(tmp_path).token_of(os.getpid()) == 0


def test_a_deep_or_huge_file_is_survived(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "tokens.json"
    path.write_text("[" * 100_000)
    assert TokenRegistry(tmp_path).token_of(os.getpid()) == 0
    monkeypatch.setattr(tokens, "MAX_FILE", 1000)
    path.write_text("[" * 2000)
    assert TokenRegistry(tmp_path).token_of(os.getpid()) == 0


class Model(RuleBasedStateMachine):
    """The registry against a dict, through restarts."""

    directory: Path
    pids: list[int]

    def __init__(self) -> None:
        super().__init__()
        (self.directory / "tokens.json").unlink(missing_ok=True)
        self.registry = TokenRegistry(self.directory)
        self.known: dict[int, TokenInfo] = {}
        self.void: set[int] = set()

    @rule(which=st.integers(0, 2), permissions=st.lists(st.sampled_from([CAMERA, MEDIA]), max_size=2))
    def issue(self, which: int, permissions: list[str]) -> None:
        pid = self.pids[which]
        token = self.registry.issue(pid, name=f"n{which}", permissions=permissions)
        assert token not in self.void
        self.drop(pid)
        self.known[pid] = TokenInfo(token, pid, os.geteuid(), f"n{which}", "", tuple(dict.fromkeys(permissions)))

    @rule(which=st.integers(0, 2))
    def forget(self, which: int) -> None:
        self.registry.forget(self.pids[which])
        self.drop(self.pids[which])

    @rule()
    def restart(self) -> None:
        self.registry = TokenRegistry(self.directory)

    def drop(self, pid: int) -> None:
        old = self.known.pop(pid, None)
        if old is not None:
            self.void.add(old.token)

    @invariant()
    def agrees(self) -> None:
        for pid in self.pids:
            info = self.known.get(pid)
            assert self.registry.token_of(pid) == (0 if info is None else info.token)
            if info is not None:
                assert self.registry.info(info.token) == info
                for permission in (CAMERA, MEDIA):
                    assert self.registry.verify(info.token, permission) == (permission in info.permissions)
        assert not any(self.registry.verify(token, CAMERA) for token in self.void)


def test_the_registry_agrees_with_a_model(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen([sys.executable, "-S", "-c", "input()"], stdin=subprocess.PIPE, start_new_session=True)
        for _ in range(3)
    ]
    try:
        Model.directory, Model.pids = tmp_path, [process.pid for process in processes]
        run_state_machine_as_test(Model, settings=settings(max_examples=15, stateful_step_count=12, deadline=None))
    finally:
        for process in processes:
            process.kill()
            process.communicate()


# --- permissions ---------------------------------------------------------------------------------------


def test_without_a_policy_what_is_declared_is_granted_to_the_own_user(
    tmp_path: Path, sleeper: subprocess.Popen[bytes]
) -> None:
    registry = TokenRegistry(tmp_path)
    token = registry.issue(sleeper.pid, name="a", permissions=[CAMERA])
    assert registry.verify(token, CAMERA)
    assert not registry.verify(token, MEDIA)
    assert not registry.verify(token ^ 1, CAMERA) and not registry.verify(0, CAMERA)
    foreign = registry.issue(sleeper.pid, name="a", permissions=[CAMERA], uid=os.geteuid() + 1)
    assert not registry.verify(foreign, CAMERA)


def test_a_policy_decides_and_is_read_again_when_it_changes(
    tmp_path: Path, sleeper: subprocess.Popen[bytes], caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "permissions.toml"
    path.write_text("")
    registry = TokenRegistry(tmp_path)
    token = registry.issue(sleeper.pid, name="a", bundle="com.x", permissions=[CAMERA], uid=4242)
    assert not registry.verify(token, CAMERA)
    path.write_text('[[grant]]\npermissions = "ohos.*"\nbundles = "com.x"\n')
    assert registry.verify(token, CAMERA)
    assert not registry.verify(token, MEDIA)  # granted, but not declared
    path.write_text("[[grant]]\npermissions = 7\n")
    assert not registry.verify(token, CAMERA)
    assert "nothing is granted until this is corrected" in caplog.text and "permissions = 7" in caplog.text
    path.unlink()
    assert not registry.verify(token, CAMERA)  # another user's
    with pytest.raises(ServiceError, match=r"permissions\.toml"):
        path.write_text("x")
        TokenRegistry(tmp_path)


def test_what_an_application_that_does_not_run_would_have(tmp_path: Path) -> None:
    registry = TokenRegistry(tmp_path)
    assert registry.would_allow("a.b", [CAMERA], CAMERA)
    assert not registry.would_allow("a.b", [MEDIA], CAMERA)
    (tmp_path / "permissions.toml").write_text(f'[[grant]]\npermissions = "{CAMERA}"\nbundles = "c.*"\n')
    assert not registry.would_allow("a.b", [CAMERA], CAMERA)
    assert registry.would_allow("c.d", [CAMERA], CAMERA)
