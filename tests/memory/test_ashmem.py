"""Ashmem: shared memory with a protection that only narrows."""

from __future__ import annotations

import fcntl
import gc
import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from typing import Any

import numpy
import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.errors import (
    AshmemError,
    AshmemReadError,
    AshmemWriteError,
    IpcError,
    MmapError,
    ParamTypeError,
    ParamValueError,
    ProtectionError,
)
from binderkit.memory.ashmem import Ashmem

READ, WRITE, NONE = Ashmem.PROT_READ, Ashmem.PROT_WRITE, Ashmem.PROT_NONE


@pytest.fixture
def region() -> Iterator[Ashmem]:
    with Ashmem.create("test", 4096) as ashmem:
        yield ashmem


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


# --- making one ------------------------------------------------------------------------------------


def test_the_constants_of_openharmony() -> None:
    assert (Ashmem.PROT_NONE, Ashmem.PROT_READ, Ashmem.PROT_WRITE, Ashmem.PROT_EXEC) == (0, 1, 2, 4)


def test_create(region: Ashmem) -> None:
    assert region.get_ashmem_size() == 4096
    assert os.readlink(f"/proc/self/fd/{region._fd}") == "/memfd:test (deleted)"
    assert not os.get_inheritable(region._fd)
    with pytest.raises(OSError):
        os.ftruncate(region._fd, 10)
    with pytest.raises(OSError):
        os.ftruncate(region._fd, 10_000)


@pytest.mark.parametrize(
    ("name", "size", "error"),
    [
        ("", 10, ParamValueError),
        ("a\0b", 10, ParamValueError),
        ("\ud800", 10, ParamValueError),
        ("x" * 250, 10, ParamValueError),
        ("x", 0, ParamValueError),
        ("x", -1, ParamValueError),
        ("x", 2**31, ParamValueError),
        (None, 10, ParamTypeError),
        (5, 10, ParamTypeError),
        ("x", None, ParamTypeError),
        ("x", "10", ParamTypeError),
        ("x", 10.0, ParamTypeError),
        ("x", True, ParamTypeError),
    ],
)
def test_create_refusals(name: Any, size: Any, error: type[IpcError]) -> None:
    with pytest.raises(error) as caught:
        Ashmem.create(name, size)
    assert caught.value.code == 401


def test_the_longest_name_and_the_largest_size() -> None:
    with Ashmem.create("é" * 124 + "x", 2**31 - 1) as ashmem:  # sparse: takes no memory until it is touched
        ashmem.map_read_write_ashmem()
        ashmem.write_data_to_ashmem(b"end", 3, 2**31 - 4)
        assert ashmem.read_data_from_ashmem(3, 2**31 - 4) == b"end"


def test_a_second_holder_of_the_same_memory(region: Ashmem) -> None:
    with Ashmem.create(region) as second:
        region.map_read_write_ashmem()
        with pytest.raises(AshmemReadError, match="not mapped"):
            second.read_data_from_ashmem(1, 0)
        second.map_read_write_ashmem()
        region.write_data_to_ashmem(b"both", 4, 10)
        assert second.read_data_from_ashmem(4, 10) == b"both"
        region.close_ashmem()
        assert second.read_data_from_ashmem(4, 10) == b"both"
        with pytest.raises(ParamTypeError, match="takes no size"):
            Ashmem.create(second, 10)  # type: ignore[call-overload]
    with pytest.raises(MmapError, match="was closed"):
        Ashmem.create(region)


# --- closing ----------------------------------------------------------------------------------------


def test_closed_exactly_once() -> None:
    ashmem = Ashmem.create("x", 10)
    fd = ashmem._fd
    ashmem.close_ashmem()
    other = os.open("/dev/null", os.O_RDONLY)
    assert other == fd
    ashmem.close_ashmem()
    del ashmem
    gc.collect()
    os.close(other)  # still ours


def test_after_closing(region: Ashmem) -> None:
    region.map_read_write_ashmem()
    region.close_ashmem()
    assert region.get_ashmem_size() == 4096
    assert repr(region) == "<Ashmem 'test' 4096 bytes closed>"
    region.unmap_ashmem()
    for call, error in (
        (region.map_readonly_ashmem, MmapError),
        (lambda: region.set_protection_type(READ), ProtectionError),
        (lambda: region.write_data_to_ashmem(b"x", 1, 0), AshmemWriteError),
        (lambda: region.read_data_from_ashmem(1, 0), AshmemReadError),
        (region.view, AshmemReadError),
    ):
        with pytest.raises(error):
            call()


def test_forgetting_to_close_is_a_warning() -> None:
    before = descriptors()
    ashmem = Ashmem.create("lost", 10)
    ashmem.map_readonly_ashmem()
    with pytest.warns(ResourceWarning, match=r"<Ashmem 'lost' 10 bytes .* was not closed"):
        del ashmem
    assert descriptors() == before


def test_a_failed_constructor_warns_of_nothing() -> None:
    with warnings.catch_warnings(record=True) as caught, pytest.raises(TypeError):
        Ashmem()  # type: ignore[call-arg]
    assert caught == []


