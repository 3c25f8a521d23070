"""samgr/local.py: the contract between SAMgr and the processes it starts is fixed."""

from __future__ import annotations

from binderkit.samgr.local import ILocalAbilityManager


def test_codes_and_one_way_methods_stay_as_they_are() -> None:
    contract = ILocalAbilityManager.__contract__
    assert contract.descriptor == "OHOS.ILocalAbilityManager"
    assert {name: (one.code, one.oneway) for name, one in contract.methods.items()} == {
        "start_ability": (1, True),
        "stop_ability": (2, True),
        "idle_ability": (3, False),
        "active_ability": (4, False),
        "extension": (5, False),
        "stop_process": (6, True),
        "references": (7, False),
    }
