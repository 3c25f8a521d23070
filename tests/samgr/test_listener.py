"""samgr/listener.py: from a request to the method."""

from __future__ import annotations

import pytest

import binderkit as bk
from binderkit.errors import UnknownTransactionError
from binderkit.samgr import SystemAbilityListener, codes


class Recorder(SystemAbilityListener):
    def __init__(self) -> None:
        super().__init__()
        self.events: list[tuple[str, int, str]] = []

    def on_add_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.append(("added", ability_id, device_id))

    def on_remove_system_ability(self, ability_id: int, device_id: str) -> None:
        self.events.append(("removed", ability_id, device_id))


def tell(listener: SystemAbilityListener, code: int, token: str = codes.LISTENER_DESCRIPTOR) -> None:
    with bk.MessageSequence() as data, bk.MessageSequence() as reply:
        data.write_interface_token(token)
        data.write_int(7)
        data.write_string("device")
        listener.send_request(code, data, reply)


def test_each_code_calls_its_method() -> None:
    listener = Recorder()
    tell(listener, codes.ON_ADD_SYSTEM_ABILITY)
    tell(listener, codes.ON_REMOVE_SYSTEM_ABILITY)
    assert listener.events == [("added", 7, "device"), ("removed", 7, "device")]


def test_another_token_or_code_is_refused() -> None:
    listener = Recorder()
    with pytest.raises(bk.RefusedError, match="interface token 'other'"):
        tell(listener, codes.ON_ADD_SYSTEM_ABILITY, "other")
    with pytest.raises(UnknownTransactionError):
        tell(listener, 99)
    assert listener.events == []


def test_a_listener_need_not_override_anything() -> None:
    tell(SystemAbilityListener(), codes.ON_ADD_SYSTEM_ABILITY)
    tell(SystemAbilityListener(), codes.ON_REMOVE_SYSTEM_ABILITY)
