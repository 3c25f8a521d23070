"""tests/kernel/guest/machine.py: the run, with a shell script in qemu's place."""

from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest

from tests.kernel.guest import machine
from tests.kernel.guest.errors import GuestError
from tests.kernel.guest.image import Image
from tests.kernel.test_archive import packed
from tests.kernel.test_packages import program

FIND_RESULTS = (
    'for word; do case $word in file:*) results=${word#file:};; esac; done; cat "$(dirname "$0")/sent" > "$results"'
)


@pytest.fixture
def image(tmp_path: Path) -> Image:
    built = Image(tmp_path, "3.11", "key")
    built.base.write_bytes(b"base.")
    built.kernel.write_bytes(b"")
    return built


def run(image: Image, lines: str, sent: bytes = b"", time_limit: float = 20.0) -> machine.Outcome:
    program(image.folder / "qemu", lines)
    (image.folder / "sent").write_bytes(sent)
    (image.folder / "site").write_bytes(b"site.")

    def rest(target: BinaryIO) -> None:
        target.write(b"rest")

    return machine.run(str(image.folder / "qemu"), image, (image.folder / "site",), rest, time_limit, machine.Size())


def test_the_output_is_passed_on_and_status_and_results_come_back(
    image: Image, capfd: pytest.CaptureFixture[str]
) -> None:
    sent = packed({"./.status": b"130\n", "./junit.xml": b"<x/>"})
    show = 'for word; do case $word in */files.cpio) cat "$word";; esac; done; echo; echo "more output"'
    assert run(image, f"{show}; {FIND_RESULTS}", sent) == machine.Outcome(130, {"junit.xml": b"<x/>"})
    assert capfd.readouterr().out == "base.site.rest\nmore output\n"


def test_a_guest_that_says_nothing_has_failed(image: Image) -> None:
    with pytest.raises(GuestError, match="without sending anything"):
        run(image, FIND_RESULTS)


def test_a_qemu_that_fails_is_told(image: Image) -> None:
    with pytest.raises(GuestError, match="qemu failed with exit status 3"):
        run(image, "exit 3")


def test_a_guest_that_hangs_is_ended(image: Image, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "GRACE", 0.1)
    with pytest.raises(GuestError, match="the guest hung"):
        run(image, "exec sleep 60", time_limit=0.1)


@pytest.mark.parametrize("files", [{}, {".status": b""}, {".status": b"fine"}, {"status": b"0"}])
def test_results_without_a_status_are_a_failure(files: dict[str, bytes]) -> None:
    with pytest.raises(GuestError, match="no exit status"):
        machine.outcome(packed(files))


def test_the_machine_is_emulated_in_software_everywhere(image: Image) -> None:
    words = machine.command_line("qemu", image, Path("files"), Path("results"), machine.Size(300, 1))
    assert words[words.index("-accel") + 1].startswith("tcg")
    assert not any("kvm" in word for word in words)
    assert (words[words.index("-m") + 1], words[words.index("-smp") + 1]) == ("300", "1")
