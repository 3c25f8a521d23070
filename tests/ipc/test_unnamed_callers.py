"""One-way calls whose driver names the user only: nothing that hangs on a process is decided for them."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

import binderkit as bk
from binderkit import samgr
from binderkit.errors import PermissionDeniedError
from binderkit.ipc import tokens
from binderkit.ipc.context import CallContext, Caller, calling_identity, comes_from, current, known_caller
from binderkit.samgr import codes
from binderkit.samgr.known import KnownAbilities
from binderkit.samgr.service import SystemAbilityManager
from binderkit.samgr.token_service import TokenService
from binderkit.samgr.tokens import TokenRegistry


@contextmanager
def called_by(caller: Caller) -> Iterator[None]:
    """Handle a request of ``caller`` inside the block."""
    token = current.set(CallContext(caller, None, None, 0, 0, 1, None, None))
    try:
        yield
    finally:
        current.reset(token)


SOMEBODY = Caller(0, os.geteuid(), -1)


def test_who_needs_the_process_refuses_them() -> None:
    assert known_caller().pid == os.getpid()
    with called_by(SOMEBODY):
        assert calling_identity() is SOMEBODY
        with pytest.raises(bk.RefusedError, match="make a call that waits"):
            known_caller()


def test_a_process_is_told_by_its_pid_and_where_there_is_none_by_its_user() -> None:
    owner = Caller(7, 1000, 1000)
    assert comes_from(Caller(7, 1000, 1000), owner)
    assert not comes_from(Caller(8, 1000, 1000), owner)
    assert comes_from(Caller(0, 1000, -1), owner)
    assert not comes_from(Caller(0, 1001, -1), owner)
    assert not comes_from(Caller(-1, -1, -1, device_id="other"), owner)


def test_they_have_no_token_and_no_permission_not_even_those_of_root() -> None:
    with called_by(SOMEBODY):
        assert tokens.token_of(SOMEBODY) == 0
        with pytest.raises(PermissionDeniedError, match="not known"):
            samgr.check_permission("ohos.permission.CAMERA")


@pytest.mark.parametrize("code", [codes.LIST_SYSTEM_ABILITIES, codes.ADD_SYSTEM_ABILITY])
def test_samgr_answers_them_nothing(code: int) -> None:
    manager = SystemAbilityManager()
    with bk.MessageSequence() as data, bk.MessageSequence() as reply, called_by(SOMEBODY):
        data.write_interface_token(codes.DESCRIPTOR)
        with pytest.raises(bk.RefusedError, match="is not known"):
            manager.on_remote_message_request(code, data, reply, bk.MessageOption(bk.MessageOption.TF_ASYNC))


def test_samgr_permits_them_nothing(runtime_dir: Path) -> None:
    service = TokenService(TokenRegistry(runtime_dir))
    assert service.permits(Caller(4711, os.geteuid(), -1), "ohos.permission.CAMERA")
    assert not service.permits(SOMEBODY, "ohos.permission.CAMERA")


def test_a_listener_takes_their_word_for_that_of_the_samgr_that_lives() -> None:
    known = KnownAbilities()
    assert not known.added(5, 0)
    known.lost(42)
    assert known.added(5, 0), "the ability was there before: Removed comes first"
    assert known.settle() == []
