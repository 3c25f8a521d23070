"""client.py: what the functions check, and finding the ability manager, again after it died."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from binderkit.ability import (
    AbilityError,
    ConnectOptions,
    connect,
    connect_service_extension_ability,
    disconnect_service_extension_ability,
    dump_service_extension_ability,
    list_service_extension_abilities,
    start_service_extension_ability,
    stop_service_extension_ability,
)
from binderkit.ability.client import ability_manager, open_connections
from binderkit.errors import ParamTypeError, ParamValueError
from tests.ability.clients import Told, connected, want
from tests.ability.contracts import IRecorder
from tests.ability.device import device_process


def test_what_is_no_want_or_no_options_is_refused_here() -> None:
    wrong: Any = "a.b/S"
    for call in (start_service_extension_ability, stop_service_extension_ability, dump_service_extension_ability):
        with pytest.raises(ParamTypeError, match=r"expected a Want\(bundle_name, ability_name\), got str"):
            call(wrong)
    with pytest.raises(ParamTypeError, match="expected a Want"):
        connect_service_extension_ability(wrong, Told())
    with pytest.raises(ParamTypeError, match="expected ConnectOptions, got str"):
        connect_service_extension_ability(want("Recorder"), wrong)
    with pytest.raises(ParamTypeError, match="a connection id is an int, got str"):
        disconnect_service_extension_ability(wrong)
    with pytest.raises(ParamValueError, match="no connection has the id -1"):
        disconnect_service_extension_ability(-1)


def test_without_an_ability_manager_every_call_says_so(installed: Path) -> None:
    for call in (
        lambda: connect_service_extension_ability(want("Recorder"), Told()),
        lambda: start_service_extension_ability(want("Recorder")),
        lambda: stop_service_extension_ability(want("Recorder")),
        list_service_extension_abilities,
    ):
        with pytest.raises(AbilityError, match=r"the ability manager \(system ability 180\) of this device") as raised:
            call()
        assert raised.value.code == 16000050


def test_the_manager_is_looked_up_once_and_anew_after_it_died(installed: Path) -> None:
    with device_process() as first:
        assert ability_manager() is ability_manager()
        _, _, told = connected("Recorder")
        first.kill()
        first.wait()
        assert told.next()[0] == "disconnect"
    with device_process(), connect(want("Recorder"), IRecorder) as recorder:
        assert recorder.events() == ["create", "connect"]


def test_a_callback_may_disconnect_and_connect_again(directory: Path) -> None:
    told = Told()
    number: list[int] = []

    def reconnect(element: object) -> None:
        number.append(connect_service_extension_ability(want("Recorder"), told))

    first = connect_service_extension_ability(want("Recorder"), ConnectOptions(lambda *_: None, reconnect))
    disconnect_service_extension_ability(first)

    assert told.next()[0] == "connect"
    assert number == [first + 1]
    disconnect_service_extension_ability(first)  # over already
    disconnect_service_extension_ability(number[0])
    assert told.next()[0] == "disconnect"


def test_a_forked_child_has_no_connections_of_its_parent(directory: Path) -> None:
    number, recorder, _ = connected("Recorder")
    child = os.fork()
    if child == 0:
        os._exit(0 if open_connections() == set() else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert open_connections() == {number}
    assert recorder.events() == ["create", "connect"]
    disconnect_service_extension_ability(number)
