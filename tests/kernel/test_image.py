"""tests/kernel/guest/image.py: the kernel inside its package, and the cache's names."""

from __future__ import annotations

import gzip
import lzma
import struct
from pathlib import Path

import pytest

from tests.kernel.guest import image
from tests.kernel.guest.errors import GuestError, GuestUnavailable

KERNEL = b"\x7fELF" + bytes(range(256)) * 40


def bz_image(payload: bytes, setup_sectors: int = 3) -> bytes:
    """Return a bzImage: its header as x86/boot has it, then 64 bytes of code, then the payload and its length."""
    head = bytearray(((setup_sectors or 4) + 1) * 512 + 64)
    head[0x1F1] = setup_sectors
    head[0x202:0x206] = b"HdrS"
    struct.pack_into("<II", head, 0x248, 64, len(payload) + 4)
    return bytes(head) + payload + struct.pack("<I", len(KERNEL)) + b"what follows"


@pytest.mark.parametrize("setup_sectors", [0, 3, 29])
@pytest.mark.parametrize("compress", [lzma.compress, gzip.compress])
def test_the_kernel_is_taken_out_of_its_image(compress: object, setup_sectors: int) -> None:
    assert callable(compress)
    assert image.bootable(bz_image(compress(KERNEL), setup_sectors)) == KERNEL


def test_a_kernel_in_another_compression_is_left_as_it_is() -> None:
    zstandard = bz_image(b"\x28\xb5\x2f\xfd" + bytes(100))
    assert image.bootable(zstandard) == zstandard


def test_something_else_is_no_kernel() -> None:
    with pytest.raises(GuestError, match="no bzImage"):
        image.bootable(KERNEL)


@pytest.mark.parametrize(("suffix", "packed"), [("", b"module"), (".xz", lzma.compress(b"module"))])
def test_the_module_is_found_and_unpacked(tmp_path: Path, suffix: str, packed: bytes) -> None:
    folder = tmp_path / "lib/modules/6.1/kernel/drivers/android"
    folder.mkdir(parents=True)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1").write_bytes(bz_image(gzip.compress(KERNEL)))
    with pytest.raises(GuestUnavailable, match="without Binder"):
        image.kernel_parts(tmp_path)
    (folder / f"binder_linux.ko{suffix}").write_bytes(packed)
    assert image.kernel_parts(tmp_path) == (KERNEL, b"module")
    (tmp_path / "boot/vmlinuz-6.1").unlink()
    with pytest.raises(GuestError, match="vmlinuz"):
        image.kernel_parts(tmp_path)


def test_the_name_of_an_image_follows_from_its_packages() -> None:
    assert image.key_of({"a": "1", "b": "2"}) == image.key_of({"b": "2", "a": "1"})
    assert image.key_of({"a": "1", "b": "2"}) != image.key_of({"a": "1", "b": "3"})


def test_the_cache_is_where_caches_are(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert image.cache_folder() == tmp_path / "binderkit-guest"
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert image.cache_folder() == tmp_path / "home/.cache/binderkit-guest"


def test_images_of_other_versions_are_deleted_and_packages_too(tmp_path: Path) -> None:
    (tmp_path / "image-old").mkdir()
    (tmp_path / "image-new").mkdir()
    (tmp_path / "packages").mkdir()
    kept, gone = tmp_path / "packages/a_2_amd64.deb", tmp_path / "packages/a_1_amd64.deb"
    kept.touch()
    gone.touch()
    image._forget_others(tmp_path, image.Image(tmp_path / "image-new", "3.11", "new"), {"a": kept})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image-new", "packages"]
    assert list((tmp_path / "packages").iterdir()) == [kept]


def test_a_build_that_fails_leaves_nothing(tmp_path: Path) -> None:
    built = image.Image(tmp_path / "image-x", "3.11", "x")
    with pytest.raises((GuestError, FileNotFoundError)):
        image.build(built, {"kernel": tmp_path / "missing.deb"}, "kernel")
    assert list(tmp_path.iterdir()) == []
