"""cli/demo/run.py: a demo that goes wrong says so; the one that goes right is tests/test_demo.py."""

from __future__ import annotations

import sys

import pytest
from PIL import Image

from binderkit.cli.demo import picture, run
from binderkit.cli.demo.processes import Stage
from binderkit.cli.demo.report import StepFailed, check


def test_a_step_that_goes_wrong_ends_the_demo_with_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(Stage, "start_samgr", lambda stage: check(False, "SAMgr has a headache"))
    assert run.main() == 1
    assert "The demo failed: SAMgr has a headache" in capsys.readouterr().out


def test_pillow_missing_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "PIL", None)
    assert run.main() == 1
    assert "pip install 'binderkit[demo]'" in " ".join(capsys.readouterr().out.split())


def test_a_wrong_thumbnail_is_found() -> None:
    photo = Image.linear_gradient("L").convert("RGB")
    right = picture.thumbnail(photo, 64)
    assert run.difference(photo, 64, picture.encoded(right)) < picture.MAX_DIFFERENCE
    for wrong, why in (
        (picture.encoded(right.rotate(180)), "shows something else"),
        (picture.encoded(picture.thumbnail(photo, 65)), "pixels instead of"),
        (b"nothing", "is no picture"),
    ):
        with pytest.raises(StepFailed, match=why):
            run.difference(photo, 64, wrong)


def test_the_widths_go_from_large_to_small_so_that_the_kill_comes_early() -> None:
    assert sorted(run.WIDTHS, reverse=True) == run.WIDTHS
    assert 0 < run.KILL_AFTER < len(run.WIDTHS)
