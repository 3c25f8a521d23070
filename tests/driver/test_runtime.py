"""The runtime directory: named, made, and used only if it is safe."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from binderkit.driver.runtime import accessible_runtime_dir, default_runtime_dir
from binderkit.errors import RefusedError


@pytest.mark.parametrize("mode", [0o755, 0o711, 0o770])
def test_a_directory_others_may_enter_is_not_used(runtime_dir: Path, mode: int) -> None:
    runtime_dir.chmod(mode)
    with pytest.raises(RefusedError, match="others may enter"):
        accessible_runtime_dir()


def test_it_is_made_for_its_owner_alone(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BINDERKIT_RUNTIME_DIR", str(runtime_dir / "new" / "one"))
    assert accessible_runtime_dir().stat().st_mode & 0o777 == 0o700


def test_one_that_nobody_lets_us_near_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    # Root may enter everything, so the refusal itself is made up; what becomes of it is not.
    monkeypatch.setattr(Path, "mkdir", refused)
    with pytest.raises(RefusedError, match="no access to the runtime directory"):
        accessible_runtime_dir()


def test_without_a_name_it_is_that_of_the_session_or_of_the_user() -> None:
    assert default_runtime_dir({"XDG_RUNTIME_DIR": "/run/user/7"}) == Path("/run/user/7/binderkit")
    assert default_runtime_dir({}) == Path(f"/tmp/binderkit-{os.geteuid()}")
