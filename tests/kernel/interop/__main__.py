"""``python -m tests.kernel.interop``: libgbinder's programs against SAMgr, in a guest of Debian's unstable release.

Exit status: 0 if every program reached what it should at every API level, 1 if one did not or the guest failed, 77 if
the guest cannot be had (nothing was tested), 124 if the time was over.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from tests.kernel.guest import image, machine, packages, tree
from tests.kernel.guest.errors import SKIPPED, GuestError, GuestUnavailable
from tests.kernel.guest.image import Image
from tests.kernel.interop import inside, sid

IMAGE = "sid-image-"
"""How the names of this stage's images begin in the guest's cache."""
BUSYBOX = "busybox-static"


def parser() -> argparse.ArgumentParser:
    """Return the command line's grammar."""
    parsed = argparse.ArgumentParser(
        prog="python -m tests.kernel.interop",
        description="Start SAMgr with the protocol of Android's service manager in a small virtual machine, and have "
        "libgbinder's unchanged programs use it: binder-list, binder-ping, binder-call and a client of "
        "python3-gbinder. They come from Debian's unstable release.",
        epilog="Exit status: 0: all reached what they should; 1: not all did, or the guest failed; 77: the guest or "
        "its packages cannot be had, nothing was tested; 124: the time was over.",
    )
    parsed.add_argument(
        "levels", nargs="*", type=int, default=inside.LEVELS, metavar="LEVEL",
        help=f"Android's API levels ({' '.join(map(str, inside.LEVELS))})",
    )  # fmt: skip
    parsed.add_argument("--time-limit", type=int, default=600, metavar="SECONDS", help="for all levels (%(default)s)")
    return parsed


def main(words: Sequence[str] | None = None) -> int:
    """Do what the command line says; return the exit status."""
    arguments = parser().parse_args(words)
    try:
        return _run(arguments.levels, arguments.time_limit)
    except GuestUnavailable as error:
        print(f"interop: SKIPPED, nothing was tested: {error}", file=sys.stderr)
        return SKIPPED
    except GuestError as error:
        print(f"interop: FAILED: {error}", file=sys.stderr)
        return 1


def _run(levels: Sequence[int], time_limit: int) -> int:
    began = time.monotonic()
    qemu = packages.ensure_qemu()
    cache = image.cache_folder()
    with image.locked(cache):
        built = prepare(cache)
    print(f"interop: ready after {time.monotonic() - began:.1f} s ({built.folder})", flush=True)
    done = machine.run(
        qemu, built, (), partial(tree.write_tree, built, script(levels), time_limit), time_limit, machine.Size()
    )
    print(f"interop: exit status {done.status}, {time.monotonic() - began:.1f} s in all")
    return done.status


def script(levels: Sequence[int]) -> str:
    """Return the lines of shell script that the guest runs."""
    words = ["python3", "-m", "tests.kernel.interop.inside", *map(str, levels)]
    return f"export PYTHONPATH=/binderkit/src:/usr/lib/python3/dist-packages\nexec {tree.shell_line(words)}"


def prepare(cache: Path) -> Image:
    """Return the image of today's packages; build it if the cache has none.

    Args:
        cache: the guest's. The caller holds its lock.

    Raises:
        GuestUnavailable: the packages cannot be had.
        GuestError: they are not as expected.
    """
    versions, python = sid.wanted(cache / "sid-apt")
    usual, kernel, _ = packages.wanted()
    ours = {name: usual[name] for name in (kernel, BUSYBOX)}
    key = image.key_of({**versions, **ours})
    built = Image(cache / f"{IMAGE}{key}", python, key)
    if built.folder.exists():
        return built
    fetched = cache / "sid-packages"
    fetched.mkdir(exist_ok=True)
    try:
        files = packages.fetch(versions, fetched, sid.options(cache / "sid-apt"))
        files |= packages.fetch(ours, fetched)
    except GuestUnavailable:
        raise
    except GuestError as error:
        raise GuestUnavailable(str(error)) from error  # this release changes while one looks at it
    image.build(built, files, kernel)
    _forget_others(cache, built, files)
    return built


def _forget_others(cache: Path, built: Image, files: dict[str, Path]) -> None:
    for folder in cache.glob(f"{IMAGE}*"):
        if folder != built.folder:
            shutil.rmtree(folder)
    for file in (cache / "sid-packages").iterdir():
        if file not in files.values():
            file.unlink()


def _end(number: int, frame: object) -> None:
    """Leave by an exception, so that qemu is ended as well."""
    sys.exit(128 + number)


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, _end)
    sys.exit(main())
