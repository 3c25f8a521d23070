"""contracts.py: who calls whom one-way, and what arrives of a refusal."""

from __future__ import annotations

import binderkit as bk
from binderkit.ability.contracts import (
    IAbilityConnection,
    IAbilityHost,
    IAbilityManager,
    IAbilityScheduler,
    Refusal,
)
from binderkit.interface import proxy
from tests.ability.test_connections import WANT, Manager


def test_the_manager_never_waits_for_an_application() -> None:
    for interface in (IAbilityConnection, IAbilityHost, IAbilityScheduler):
        waits = [name for name, method in interface.__contract__.methods.items() if not method.oneway]
        assert waits == (["dump"] if interface is IAbilityScheduler else [])


def test_a_refusal_arrives_as_itself() -> None:
    manager = Manager()
    manager.error = Refusal(16000004, "not exported")
    try:
        proxy(IAbilityManager, manager).disconnect_ability(_Callback())
    except Refusal as refusal:
        assert (refusal.code, refusal.text) == (16000004, "not exported")
    else:
        raise AssertionError("no refusal")


def test_a_want_with_parameters_of_every_kind_travels() -> None:
    from binderkit.ability.want import Want

    sent = Want("a.b", "S", "m", "", "act", {"text": "é", "whole": -(2**63), "real": 0.5, "truth": True}, 3)
    seen: list[Want] = []

    class Listening(Manager):
        def stop_ability(self, want: Want) -> None:
            seen.append(want)

    proxy(IAbilityManager, Listening()).stop_ability(sent)
    assert seen == [sent] and seen[0] is not sent
    assert type(seen[0].parameters["truth"]) is bool
    assert sent.element.bundle_name == WANT.bundle_name


class _Callback(IAbilityConnection):
    def connect_done(self, element: object, remote: bk.IRemoteObject) -> None: ...
    def connect_failed(self, element: object, code: int, text: str) -> None: ...
    def disconnect_done(self, element: object, result: int, text: str) -> None: ...
