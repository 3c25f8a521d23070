"""__init__.py: the public names."""

from __future__ import annotations

import subprocess
import sys

import pytest

from binderkit import ability


def test_every_public_name_is_there() -> None:
    for name in ability.__all__:
        assert getattr(ability, name).__name__ == name if name != "ABILITY_MANAGER_ID" else ability.ABILITY_MANAGER_ID


def test_other_names_are_not() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        ability.nonsense  # noqa: B018


def test_a_client_does_not_load_what_services_need() -> None:
    code = "import sys; from binderkit.ability import connect; print('binderkit.ability.service' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"
