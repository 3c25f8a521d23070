"""The packages of Debian's unstable release, by an apt of its own: this machine's lists and packages are left alone.

Owns: which packages the guest of this stage is made of, beside the usual guest's kernel and busybox.
"""

from __future__ import annotations

import re
from pathlib import Path

from tests.kernel.guest import packages
from tests.kernel.guest.errors import GuestUnavailable

KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
NAMES = (
    "libgbinder-tools", "python3-gbinder", "libgbinder1", "libglibutil1", "libglib2.0-0t64",
    "libc6", "zlib1g", "libexpat1", "libffi8", "libssl3t64", "libbz2-1.0", "liblzma5", "libuuid1", "libzstd1",
    "libpcre2-8-0", "libselinux1", "libmount1", "libblkid1", "libcap2", "libsystemd0", "libgcc-s1", "libatomic1",
)  # fmt: skip
"""The programs, and what they and Python need."""
FOLDERS = (
    "etc/apt/apt.conf.d", "etc/apt/preferences.d", "etc/apt/sources.list.d",
    "var/lib/apt/lists/partial", "var/lib/dpkg", "var/cache/apt/archives/partial",
)  # fmt: skip


def parse_archive(text: str) -> str | None:
    """Return the address of the main archive in the output of ``apt-cache policy``, None if there is none."""
    # A suite with a dash is one of updates, which has no counterpart in the unstable release.
    found = re.search(r"^\s+-?\d+ (\S+) \w+/main amd64 Packages$", text, re.MULTILINE)
    return found and found[1]


def options(folder: Path) -> tuple[str, ...]:
    """Return the options with which apt's programs use ``folder`` instead of this machine's own state."""
    values = {
        "Dir": folder,
        "Dir::Etc": folder / "etc/apt",
        "Dir::State": folder / "var/lib/apt",
        "Dir::State::status": folder / "var/lib/dpkg/status",
        "Dir::Cache": folder / "var/cache/apt",
        "APT::Sandbox::User": "root",  # apt's own user may not write there
    }
    return tuple(word for name, value in values.items() for word in ("-o", f"{name}={value}"))


def furnish(folder: Path, archive: str) -> None:
    """Make the folder of an apt that knows the unstable release of an archive, and no other."""
    for name in FOLDERS:
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "var/lib/dpkg/status").touch()
    (folder / "etc/apt/sources.list").write_text(f"deb [arch=amd64 signed-by={KEYRING}] {archive} sid main\n")


def wanted(folder: Path) -> tuple[packages.Versions, str]:
    """Return the packages with their versions, and Python's version.

    Args:
        folder: of the apt, made if need be.

    Raises:
        GuestUnavailable: the release cannot be reached, or has not all of them today.
    """
    archive = parse_archive(packages.output("apt-cache", "policy", "python3-minimal"))
    if archive is None or not KEYRING.exists():
        raise GuestUnavailable(f"apt knows no main archive of Debian, or there is no {KEYRING}")
    furnish(folder, archive)
    use = options(folder)
    packages.apt_get(*use, "update")
    python = packages.parse_depends(
        packages.output("apt-cache", *use, "depends", "python3-minimal"), r"python3\.\d+-minimal"
    )
    if python is None:
        raise GuestUnavailable("the unstable release offers no python3-minimal today")
    version = python.removeprefix("python").removesuffix("-minimal")
    names = (*NAMES, *packages.python_packages(version))
    versions = packages.parse_policy(packages.output("apt-cache", *use, "policy", *names))
    if missing := [name for name in names if name not in versions]:
        raise GuestUnavailable(f"the unstable release offers no {', '.join(missing)} today")
    return {name: versions[name] for name in names}, version
