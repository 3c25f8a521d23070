"""A typed service in another process: a callback, a property that is watched, a stream, a declared error.

The contract is two classes with hints. Type checkers check service and client against it; there are no codes and no
parcels to write.
"""

from __future__ import annotations

import queue
from collections.abc import Iterator
from dataclasses import dataclass

import binderkit as bk
from binderkit.interface import Interface, Property, UInt8, method, proxy, raises, watch


@dataclass
class Photo:
    """A grey picture: ``height`` rows of ``width`` bytes."""

    name: str
    width: int
    height: int
    pixels: bytes


@dataclass
class BadPhoto(Exception):
    """A photo was refused. It arrives at the client as itself."""

    name: str
    reason: str


class IProgress(Interface, descriptor="com.example.IProgress"):
    """What a client implements to hear how far the service is."""

    @method
    def done(self, part: float) -> None: ...


class IAlbum(Interface, descriptor="com.example.IAlbum"):
    """A collection of photos."""

    count = Property(int, readonly=True)

    @method
    @raises(BadPhoto)
    def add(self, photo: Photo) -> None: ...

    @method
    def brighten(self, name: str, by: UInt8 = 16, *, progress: IProgress | None = None) -> Photo: ...

    @method
    def photos(self) -> Iterator[Photo]:
        """Every photo, one at a time: only one is on its way, however many there are."""


class Album(IAlbum):
    """The service. Lives in the child process."""

    def __init__(self) -> None:
        self._photos: dict[str, Photo] = {}
        self.count = 0

    def add(self, photo: Photo) -> None:
        """Keep a photo, and tell those who watch the count."""
        if len(photo.pixels) != photo.width * photo.height:
            raise BadPhoto(photo.name, f"{len(photo.pixels)} pixels for {photo.width} x {photo.height}")
        self._photos[photo.name] = photo
        self.count = len(self._photos)

    def brighten(self, name: str, by: int = 16, *, progress: IProgress | None = None) -> Photo:
        """Return a brighter photo; calls the client back after each half."""
        old = self._photos[name]
        middle = len(old.pixels) // 2
        bright = b""
        for part, half in ((0.5, old.pixels[:middle]), (1.0, old.pixels[middle:])):
            bright += bytes(min(pixel + by, 255) for pixel in half)
            if progress is not None:
                progress.done(part)
        return Photo(f"{name}, brighter", old.width, old.height, bright)

    def photos(self) -> Iterator[Photo]:
        """Give one photo after the other."""
        yield from self._photos.values()


class Progress(IProgress):
    """Lives here; the service holds a proxy of it while it works."""

    def done(self, part: float) -> None:
        """The service calls this while we wait for its answer."""
        print(f"the service is at {part:.0%}")


def main() -> None:
    """Use an album of another process."""
    counts: queue.Queue[int] = queue.Queue()
    with bk.spawn(Album) as child:
        album = proxy(IAlbum, child.root)
        with watch(album, IAlbum.count, counts.put):
            album.add(Photo("stairs", 40, 30, bytes(1200)))
            album.add(Photo("garden", 20, 20, bytes(400)))
            print("told of the count:", counts.get(timeout=10), counts.get(timeout=10))
        try:
            album.add(Photo("torn", 20, 20, b"half of it"))
        except BadPhoto as error:
            print(f"refused {error.name}: {error.reason}")
        brighter = album.brighten("garden", by=100, progress=Progress())
        print(f"{brighter.name}: every pixel is {set(brighter.pixels)}")
        for photo in album.photos():
            print(f"{photo.name} has {photo.width} x {photo.height}")
        print("and", album.count, "photos are there")


if __name__ == "__main__":
    main()
