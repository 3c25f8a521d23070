"""extension.py: the defaults of an ability, and connections that end with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from binderkit.ability import ElementName, ServiceExtensionAbility, ServiceExtensionContext, Want
from binderkit.ability.client import open_connections
from tests.ability.clients import Told, want

ELEMENT = ElementName("a.b", "S")


def test_an_ability_that_overrides_nothing_offers_nothing() -> None:
    ability = ServiceExtensionAbility()
    asked = Want("a.b", "S")

    assert ability.on_create(asked) is None
    assert ability.on_connect(asked) is None
    assert ability.on_request(asked, 1) is None
    assert ability.on_disconnect(asked) is None
    assert ability.on_destroy() is None
    assert ability.on_dump([]) == [repr(ability)]


def test_what_it_left_connected_is_ended_and_reported(directory: Path, caplog: pytest.LogCaptureFixture) -> None:
    context = ServiceExtensionContext(ELEMENT, lambda: None)
    kept, left = Told(), Told()
    number = context.connect_service_extension_ability(want("Recorder"), kept)
    leak = context.connect_service_extension_ability(want("Neighbour"), left)
    assert kept.next()[0] == left.next()[0] == "connect"
    context.disconnect_service_extension_ability(number)
    assert kept.next()[0] == "disconnect"

    context.close()

    assert left.next()[0] == "disconnect"
    assert f"a.b/S was destroyed without disconnecting connection {leak}" in caplog.text
    assert open_connections() == set()
    context.close()


def test_it_can_start_and_stop_abilities(directory: Path) -> None:
    context = ServiceExtensionContext(ELEMENT, lambda: None)
    context.start_service_extension_ability(want("Recorder"))
    context.stop_service_extension_ability(want("Recorder"))


def test_terminate_self_is_what_the_host_gave() -> None:
    called: list[int] = []
    ServiceExtensionContext(ELEMENT, lambda: called.append(1)).terminate_self()
    assert called == [1]
