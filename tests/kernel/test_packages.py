"""tests/kernel/guest/packages.py: what apt says, understood; and what is said where there is no apt."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.kernel.guest import packages
from tests.kernel.guest.errors import GuestUnavailable

POLICY = """\
libc6:
  Installed: 2.36-9
  Candidate: 2.36-9+deb12u14
  Version table:
     2.36-9+deb12u14 500
busybox-static:
  Installed: (none)
  Candidate: 1:1.35.0-4
  Version table:
     1:1.35.0-4 500
libssl3t64:
  Installed: (none)
  Candidate: (none)
  Version table:
libgcc-s1:amd64:
  Installed: 12
  Candidate: 12.2.0-14
"""


def test_candidates_are_read_from_the_policy() -> None:
    assert packages.parse_policy(POLICY) == {
        "libc6": "2.36-9+deb12u14",
        "busybox-static": "1:1.35.0-4",
        "libgcc-s1": "12.2.0-14",
    }


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("linux-image-amd64\n  Depends: linux-image-6.1.0-56-amd64\n", "linux-image-6.1.0-56-amd64"),
        ("linux-image-amd64\n |Depends: linux-image-7.2\n  Suggests: linux-image-9\n", "linux-image-7.2"),
        ("linux-image-amd64\n  PreDepends: linux-image-1\n", "linux-image-1"),
        ("linux-image-amd64\n  Depends: dpkg\n", None),
        ("", None),
    ],
)
def test_a_dependency_is_found_by_its_pattern(text: str, name: str | None) -> None:
    assert packages.parse_depends(text, r"linux-image-\S+") == name


def offered(python: str, **others: str) -> packages.Versions:
    names = [names[0] for names in packages.LIBRARIES] + list(packages.python_packages(python))
    return {**dict.fromkeys(names, "1"), **others}


def test_the_first_name_that_apt_offers_is_taken() -> None:
    versions = offered("3.13", libssl3t64="2")
    assert packages.choose(versions, "3.13")["libssl3"] == "1"
    del versions["libssl3"]
    chosen = packages.choose(versions, "3.13")
    assert chosen["libssl3t64"] == "2"
    assert "libssl3" not in chosen
    assert "python3.13-minimal" in chosen


def test_a_package_that_apt_lacks_is_named() -> None:
    versions = offered("3.11")
    del versions["libssl3"]
    with pytest.raises(GuestUnavailable, match="no package libssl3 or libssl3t64"):
        packages.choose(versions, "3.11")


def test_a_machine_without_apt_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(GuestUnavailable, match="no apt"):
        packages.wanted()
    with pytest.raises(GuestUnavailable, match="qemu-system-x86_64 is missing and this machine has no apt-get"):
        packages.ensure_qemu()


def test_who_may_not_install_is_told_the_command(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "apt-get", "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(GuestUnavailable, match="only root can install it: apt-get install"):
        packages.ensure_qemu()


def test_an_installation_that_fails_says_why(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    program(tmp_path / "apt-get", "echo 'E: no such thing'; exit 100")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    with pytest.raises(GuestUnavailable, match=r"failed \(100\):\n  E: no such thing"):
        packages.ensure_qemu()


def test_only_what_is_missing_is_fetched(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    # apt writes a colon in a file's name as %3a.
    program(tmp_path / "bin/apt-get", 'echo "$@" >> asked; : > "new_1%3a2_amd64.deb"')
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "old_1_amd64.deb").touch()
    files = packages.fetch({"old": "1", "new": "1:2"}, tmp_path)
    assert files == {"old": tmp_path / "old_1_amd64.deb", "new": tmp_path / "new_1%3a2_amd64.deb"}
    packages.fetch({"old": "1", "new": "1:2"}, tmp_path)
    assert (tmp_path / "asked").read_text().splitlines() == [
        "-q -o DPkg::Lock::Timeout=120 -o APT::Sandbox::User=root download new=1:2"
    ]


def program(path: Path, lines: str) -> None:
    path.write_text(f"#!/bin/sh\n{lines}\n")
    path.chmod(0o755)
