"""Debian's packages: which ones the guest is made of, and how to get them.

Owns: every use of apt. Nothing but qemu is installed on this machine; the guest's packages are only fetched and
unpacked. Which versions is apt's word, so that security updates of the kernel come by themselves.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

from tests.kernel.guest.errors import GuestError, GuestUnavailable

QEMU = "qemu-system-x86_64"
QEMU_PACKAGE = "qemu-system-x86"
APT_TIME = 600.0
"""Seconds for one step of apt: the kernel's package is 70 MB, and mirrors are slow at times."""
LOCK_TIME = 120
"""Seconds to wait while somebody else installs something."""
KERNEL = "linux-image-amd64"
"""The flavour for cloud machines has no Binder driver, this one has."""

Versions = dict[str, str]
"""Name of a package -> its version."""

LIBRARIES = (
    ("libc6",),
    ("libgcc-s1",),  # a daemon thread that outlives Python ends by pthread_exit, which needs it
    ("zlib1g",),
    ("libexpat1",),
    ("libffi8",),
    ("libssl3", "libssl3t64"),
    ("libbz2-1.0",),
    ("liblzma5",),
    ("libuuid1",),
    ("libsqlite3-0",),  # coverage's data is a database
    ("busybox-static",),
)
"""What Python and the start of the guest need: each by its names in Debian 12 and later."""


def parse_depends(text: str, pattern: str) -> str | None:
    """Return the first package in the output of ``apt-cache depends`` whose name fits, None if none does."""
    found = re.search(rf"^\s*\|?(?:Pre)?Depends: ({pattern})$", text, re.MULTILINE)
    return found and found[1]


def parse_policy(text: str) -> Versions:
    """Return what ``apt-cache policy`` would install: packages without a candidate are left out."""
    found: Versions = {}
    name = ""
    for line in text.splitlines():
        if not line.startswith(" ") and line.endswith(":"):
            name = line[:-1].partition(":")[0]
        elif line.startswith("  Candidate:"):
            version = line.split(":", 1)[1].strip()
            if version != "(none)":
                found[name] = version
    return found


def choose(versions: Versions, python: str) -> Versions:
    """Return the packages of the guest, the kernel's aside.

    Args:
        versions: what apt offers.
        python: the distribution's Python, such as ``"3.11"``.

    Raises:
        GuestUnavailable: apt does not offer one of them.
    """
    chosen: Versions = {}
    for names in (*LIBRARIES, *((name,) for name in python_packages(python))):
        name = next((name for name in names if name in versions), None)
        if name is None:
            raise GuestUnavailable(f"apt offers no package {' or '.join(names)}; the guest needs Debian 12 or later")
        chosen[name] = versions[name]
    return chosen


def python_packages(python: str) -> tuple[str, ...]:
    """Return the packages of a Python without anything around it."""
    return f"python{python}-minimal", f"libpython{python}-minimal", f"libpython{python}-stdlib"


def wanted() -> tuple[Versions, str, str]:
    """Return the packages of the guest with their versions, the kernel's among them and its name, and Python's version.

    Raises:
        GuestUnavailable: this is no Debian for x86-64, or its package lists cannot be had.
    """
    if shutil.which("apt-cache") is None or shutil.which("dpkg-deb") is None:
        raise GuestUnavailable("the guest is made of Debian's packages, and this machine has no apt")
    if (architecture := output("dpkg", "--print-architecture")) != "amd64":
        raise GuestUnavailable(f"the guest is an x86-64 machine, and this machine's packages are for {architecture}")
    kernel, python = _kernel_and_python()
    names = {kernel, *(name for names in LIBRARIES for name in names), *python_packages(python)}
    versions = parse_policy(output("apt-cache", "policy", *sorted(names)))
    if kernel not in versions:
        raise GuestUnavailable(f"apt offers no package {kernel}, the kernel that {KERNEL} stands for")
    return {**choose(versions, python), kernel: versions[kernel]}, kernel, python


def _kernel_and_python() -> tuple[str, str]:
    for attempt in range(2):
        kernel = parse_depends(output("apt-cache", "depends", KERNEL), r"linux-image-\S+")
        python = parse_depends(output("apt-cache", "depends", "python3-minimal"), r"python3\.\d+-minimal")
        if kernel and python:
            return kernel, python.removeprefix("python").removesuffix("-minimal")
        if attempt == 0:
            update()
    raise GuestUnavailable(f"apt knows no {KERNEL} or no python3-minimal: is this Debian, with its main archive?")


