"""The part of the guest that only changes with its packages: the kernel, its Binder module, Python. Built once.

Owns: the cache, one folder for each set of versions. A build goes to a folder beside it and is renamed when it is
whole, under a lock, so that neither an interrupt nor a second run leaves half an image.
"""

from __future__ import annotations

import fcntl
import hashlib
import lzma
import os
import shutil
import struct
import subprocess
import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.kernel.guest import archive, packages
from tests.kernel.guest.errors import GuestError, GuestUnavailable

MODULE = "binder_linux.ko"
LOADER = "ld-linux-x86-64.so.2"
LIBRARY_FOLDERS = ("lib/x86_64-linux-gnu", "usr/lib/x86_64-linux-gnu")
UNUSED = ("usr/share", "var", "etc/init.d", "usr/lib/x86_64-linux-gnu/gconv")
UNUSED_PYTHON = ("test", "idlelib", "lib2to3", "ensurepip", "pydoc_data", "distutils", "tkinter", "turtledemo")
ETC_PASSWD = "root:x:0:0::/root:/bin/sh\nnobody:x:65534:65534::/nonexistent:/bin/false\n"


@dataclass(frozen=True)
class Image:
    """A built image.

    Attributes:
        folder: where it is.
        python: the version of its Python, such as ``"3.11"``.
        key: names its contents.
    """

    folder: Path
    python: str
    key: str

    @property
    def kernel(self) -> Path:
        """What qemu boots."""
        return self.folder / "kernel"

    @property
    def base(self) -> Path:
        """The archive of its files."""
        return self.folder / "base.cpio"

    @property
    def root(self) -> Path:
        """The same files in a folder, for running the guest's Python on this machine."""
        return self.folder / "root"

    def compile(self, folder: Path, place: str) -> None:
        """Compile Python files for the guest, with the guest's own Python: under emulation it takes seconds.

        The compiled files are never compared with their sources: both go into the guest together.

        Args:
            folder: where the files are on this machine.
            place: where they will be in the guest, for tracebacks, such as ``"/site"``.

        Raises:
            GuestError: a file cannot be compiled.
        """
        compile_with(self.root, self.python, folder, place)


def cache_folder() -> Path:
    """Return the folder of everything that is kept between runs: $XDG_CACHE_HOME, or ~/.cache."""
    top = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(top) / "binderkit-guest"


def key_of(versions: packages.Versions) -> str:
    """Return a name for an image of these packages, built by this very program."""
    recipe = [Path(__file__).read_text(), Path(archive.__file__).read_text()]
    lines = sorted(f"{name}={version}" for name, version in versions.items())
    return hashlib.sha256("\n".join(lines + recipe).encode()).hexdigest()[:16]


