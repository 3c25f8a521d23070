"""samgr/load.py: the callback of a load and its messages."""

from __future__ import annotations

from collections.abc import Callable

import pytest

import binderkit as bk
from binderkit.errors import UnknownTransactionError
from binderkit.samgr import SystemAbilityLoadCallback, codes
from binderkit.samgr.load import failure, success


class Recorder(SystemAbilityLoadCallback):
    def __init__(self) -> None:
        super().__init__()
        self.heard: list[tuple[object, ...]] = []

    def on_load_system_ability_success(self, ability_id: int, remote: bk.IRemoteObject) -> None:
        self.heard.append((ability_id, remote))

    def on_load_system_ability_fail(self, ability_id: int, code: int, text: str) -> None:
        self.heard.append((ability_id, code, text))


def send(callback: SystemAbilityLoadCallback, code: int, write: Callable[[bk.MessageSequence], None]) -> None:
    data = bk.MessageSequence()
    write(data)
    callback.send_request(code, data, bk.MessageSequence())


def test_success_and_failure_are_told() -> None:
    callback, stub = Recorder(), bk.RemoteObject("tests.Stub")
    send(callback, codes.ON_LOAD_SUCCESS, success(5, stub))
    send(callback, codes.ON_LOAD_FAIL, failure(6, 999, "too late"))
    assert callback.heard == [(5, stub), (6, 999, "too late")]
    send(SystemAbilityLoadCallback(), codes.ON_LOAD_SUCCESS, success(5, stub))
    send(SystemAbilityLoadCallback(), codes.ON_LOAD_FAIL, failure(5, 999, ""))


def test_wrong_messages_are_refused() -> None:
    def strange(data: bk.MessageSequence) -> None:
        data.write_interface_token("tests.other")

    with pytest.raises(bk.RefusedError, match="interface token"):
        send(Recorder(), 1, strange)
    with pytest.raises(UnknownTransactionError):
        send(Recorder(), 3, failure(1, 2, ""))
