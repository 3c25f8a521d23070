"""samgr/system_ability.py: what an ability is before anybody hosts it, and how it is bound."""

from __future__ import annotations

import os

import pytest

import binderkit as bk
from binderkit.errors import ServiceError
from binderkit.samgr.ability import AbilityKey
from binderkit.samgr.reason import OnDemandReason, ReasonId
from binderkit.samgr.system_ability import PublishedObject, SystemAbility, bind, overridden, unbind


class Services:
    """Notes what an ability asks for."""

    def __init__(self) -> None:
        self.asked: list[tuple[object, ...]] = []

    def publish(self, remote: object) -> int:
        self.asked.append(("publish", remote))
        return 5

    def listen(self, key: AbilityKey, device_id: str = "") -> None:
        self.asked.append(("listen", key, device_id) if device_id else ("listen", key))

    def cancel_idle(self) -> None:
        self.asked.append(("cancel_idle",))

    def stop_requested(self) -> None:
        self.asked.append(("stop",))


def test_the_defaults_agree_to_everything_and_know_no_extension() -> None:
    ability = SystemAbility()
    assert ability.on_start(ability.reason) is None and ability.on_stop(ability.reason) is None
    assert ability.on_idle(ability.reason) == 0 and ability.on_active(ability.reason) is None
    assert ability.on_add_system_ability(1, "") is None and ability.on_remove_system_ability(1, "") is None
    with pytest.raises(ServiceError, match="SystemAbility has no on_extension, so it cannot answer 'backup'"):
        ability.on_extension("backup", b"")
    assert overridden(ability, ["on_dump", "on_start"]) == []
    assert overridden(PublishedObject(bk.RemoteObject("x")), ["on_dump", "on_start"]) == ["on_start"]


def test_a_bound_ability_asks_its_host_and_an_unbound_one_says_so() -> None:
    ability, services, why = SystemAbility(), Services(), OnDemandReason(ReasonId.PARAM)
    stub = bk.RemoteObject("x")
    with pytest.raises(ServiceError, match=r"SystemAbility\.publish was called while the ability does not run"):
        ability.publish(stub)
    bind(ability, 5, why, services)
    assert ability.publish(stub) == 5
    ability.add_system_ability_listener(7, "name")
    ability.add_system_ability_listener(8, device_id="kitchen")
    ability.cancel_idle()
    ability.stop_ability()
    heard = [("listen", 7), ("listen", "name"), ("listen", 8, "kitchen")]
    assert services.asked == [("publish", stub), *heard, ("cancel_idle",), ("stop",)]
    reader, writer = os.pipe()
    with open(reader, encoding="utf-8") as told:
        ability.on_dump(writer, [])
        os.close(writer)
        assert told.read() == "system ability 5 (SystemAbility), started by PARAM\n"
    unbind(ability)
    with pytest.raises(ServiceError, match="cancel_idle"):
        ability.cancel_idle()


def test_a_plain_object_is_published_at_the_start() -> None:
    stub, services = bk.RemoteObject("x"), Services()
    ability = PublishedObject(stub)
    bind(ability, 5, OnDemandReason(), services)
    ability.on_start(OnDemandReason())
    assert services.asked == [("publish", stub)]
