"""Manifests for tests."""

from __future__ import annotations

from pathlib import Path

TOML = """\
name = "com.example.photos"
version = "2.1"
module = "main"
request-permissions = ["ohos.permission.CAMERA"]

[[ability]]
name = "Thumbs"
exported = true
permissions = ["ohos.permission.READ_PHOTOS"]
entry = "photos.ability:Thumbs"

[[ability]]
name = "Album"
entry = "album.py:Album"
process = "album-process"

[[ability]]
name = "Main"
type = "page"
"""

MODULE = """\
{
  // OpenHarmony's own file, with much that means nothing here
  "module": {
    "name": "entry", "type": "entry", "deviceTypes": ["phone"], "pages": "$profile:main_pages",
    "abilities": [{"name": "Main", "srcEntry": "./ets/Main.ets", "exported": true}],
    "extensionAbilities": [
      {"name": "Thumbs", "type": "service", "exported": true, "srcEntry": "photos.ability:Thumbs",
       "process": ":thumbs"},
      {"name": "Form", "type": "form", "srcEntry": "./ets/Form.ets"},
    ],
    "requestPermissions": [{"name": "ohos.permission.CAMERA", "reason": "$string:why", "usedScene": {}},],
  }
}
"""
APP = '{"app": {"bundleName": "com.example.photos", "versionCode": 1, "versionName": "1.2.3", "icon": "$media:i"}}'


def small(name: str = "com.example.small", ability: str = "One", more: str = "") -> str:
    """Return the manifest of a bundle with one ability."""
    return f'name = "{name}"\n[[ability]]\nname = "{ability}"\nentry = "m:C"\n{more}\n'


def folder(place: Path, name: str, **files: str) -> Path:
    """Make a bundle's folder with these files (two underscores in a name stand for a dot); return it."""
    path = place / name
    path.mkdir(mode=0o700)
    for file, content in files.items():
        (path / file.replace("__", ".")).write_text(content)
        (path / file.replace("__", ".")).chmod(0o600)
    return path
