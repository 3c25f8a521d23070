"""Profiles for tests: texts of files, and how they are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

TOML = """\
process = "photos"
user = "nobody"
command = ["photo-host", "--fast"]
permissions = ["ohos.permission.CAMERA"]

[environment]
PHOTOS_HOME = "/var/lib/photos"

[limits]
memory-mb = 256
open-files = 512
nice = 5

[[ability]]
id = 0x1001
name = "com.example.photos"
entry = "photos.service:Photos"
auto-restart = true
distributed = true
depend = [4700]
depend-timeout = 2.5
dump-level = 2
bootphase = "CoreStartPhase"
extension = ["backup", "backup", "restore"]
permission = "ohos.permission.READ_PHOTOS"

[ability.start-on-demand]
allow-update = true
param = [{ name = "persist.photos.enabled", value = "true", enable-once = true }]
deviceonline = [{ name = "deviceonline", value = "on" }]

[[ability.start-on-demand.commonevent]]
name = "usual.event.BATTERY"
value = ">=20"
extra-messages = { plugged = "yes" }
load-priority = "HighPriority"
conditions = [{ eventId = "param", name = "persist.photos.enabled", value = "true" }]

[ability.stop-on-demand]
unreferenced-unload = true
recycle-delay = 0.5
long-unused = 90
timedevent = [{ name = "loopevent", value = "600", persistence = true }]

[[ability]]
id = 0x1002
entry = "photos.service:Thumbnails"
run-on-create = false
depend = [0x1001]
recycle-strategy = "low-memory"
"""


def plain(**more: Any) -> dict[str, Any]:
    """Return OpenHarmony's JSON of a process with one ability, which has ``more`` fields."""
    return {"process": "plain", "systemability": [{"name": 4097, "libpath": "plain.service:Plain", **more}]}


def write(folder: Path, name: str, content: str | bytes | dict[str, Any]) -> Path:
    """Write a file (JSON of a dict) that nobody else can write; return its path."""
    path = folder / name
    if isinstance(content, dict):
        content = json.dumps(content)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    path.chmod(0o600)
    return path


def small_toml(process: str, *ids: int, more: str = "") -> str:
    """Return a profile of a process with abilities of these ids; ``more`` is added to each ability."""
    abilities = "".join(f'[[ability]]\nid = {one}\nentry = "m:C{one}"\n{more}\n' for one in ids)
    return f'process = "{process}"\n{abilities}'
