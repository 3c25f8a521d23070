"""A device that cannot be used says why, and what to do; whatever was opened is closed again."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import binderkit as bk
from binderkit.driver.kernel.device import Device


def test_no_device_names_what_to_load(tmp_path: Path) -> None:
    with pytest.raises(bk.IpcError, match="modprobe binder_linux") as caught:
        Device(str(tmp_path / "binder"))
    assert "BINDERKIT_DEVICE" in str(caught.value)


@pytest.mark.parametrize("path", ["/dev/null", "/dev/zero"])
def test_another_device_is_no_binder_device(path: str) -> None:
    with pytest.raises(bk.IpcError, match=f"{path} is no binder device"):
        Device(path)


def test_a_folder_is_none_either(tmp_path: Path) -> None:
    with pytest.raises(bk.IpcError, match="cannot open"):
        Device(str(tmp_path))


def test_a_device_that_may_not_be_opened_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(path: str, flags: int) -> int:
        raise PermissionError(13, "Permission denied", path)

    # Root may open everything, so the refusal itself is made up; what becomes of it is not.
    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(bk.RefusedError, match="may not open /dev/binder"):
        Device("/dev/binder")
