"""Transaction codes every typed object answers besides its methods, and numbers in replies.

The first two are where Android's structured interfaces have them, so that tools of both worlds find them.
"""

from __future__ import annotations

from typing import Final

GET_VERSION: Final = 0x00FFFFFE
"""() -> int32 version of the interface whose token came along"""
GET_HASH: Final = 0x00FFFFFD
"""() -> String16 hash of it"""
DESCRIBE: Final = 0x00FFFFFC
"""() -> int32 bytes and raw data: the object's interfaces as JSON (Contract.describe)"""
QUERY_INTERFACE: Final = 0x00FFFFFB
"""(String16 descriptor) -> bool, and the remote object if True"""
WATCH: Final = 0x00FFFFFA
"""(String16 property, remote watcher) -> nothing"""
UNWATCH: Final = 0x00FFFFF9
"""the same arguments -> nothing"""
LAST_METHOD: Final = 0x00FFFFEF

RAISED: Final = 20_000
"""Error code in a reply: declared exception number 0; the next is number 1."""

STREAM: Final = "binderkit.IStream"
NEXT: Final = 1
"""() -> bool whether there is an item, and the item"""
CLOSE: Final = 2

WATCHER: Final = "binderkit.IWatcher"
CHANGED: Final = 1
"""one-way: (the property's new value)"""