@contextmanager
def locked(cache: Path) -> Iterator[None]:
    """Hold the cache alone."""
    cache.mkdir(parents=True, exist_ok=True)
    with open(cache / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def prepare(cache: Path) -> Image:
    """Return the image of today's packages; build it if the cache has none.

    Args:
        cache: the folder that ``cache_folder`` names. The caller holds its lock.

    Raises:
        GuestUnavailable: this machine offers no packages.
        GuestError: they cannot be fetched or are not as expected.
    """
    versions, kernel, python = packages.wanted()
    image = _image(cache, versions, python)
    if image.folder.exists():
        return image
    try:
        files = packages.fetch(versions, _packages_folder(cache))
    except GuestError:
        if os.geteuid() != 0:
            raise
        packages.update()  # versions that old lists name may be gone from the archive
        versions, kernel, python = packages.wanted()
        image = _image(cache, versions, python)
        files = packages.fetch(versions, _packages_folder(cache))
    build(image, files, kernel)
    _forget_others(cache, image, files)
    return image


def _image(cache: Path, versions: packages.Versions, python: str) -> Image:
    key = key_of(versions)
    return Image(cache / f"image-{key}", python, key)


def _packages_folder(cache: Path) -> Path:
    folder = cache / "packages"
    folder.mkdir(exist_ok=True)
    return folder


def _forget_others(cache: Path, image: Image, files: dict[str, Path]) -> None:
    for folder in cache.glob("image-*"):
        if folder != image.folder:
            shutil.rmtree(folder)
    for file in (cache / "packages").iterdir():
        if file not in files.values():
            file.unlink()


def build(image: Image, files: dict[str, Path], kernel: str) -> None:
    """Build an image in its folder.

    Args:
        image: which.
        files: its packages, by their names.
        kernel: the one with the kernel.

    Raises:
        GuestUnavailable, GuestError: see ``prepare``.
    """
    print("guest: building its image …", flush=True)
    folder = Path(tempfile.mkdtemp(prefix="new-", dir=image.folder.parent))
    try:
        with tempfile.TemporaryDirectory(dir=folder) as unpacked:
            packages.unpack(files[kernel], Path(unpacked))
            bootable, module = kernel_parts(Path(unpacked))
        (folder / "kernel").write_bytes(bootable)
        root = folder / "root"
        root.mkdir()
        for name, file in files.items():
            if name != kernel:
                packages.unpack(file, root)
        _trim(root, image.python)
        _furnish(root, image.python, module)
        compile_with(root, image.python, root / f"usr/lib/python{image.python}", f"/usr/lib/python{image.python}")
        with open(folder / "base.cpio", "wb") as base:
            archive.write(archive.entries_of(root), base)
        folder.rename(image.folder)
    except BaseException:
        shutil.rmtree(folder)
        raise


def kernel_parts(unpacked: Path) -> tuple[bytes, bytes]:
    """Return what to boot, and the Binder module, of an unpacked kernel package.

    Raises:
        GuestUnavailable: this kernel has no Binder module.
        GuestError: there is no kernel in it.
    """
    module = next((path for path in sorted(unpacked.rglob(f"{MODULE}*"))), None)
    if module is None:
        raise GuestUnavailable(f"Debian's kernel package has no {MODULE}: this release's kernel is without Binder")
    kernel = next(iter(sorted(unpacked.glob("boot/vmlinuz-*"))), None)
    if kernel is None:
        raise GuestError("Debian's kernel package has no boot/vmlinuz-*; this release packs its kernel differently")
    content = module.read_bytes()
    return bootable(kernel.read_bytes()), lzma.decompress(content) if module.suffix == ".xz" else content


def bootable(kernel: bytes) -> bytes:
    """Return the kernel inside a bzImage, so that the guest need not unpack it itself, which takes it seconds.

    One in a compression that Python's library lacks is returned as it is: qemu boots that too, only slower.

    Raises:
        GuestError: it is no bzImage.
    """
    if kernel[0x202:0x206] != b"HdrS":
        raise GuestError("the kernel is no bzImage: the header's mark is missing")
    offset, length = struct.unpack_from("<II", kernel, 0x248)
    start = ((kernel[0x1F1] or 4) + 1) * 512 + offset
    payload = kernel[start : start + length]
    if payload.startswith(b"\xfd7zXZ\0"):
        return lzma.LZMADecompressor().decompress(payload)  # what follows it is its length again
    if payload.startswith(b"\x1f\x8b"):
        return zlib.decompressobj(wbits=16 + zlib.MAX_WBITS).decompress(payload)
    return kernel


def _trim(root: Path, python: str) -> None:
    for name in (*UNUSED, *(f"usr/lib/python{python}/{name}" for name in UNUSED_PYTHON)):
        shutil.rmtree(root / name, ignore_errors=True)


def _furnish(root: Path, python: str, module: bytes) -> None:
    """Add what no package brings: the folders, the names that programs expect, the module."""
    for name in ("proc", "sys", "dev", "tmp", "modules", "run", "usr/bin", "etc"):
        (root / name).mkdir(parents=True, exist_ok=True)
    (root / "modules" / MODULE).write_bytes(module)
    (root / "etc/passwd").write_text(ETC_PASSWD)
    (root / "etc/group").write_text("root:x:0:\nnogroup:x:65534:\n")
    if not (root / "lib").exists():  # later releases' packages bring neither, the base system's do
        (root / "lib").symlink_to("usr/lib")
        (root / "lib64").symlink_to("usr/lib64")
    if not (root / "bin").exists():
        (root / "bin").symlink_to("usr/bin")
    (root / "bin/sh").symlink_to("busybox")
    (root / "usr/bin/python3").symlink_to(f"python{python}")


def compile_with(root: Path, python: str, folder: Path, place: str) -> None:
    """Compile a folder with the Python in a guest's folder; see ``Image.compile``."""
    libraries = [str(root / name) for name in LIBRARY_FOLDERS]
    loader = next((root / name / LOADER for name in LIBRARY_FOLDERS if (root / name / LOADER).exists()), None)
    if loader is None:
        raise GuestError(f"{root} has no {LOADER}: Debian's libc6 packs it elsewhere now")
    command = (
        str(loader), "--library-path", ":".join(libraries), str(root / f"usr/bin/python{python}"),
        "-m", "compileall", "-q", "-s", str(folder), "-p", place, "--invalidation-mode", "unchecked-hash", str(folder),
    )  # fmt: skip
    environment = {"PYTHONHOME": str(root / "usr"), "PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    if done.returncode:
        raise GuestError(f"Python files of the guest cannot be compiled:\n{done.stdout}{done.stderr}")
