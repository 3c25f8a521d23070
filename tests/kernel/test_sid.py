"""tests/kernel/interop/sid.py: an apt of its own, for another release than this machine's."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.kernel.guest import packages
from tests.kernel.guest.errors import GuestUnavailable
from tests.kernel.interop import sid

POLICY = """\
python3-minimal:
  Installed: 3.11.2-1+b1
  Candidate: 3.11.2-1+b1
  Version table:
 *** 3.11.2-1+b1 500
        600 http://updates.example/debian-security bookworm-security/main amd64 Packages
        500 http://archive.example/debian bookworm/main amd64 Packages
        100 /var/lib/dpkg/status
"""


def test_the_main_archive_is_found_and_not_one_of_updates() -> None:
    assert sid.parse_archive(POLICY) == "http://archive.example/debian"
    assert sid.parse_archive("python3-minimal:\n  Installed: (none)\n") is None


def test_an_apt_of_its_own_knows_one_release_and_nothing_of_this_machine(tmp_path: Path) -> None:
    sid.furnish(tmp_path, "http://archive.example/debian")
    sid.furnish(tmp_path, "http://archive.example/debian")
    (line,) = (tmp_path / "etc/apt/sources.list").read_text().splitlines()
    assert line.endswith("] http://archive.example/debian sid main")
    if shutil.which("apt-cache") is None:
        pytest.skip("this machine has no apt")
    assert not packages.output("apt-cache", *sid.options(tmp_path), "policy", "libc6"), "nothing was fetched yet"


def test_a_machine_without_debian_is_skipped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(packages, "output", lambda *command: "")
    with pytest.raises(GuestUnavailable, match="main archive"):
        sid.wanted(tmp_path)


def test_a_release_that_lacks_a_package_is_skipped_and_names_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    said = {"policy": POLICY, "depends": "python3-minimal\n  Depends: python3.14-minimal\n"}
    monkeypatch.setattr(packages, "output", lambda *command: next(said[word] for word in command if word in said))
    monkeypatch.setattr(packages, "apt_get", lambda *command: None)
    monkeypatch.setattr(sid, "KEYRING", tmp_path)
    with pytest.raises(GuestUnavailable, match=r"offers no libgbinder-tools, .*python3\.14-minimal.* today"):
        sid.wanted(tmp_path)