def output(*command: str) -> str:
    """Return what a command of apt or dpkg says; nothing if it cannot say it."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=_plain())
    return done.stdout.strip()


def _plain() -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


def apt_get(*arguments: str, folder: Path | None = None) -> None:
    """Run apt-get.

    Raises:
        GuestUnavailable: it failed, with the last lines of what it said, or took too long.
    """
    command = ("apt-get", "-q", "-o", f"DPkg::Lock::Timeout={LOCK_TIME}", *arguments)
    try:
        done = subprocess.run(
            command, cwd=folder, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, check=False, env=_plain(), timeout=APT_TIME,
        )  # fmt: skip
    except subprocess.TimeoutExpired as error:
        raise GuestUnavailable(f"`{' '.join(command)}` took longer than {APT_TIME:.0f} s") from error
    if done.returncode:
        said = "\n  ".join(done.stdout.strip().splitlines()[-5:])
        raise GuestUnavailable(f"`{' '.join(command)}` failed ({done.returncode}):\n  {said}")


def update() -> None:
    """Fetch the lists of packages anew, where we may; without the right to, the old ones have to do."""
    if os.geteuid() == 0:
        apt_get("update")


def ensure_qemu() -> str:
    """Return qemu's path; install it if it is missing and we may.

    Raises:
        GuestUnavailable: it is missing and cannot be installed.
    """
    found = shutil.which(QEMU)
    if found is not None:
        return found
    if shutil.which("apt-get") is None:
        raise GuestUnavailable(f"{QEMU} is missing and this machine has no apt-get: install it and run this again")
    if os.geteuid() != 0:
        raise GuestUnavailable(
            f"{QEMU} is missing and only root can install it: apt-get install --no-install-recommends {QEMU_PACKAGE}"
        )
    print(f"guest: installing {QEMU_PACKAGE} …", flush=True)
    install = ("install", "--yes", "--no-install-recommends", QEMU_PACKAGE)
    try:
        apt_get(*install)
    except GuestUnavailable:
        update()  # lists that are old name versions that are gone
        apt_get(*install)
    found = shutil.which(QEMU)
    if found is None:
        raise GuestUnavailable(f"{QEMU_PACKAGE} was installed, but there is no {QEMU} in PATH")
    return found


def fetch(versions: Versions, folder: Path, options: tuple[str, ...] = ()) -> dict[str, Path]:
    """Fetch packages into a folder, those that are there already aside; return where each is.

    Args:
        versions: which.
        folder: where they go.
        options: of apt-get, if not this machine's own lists name them.

    Raises:
        GuestError: they cannot be had.
    """
    missing = [name for name, version in versions.items() if not _file(folder, name, version).exists()]
    if missing:
        print(f"guest: fetching {len(missing)} packages of Debian …", flush=True)
        exactly = [f"{name}={versions[name]}" for name in missing]
        try:
            # Not as apt's own user, who may not write here.
            apt_get(*options, "-o", "APT::Sandbox::User=root", "download", *exactly, folder=folder)
        except GuestUnavailable as error:
            raise GuestError(str(error)) from error  # where qemu could be had, so can these: not a reason to skip
    files = {name: _file(folder, name, version) for name, version in versions.items()}
    for name, file in files.items():
        if not file.exists():
            raise GuestError(f"apt-get download {name} went well, but there is no {file}")
    return files


def _file(folder: Path, name: str, version: str) -> Path:
    """Return where apt puts a package; a colon in its version is written as %3a."""
    return folder / f"{name}_{version.replace(':', '%3a')}_amd64.deb"


def unpack(package: Path, folder: Path) -> None:
    """Unpack a package's files into a folder, without installing anything.

    Raises:
        GuestError: dpkg-deb cannot.
    """
    done = subprocess.run(("dpkg-deb", "-x", package, folder), capture_output=True, text=True, check=False)
    if done.returncode:
        raise GuestError(f"{package} cannot be unpacked: {done.stderr.strip()}; delete it and run this again")
