"""The demo's pictures: one that looks like a photograph, its thumbnails, and how alike two are.

Needs Pillow; knows nothing of processes.
"""

from __future__ import annotations

import io
from typing import Final

from PIL import Image, ImageChops, ImageStat

SIZE: Final = (4000, 3000)
QUALITY: Final = 90
THUMBNAIL_QUALITY: Final = 92
MAX_DIFFERENCE: Final = 4.0
"""Mean difference per colour, of 255, up to which two thumbnails are the same; JPEG itself costs about 2."""


def photograph() -> bytes:
    """Return a JPEG of 12 megapixels: a sky, a landscape with fine detail, and grain as a camera has it."""
    small = (SIZE[0] // 4, SIZE[1] // 4)
    sky = Image.linear_gradient("L").resize(small)
    coast = Image.effect_mandelbrot(small, (-0.80, 0.05, -0.70, 0.13), 90).convert("L")
    bands = (
        Image.blend(sky, coast, 0.55),
        Image.blend(ImageChops.invert(sky), coast, 0.45),
        Image.blend(ImageChops.invert(sky), coast, 0.25),
    )
    scene = Image.merge("RGB", bands).resize(SIZE, Image.Resampling.BICUBIC)
    grain = Image.effect_noise((SIZE[0] // 2, SIZE[1] // 2), 40).resize(SIZE, Image.Resampling.BILINEAR)
    return encoded(Image.blend(scene, Image.merge("RGB", (grain, grain, grain)), 0.2), QUALITY)


def decoded(jpeg: bytes | memoryview) -> Image.Image:
    """Return the picture at full resolution (OSError when it is no picture)."""
    picture = Image.open(io.BytesIO(jpeg))
    picture.load()
    return picture


def thumbnail(picture: Image.Image, width: int) -> Image.Image:
    """Return ``picture`` scaled down to ``width`` pixels, in its proportions."""
    return picture.resize((width, height_for(picture, width)), Image.Resampling.LANCZOS)


def height_for(picture: Image.Image, width: int) -> int:
    """Return the height of a thumbnail of this width."""
    return max(1, round(picture.height * width / picture.width))


def encoded(picture: Image.Image, quality: int = THUMBNAIL_QUALITY) -> bytes:
    """Return ``picture`` as JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=quality)
    return buffer.getvalue()


def difference(one: Image.Image, other: Image.Image) -> float:
    """Return how much two pictures of one size differ: mean over all pixels and colours, 0 … 255."""
    means = ImageStat.Stat(ImageChops.difference(one, other)).mean
    return float(sum(means) / len(means))