# --- mapping ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("map_type", range(8))
def test_what_a_mapping_grants(region: Ashmem, map_type: int) -> None:
    region.map_typed_ashmem(map_type)
    if map_type & WRITE:
        region.write_data_to_ashmem(b"x", 1, 0)
    else:
        with pytest.raises(AshmemWriteError):
            region.write_data_to_ashmem(b"x", 1, 0)
    if map_type & READ:
        assert region.read_data_from_ashmem(1, 0) in (b"x", b"\0")
        assert region.view().readonly is not bool(map_type & WRITE)
    else:
        with pytest.raises(AshmemReadError):
            region.read_data_from_ashmem(1, 0)
        with pytest.raises(AshmemReadError):
            region.view()


def test_bad_mappings(region: Ashmem) -> None:
    for wrong in (-1, 8):
        with pytest.raises(ParamValueError):
            region.map_typed_ashmem(wrong)
    for no_int in (None, "1", 1.0, True):
        with pytest.raises(ParamTypeError):
            region.map_typed_ashmem(no_int)  # type: ignore[arg-type]


def test_unmap_and_map_again(region: Ashmem) -> None:
    before = descriptors()
    region.unmap_ashmem()
    region.map_read_write_ashmem()
    region.write_data_to_ashmem(b"x", 1, 0)
    region.map_readonly_ashmem()
    assert region.read_data_from_ashmem(1, 0) == b"x"
    region.unmap_ashmem()
    with pytest.raises(AshmemReadError, match="not mapped"):
        region.read_data_from_ashmem(1, 0)
    assert descriptors() == before


def test_views_outlive_everything() -> None:
    before = descriptors()
    with Ashmem.create("x", 100) as ashmem:
        ashmem.map_read_write_ashmem()
        view = ashmem.view()
        numbers = numpy.frombuffer(ashmem.view(), dtype="B")
        numbers[5] = 77
        assert ashmem.read_data_from_ashmem(1, 5) == b"\x4d"
        ashmem.unmap_ashmem()
    assert (view[5], numbers[5], len(view)) == (77, 77, 100)
    view[5] = 78
    del view
    assert numbers[5] == 78
    del numbers
    assert descriptors() == before


# --- reading and writing ------------------------------------------------------------------------------


@given(st.binary(min_size=1, max_size=300), st.integers(-2, 130), st.integers(-2, 300))
def test_nothing_outside_the_region(data: bytes, offset: int, size: int) -> None:
    with Ashmem.create("x", 128) as ashmem:
        ashmem.map_read_write_ashmem()
        if size <= 0 or offset < 0 or offset + size > 128:
            with pytest.raises(AshmemWriteError) as write:
                ashmem.write_data_to_ashmem(data, size, offset)
            with pytest.raises(AshmemReadError) as read:
                ashmem.read_data_from_ashmem(size, offset)
            assert (write.value.code, read.value.code) == (1900003, 1900004)
        elif size > len(data):
            with pytest.raises(ParamValueError):
                ashmem.write_data_to_ashmem(data, size, offset)
        else:
            ashmem.write_data_to_ashmem(data, size, offset)
            expected = bytes(offset) + data[:size] + bytes(128 - offset - size)
            assert bytes(ashmem.view()) == expected
            assert ashmem.read_data_from_ashmem(size, offset) == data[:size]


def test_any_buffer_can_be_written(region: Ashmem) -> None:
    region.map_read_write_ashmem()
    numbers = numpy.arange(6, dtype="h").reshape(2, 3)
    region.write_data_to_ashmem(numbers, 12, 0)
    assert numpy.frombuffer(region.view()[:12], dtype="h").tolist() == [0, 1, 2, 3, 4, 5]
    for wrong in (None, 5, "text", [1], numbers.T):
        with pytest.raises(ParamTypeError):
            region.write_data_to_ashmem(wrong, 1, 0)
    for size, offset in ((None, 0), (1, None), ("1", 0), (1, True)):
        with pytest.raises(ParamTypeError):
            region.write_data_to_ashmem(b"xx", size, offset)  # type: ignore[arg-type]
        with pytest.raises(ParamTypeError):
            region.read_data_from_ashmem(size, offset)  # type: ignore[arg-type]
    with pytest.raises(ParamValueError):
        region.write_data_to_ashmem(b"", 1, 0)


# --- protection ------------------------------------------------------------------------------------------


def test_writes_fail_after_narrowing_although_it_is_mapped(region: Ashmem) -> None:
    region.map_read_write_ashmem()
    region.write_data_to_ashmem(b"old", 3, 0)
    region.set_protection_type(READ)
    with pytest.raises(AshmemWriteError, match="only protection 1 is allowed"):
        region.write_data_to_ashmem(b"new", 3, 0)
    assert region.read_data_from_ashmem(3, 0) == b"old"
    assert region.view().readonly
    with pytest.raises(MmapError):
        region.map_read_write_ashmem()
    region.map_readonly_ashmem()
    assert region.read_data_from_ashmem(3, 0) == b"old"


