"""cli/demo/photo_service.py: the service's work, called directly."""

from __future__ import annotations

import pytest
from PIL import Image

import binderkit as bk
from binderkit.cli.demo import picture
from binderkit.cli.demo.client import Progress, Receiver, make_thumbnails
from binderkit.cli.demo.photo_service import PhotoService
from binderkit.errors import IpcError


def ashmem_with(data: bytes) -> bk.Ashmem:
    ashmem = bk.Ashmem.create("tests-photo", len(data))
    ashmem.map_read_write_ashmem()
    ashmem.write_data_to_ashmem(data, len(data), 0)
    return ashmem


def test_thumbnails_and_progress_come_in_order() -> None:
    photo = Image.linear_gradient("L").convert("RGB")
    taken: list[tuple[int, int, bytes, int]] = []
    progress = Progress()
    with ashmem_with(picture.encoded(photo)) as ashmem:
        receiver = Receiver(lambda *thumbnail: taken.append(thumbnail))
        assert make_thumbnails(PhotoService(), ashmem, [64, 32], progress, receiver) == 2
    assert [(width, height) for width, height, _, _ in taken] == [(64, 64), (32, 32)]
    for width, _, jpeg, _ in taken:
        assert picture.difference(picture.decoded(jpeg), picture.thumbnail(photo, width)) < picture.MAX_DIFFERENCE
    assert [percent for percent, _ in progress.reports] == [0, 50, 100]


def test_what_is_no_picture_is_the_callers_error() -> None:
    with ashmem_with(b"no picture at all") as ashmem, pytest.raises(IpcError, match="cannot identify image"):
        make_thumbnails(PhotoService(), ashmem, [64], Progress(), Receiver(lambda *_: None))
