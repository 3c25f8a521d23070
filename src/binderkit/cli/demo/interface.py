"""What the demo's service and client agree on: names, codes, and the order of the values."""

from __future__ import annotations

from typing import Final

ABILITY: Final = "com.example.photos"
"""The name under which the service is registered with SAMgr."""

USER_PROFILE: Final = f"""
process = "com.example.photo-user"
remote-abilities = ["{ABILITY}"]
"""
"""A profile for a device whose programs may ask other devices for the ability."""

SERVICE: Final = "com.example.IPhotoService"
MAKE_THUMBNAILS: Final = 1
"""Ashmem with a JPEG, int list of widths, progress object, receiver object -> int count of thumbnails."""

PROGRESS: Final = "com.example.IProgress"
ON_PROGRESS: Final = 1
"""One-way: int per cent, string what is being done."""

RECEIVER: Final = "com.example.IThumbnailReceiver"
ON_THUMBNAIL: Final = 1
"""Int width, int height, int size, raw data with a JPEG; answered when it was taken."""