@given(st.lists(st.integers(-1, 9), max_size=6))
def test_protection_only_narrows(masks: list[int]) -> None:
    allowed = 7
    with Ashmem.create("x", 10) as ashmem:
        for mask in masks:
            if mask >= 0 and mask & ~allowed == 0:
                ashmem.set_protection_type(mask)
                allowed = mask
            else:
                with pytest.raises(ProtectionError) as caught:
                    ashmem.set_protection_type(mask)
                assert caught.value.code == 1900002
            for map_type in range(8):
                if map_type & ~allowed:
                    with pytest.raises(MmapError):
                        ashmem.map_typed_ashmem(map_type)
                else:
                    ashmem.map_typed_ashmem(map_type)


def test_none_is_the_end(region: Ashmem) -> None:
    region.map_readonly_ashmem()
    region.set_protection_type(WRITE | READ)
    with pytest.raises(ParamTypeError):
        region.set_protection_type(None)  # type: ignore[arg-type]
    region.set_protection_type(NONE)
    region.set_protection_type(NONE)
    with pytest.raises(ProtectionError):
        region.set_protection_type(READ)
    with pytest.raises(AshmemReadError):
        region.read_data_from_ashmem(1, 0)


def test_one_protection_for_all_holders(region: Ashmem) -> None:
    with Ashmem.create(region) as second:
        second.map_read_write_ashmem()
        region.set_protection_type(READ)
        with pytest.raises(AshmemWriteError):
            second.write_data_to_ashmem(b"x", 1, 0)
        with pytest.raises(ProtectionError):
            second.set_protection_type(WRITE)


# --- received descriptors ------------------------------------------------------------------------------


def test_a_received_descriptor_becomes_ours(region: Ashmem) -> None:
    region.map_read_write_ashmem()
    region.write_data_to_ashmem(b"abc", 3, 0)
    fd = region._dup()
    with Ashmem._from_fd(fd, 3) as received:
        received.map_readonly_ashmem()
        assert received.view().tobytes() == b"abc"
    with pytest.raises(OSError):
        os.fstat(fd)


def test_a_read_only_descriptor(region: Ashmem) -> None:
    fd = os.open(f"/proc/self/fd/{region._fd}", os.O_RDONLY | os.O_CLOEXEC)
    with Ashmem._from_fd(fd, 4096) as received:
        with pytest.raises(MmapError):
            received.map_read_write_ashmem()
        received.map_readonly_ashmem()


@pytest.mark.parametrize("seals", [0, fcntl.F_SEAL_GROW, fcntl.F_SEAL_SEAL])
def test_memory_that_could_shrink_is_refused(seals: int) -> None:
    fd = os.memfd_create("evil", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(fd, 100)
    fcntl.fcntl(fd, fcntl.F_ADD_SEALS, seals)
    with pytest.raises(AshmemError, match="not sealed against shrinking"):
        Ashmem._from_fd(fd, 100)
    with pytest.raises(OSError):
        os.fstat(fd)


@pytest.mark.parametrize("size", [-1, 0, 4097, 2**31 - 1])
def test_a_size_that_lies(region: Ashmem, size: int) -> None:
    before = descriptors()
    with pytest.raises(AshmemError, match="the memory has 4096"):
        Ashmem._from_fd(region._dup(), size)
    assert descriptors() == before


def test_what_is_no_memfd() -> None:
    before = descriptors()
    reader, writer = os.pipe()
    for fd in (reader, writer, os.open("/dev/null", os.O_RDWR), os.open("/etc", os.O_RDONLY)):
        with pytest.raises(AshmemError, match="no memfd"):
            Ashmem._from_fd(fd, 10)
    assert descriptors() == before


# --- another process -------------------------------------------------------------------------------------


_BAD_INTENTIONS = """
import mmap, os, sys
fd, done = int(sys.argv[1]), []
attempts = {
    "map": lambda: mmap.mmap(fd, 100, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ | mmap.PROT_WRITE),
    "write": lambda: os.pwrite(fd, b"x", 0),
    "reopen": lambda: os.pwrite(os.open(f"/proc/self/fd/{fd}", os.O_RDWR), b"x", 0),
    "truncate": lambda: os.ftruncate(fd, 10),
}
for name, attempt in attempts.items():
    try:
        attempt()
    except OSError:
        continue
    done.append(name)
print(done, mmap.mmap(fd, 100, flags=mmap.MAP_SHARED, prot=mmap.PROT_READ)[:5])
"""


@pytest.mark.parametrize(("narrowed", "done"), [(True, "[]"), (False, "['map', 'write', 'reopen']")])
def test_what_another_process_can_do_with_the_descriptor(narrowed: bool, done: str) -> None:
    with Ashmem.create("x", 100) as ashmem:
        ashmem.map_read_write_ashmem()
        ashmem.write_data_to_ashmem(b"xroof", 5, 0)
        if narrowed:
            ashmem.set_protection_type(READ)
        child = subprocess.run(
            [sys.executable, "-c", _BAD_INTENTIONS, str(ashmem._fd)],
            pass_fds=[ashmem._fd],
            capture_output=True,
            text=True,
            timeout=30,
            check=True,
        )
        assert child.stdout.strip() == f"{done} b'xroof'"
