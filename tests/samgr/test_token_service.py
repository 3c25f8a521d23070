"""samgr/token_service.py: answers and refusals, and hostile requests. With processes: test_access.py."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import IpcError, ParamValueError, ServiceError
from binderkit.ipc import tokens
from binderkit.ipc.context import Caller
from binderkit.parcel import MessageSequence
from binderkit.samgr import codes
from binderkit.samgr.token_service import TokenService, read_info, write_info
from binderkit.samgr.tokens import MAX_TOKEN, TokenInfo, TokenRegistry

CAMERA = "ohos.permission.CAMERA"
ME = Caller(os.getpid(), os.getuid(), os.getgid())
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)
INFOS = st.builds(
    TokenInfo,
    token=st.integers(1, MAX_TOKEN),
    pid=st.integers(1, 2**31 - 1),
    uid=st.integers(0, 2**32 - 1),
    name=TEXT,
    bundle=TEXT,
    permissions=st.lists(TEXT, max_size=5).map(tuple),
)


@pytest.fixture
def registry(tmp_path: Path) -> TokenRegistry:
    made = TokenRegistry(tmp_path)
    made.issue(os.getpid(), name="a", bundle="b", permissions=[CAMERA])
    return made


def sequence(*values: int | str) -> MessageSequence:
    """Return a received sequence: ints as 64 bits, texts."""
    data = MessageSequence()
    for value in values:
        data.write_string(value) if isinstance(value, str) else data.write_long(value)
    return data


def answer(registry: TokenRegistry, code: int, data: MessageSequence) -> MessageSequence:
    reply = MessageSequence()
    TokenService(registry).operations[code](data, reply, ME)
    assert reply.read_int() == codes.OK
    return reply


def test_token_of_a_pid(registry: TokenRegistry) -> None:
    token = registry.token_of(os.getpid())
    for pid, uid, expected in ((os.getpid(), os.geteuid(), token), (os.getpid(), 77_777, 0), (1, 0, 0), (-3, 0, 0)):
        data = MessageSequence()
        data.write_int(pid)
        data.write_long(uid)
        assert answer(registry, codes.TOKEN_OF_PID, data).read_long() == expected


def test_verify(registry: TokenRegistry) -> None:
    token = registry.token_of(os.getpid())
    assert answer(registry, codes.VERIFY_TOKEN, sequence(token, CAMERA)).read_boolean()
    for wrong in (0, -1, token ^ 1, 2**63 - 1):
        assert not answer(registry, codes.VERIFY_TOKEN, sequence(wrong, CAMERA)).read_boolean()
    with pytest.raises(ParamValueError, match="is no permission"):
        answer(registry, codes.VERIFY_TOKEN, sequence(token, "x" * 1000))


def test_info(registry: TokenRegistry) -> None:
    token = registry.token_of(os.getpid())
    assert read_info(answer(registry, codes.TOKEN_INFO, sequence(token))) == registry.info(token)
    with pytest.raises(ServiceError, match="no process has"):
        answer(registry, codes.TOKEN_INFO, sequence(-1))


@given(INFOS)
def test_what_is_written_is_read(info: TokenInfo) -> None:
    reply = MessageSequence()
    write_info(reply, info)
    assert read_info(reply) == info


@given(
    code=st.sampled_from([codes.TOKEN_OF_PID, codes.VERIFY_TOKEN, codes.TOKEN_INFO]), received=st.binary(max_size=80)
)
def test_any_bytes_are_answered_or_refused(code: int, received: bytes) -> None:
    data = MessageSequence()
    data._load(received, None)
    service = TokenService(_EMPTY)
    try:
        service.operations[code](data, MessageSequence(), ME)
    except IpcError as error:
        assert error.args[0]


class _Empty(TokenRegistry):
    """A registry without a file."""

    def __init__(self) -> None:
        self._by_pid, self._by_token, self._inherited = {}, {}, set()
        import threading

        self._lock = threading.Lock()


_EMPTY = _Empty()


def test_install_and_close(registry: TokenRegistry) -> None:
    first, second = TokenService(registry), TokenService(_EMPTY)
    first.install()
    try:
        assert tokens.source() is registry
        second.close()
        assert tokens.source() is registry  # not its own
    finally:
        first.close()
    assert tokens.source() is None
