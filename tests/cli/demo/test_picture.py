"""cli/demo/picture.py: thumbnails that can be told apart."""

from __future__ import annotations

import pytest
from PIL import Image

from binderkit.cli.demo import picture


def test_the_photograph_is_a_jpeg_of_many_pixels() -> None:
    jpeg = picture.photograph()
    photo = picture.decoded(jpeg)
    assert photo.size == picture.SIZE and photo.format == "JPEG"
    assert len(jpeg) > 1_000_000
    small = picture.thumbnail(photo, 160)
    again = picture.decoded(picture.encoded(small))
    assert small.size == (160, 120)
    assert picture.difference(small, again) < picture.MAX_DIFFERENCE
    upside_down = small.transpose(Image.Transpose.FLIP_TOP_BOTTOM)
    assert picture.difference(small, upside_down) > picture.MAX_DIFFERENCE


def test_a_thumbnail_keeps_the_proportions_and_at_least_one_pixel() -> None:
    assert picture.thumbnail(Image.new("RGB", (300, 200)), 30).size == (30, 20)
    assert picture.thumbnail(Image.new("RGB", (1000, 2)), 10).size == (10, 1)


def test_what_is_no_picture_is_an_os_error() -> None:
    with pytest.raises(OSError):
        picture.decoded(b"no picture")
    with pytest.raises(OSError):
        picture.decoded(picture.encoded(Image.new("RGB", (50, 50)))[:300])
