"""session_service.py: applications in processes of their own, killed and refused."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

import binderkit as bk
from binderkit.errors import PermissionDeniedError, RemoteError
from binderkit.interface import proxy
from binderkit.ipc.context import CallContext, Caller, RemoteCaller, current
from binderkit.softbus import reasons
from binderkit.softbus.reasons import DataType, ShutdownReason
from binderkit.softbus.session_client import RemoteSessions
from binderkit.softbus.session_contracts import SessionRefusal, SocketDescription
from binderkit.softbus.session_frames import Kind
from binderkit.softbus.session_service import SessionService
from tests.softbus.session_app import App, IApp
from tests.softbus.session_pairs import Heard, Station, stations


@pytest.fixture
def pair(tmp_path: Path, runtime_dir: Path) -> Iterator[tuple[Station, Station]]:
    with stations(tmp_path) as (_, (one, two)):
        yield one, two


@pytest.mark.parametrize(
    ("data_type", "count", "size"),
    [(DataType.BYTES, 30, 10), (DataType.BYTES, 3, 4 << 20), (DataType.MESSAGE, 30, 4096)],
)
def test_two_applications_in_processes_of_their_own_talk(
    pair: tuple[Station, Station], data_type: DataType, count: int, size: int
) -> None:
    one, two = pair
    here, there = SessionService(one.sessions).as_object(), SessionService(two.sessions).as_object()
    with bk.spawn(App) as server, bk.spawn(App) as client:
        proxy(IApp, server.root).serve(there, "echo", data_type)
        talked = proxy(IApp, client.root).talk(here, "echo", two.network_id, data_type, count, size)
    assert talked == count


def test_a_killed_application_takes_its_sockets_with_it(pair: tuple[Station, Station]) -> None:
    one, two = pair
    there = SessionService(two.sessions)
    heard = Heard()
    with bk.spawn(App) as server:
        proxy(IApp, server.root).serve(there.as_object(), "server", DataType.BYTES)
        socket = one.to(two)
        socket.bind(heard)
        heard.socket()
        server.kill()
        assert heard.next("shutdown")[1] is ShutdownReason.PEER
    deadline = time.monotonic() + 10
    while two.sessions._sockets or there._clients:
        assert time.monotonic() < deadline, "they are kept"
        time.sleep(0.002)  # the interval between two looks: who dialled may hear of the end first
    two.sessions.socket("server").listen(Heard())  # its name is free


def test_errors_arrive_as_the_code_of_softbus(pair: tuple[Station, Station]) -> None:
    one, two = pair
    service = SessionService(one.sessions)
    with bk.spawn(App) as client, pytest.raises(RemoteError, match="nobody listens") as caught:
        proxy(IApp, client.root).talk(service.as_object(), "nobody", two.network_id, DataType.BYTES, 1, 1)
    assert caught.value.type_name.endswith("InvalidObjectError")


def _described(**changes: object) -> SocketDescription:
    given: dict[str, object] = {
        "name": "s", "peer_name": "", "peer_network_id": "", "pkg_name": "", "data_type": int(DataType.BYTES)
    }  # fmt: skip
    return SocketDescription(**{**given, **changes})  # type: ignore[arg-type]


def test_whatever_an_application_asks_for_is_checked(pair: tuple[Station, Station]) -> None:
    service = SessionService(pair[0].sessions)
    deaf = RemoteSessions(service.as_object())._ear
    service.socket(deaf, 1, _described())
    for call, code in (
        (lambda: service.socket(deaf, 1, _described()), reasons.INVALID_PARAM),
        (lambda: service.socket(deaf, 0, _described()), reasons.INVALID_PARAM),
        (lambda: service.socket(deaf, -5, _described()), reasons.INVALID_PARAM),
        (lambda: service.socket(deaf, 2, _described(data_type=99)), reasons.INVALID_PARAM),
        (lambda: service.socket(deaf, 2, _described(data_type=3)), reasons.INVALID_PARAM),
        (lambda: service.socket(deaf, 2, _described(name="x" * 256)), reasons.INVALID_SESSION_NAME),
        (lambda: service.listen(7, 0), reasons.NOT_FOUND),
        (lambda: service.listen(1, -1), reasons.INVALID_PARAM),
        (lambda: service.bind(1, 100, 0), reasons.INVALID_PARAM),
        (lambda: service.send(1, Kind.SHUTDOWN, b"x", 0), reasons.INVALID_PARAM),
        (lambda: service.send(1, Kind.BYTES, bytes((4 << 20) + 1), 0), reasons.LENGTH_BEYOND_LIMIT),
        (lambda: service.send(1, Kind.MESSAGE, b"x", 0), reasons.INVALID_PARAM),
    ):
        with pytest.raises(SessionRefusal) as caught:
            call()
        assert caught.value.code == code, caught.value.text
    service.shutdown(1)
    service.shutdown(1)


def test_names_can_be_kept_from_an_application(pair: tuple[Station, Station]) -> None:
    asked: list[tuple[int, str]] = []

    def allowed(caller: Caller, name: str) -> bool:
        asked.append((caller.pid, name))
        return name == "mine"

    sessions = RemoteSessions(SessionService(pair[0].sessions, allowed).as_object())
    sessions.socket("mine")
    with pytest.raises(PermissionDeniedError, match="'theirs'") as caught:
        sessions.socket("theirs")
    assert caught.value.code == -426442743
    assert asked == [(os.getpid(), "mine"), (os.getpid(), "theirs")]
    sessions.close()


def test_processes_of_other_devices_have_no_sockets_here(pair: tuple[Station, Station]) -> None:
    service = SessionService(pair[0].sessions)
    ear = RemoteSessions(service.as_object())._ear
    caller = RemoteCaller("f" * 64, "0" * 64, os.getpid(), 0, 0)
    token = current.set(CallContext(caller, None, None, 0, 0, 0, None, None))
    try:
        with pytest.raises(SessionRefusal) as caught:
            service.socket(ear, 1, _described())
    finally:
        current.reset(token)
    assert caught.value.code == reasons.PERMISSION_DENIED
