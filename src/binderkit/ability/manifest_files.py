"""What a bundle's manifest file looks like: our bundle.toml, and OpenHarmony's module.json with app.json.

Owns: the structure of the files and its translation into the model of manifest.py. Imported only when a file is read,
because it needs msgspec.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta, Struct, field

from binderkit.ability.manifest import (
    APP_FILES,
    MAX_FILE,
    SERVICE,
    AbilityManifest,
    Bundle,
    check_bundle,
)
from binderkit.samgr.documents import TOML, Mistakes, converted, read_document, texts

PAGE: Final = "page"
"""The type of OpenHarmony's UIAbility."""
MAX_TEXT: Final = 255
Text = Annotated[str, Meta(min_length=1, max_length=MAX_TEXT)]


class _Ability(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    name: Text
    type: Literal["service", "page", "form", "workScheduler", "inputMethod", "backup"] = SERVICE
    exported: bool = False
    permissions: list[Text] = []
    entry: str = ""
    process: str = ""


class _Manifest(Struct, frozen=True, forbid_unknown_fields=True, rename="kebab", kw_only=True):
    name: Text
    version: str = "1.0.0"
    module: Text = "entry"
    request_permissions: list[Text] = []
    ability: list[_Ability]


class _Permission(Struct, frozen=True):
    name: Text


class _Extension(Struct, frozen=True, rename="camel", kw_only=True):
    name: Text
    type: Text
    exported: bool = False
    permissions: list[Text] = []
    src_entry: str = ""
    process: str = ""


class _Page(Struct, frozen=True):
    name: Text
    exported: bool = False


class _Module(Struct, frozen=True, rename="camel", kw_only=True):
    name: Text
    process: str = ""
    extension_abilities: list[_Extension] = []
    abilities: list[_Page] = []
    request_permissions: list[_Permission] = []


class _App(Struct, frozen=True, rename="camel", kw_only=True):
    bundle_name: Text
    version_name: str = "1.0.0"


class _AppFile(Struct, frozen=True):
    app: _App


class _ModuleFile(Struct, frozen=True):
    module: _Module
    app: _App | None = field(default=None)


def read_bundle(path: Path) -> Bundle:
    """Return the bundle of a manifest file; see manifest.load_bundle."""
    path = path.absolute()
    mistakes = Mistakes(path)
    document = read_document(path, MAX_FILE, mistakes)
    if path.suffix == TOML:
        manifest = converted(document, _Manifest, mistakes)
        _check_texts(document, mistakes)
        bundle, table = _from_toml(path.parent, manifest), "ability"
    else:
        module = converted(document, _ModuleFile, mistakes)
        bundle, table = (
            _from_module(path.parent, module, module.app or _app_beside(path, mistakes)),
            "extensionAbilities",
        )
    check_bundle(bundle, mistakes, table)
    return bundle


def _check_texts(document: dict[str, object], mistakes: Mistakes) -> None:
    for place, text in texts(document):
        if len(text) > MAX_TEXT:
            mistakes.add(place, f"a text of {len(text)} characters; allowed are {MAX_TEXT}")
        elif not text.isprintable():
            mistakes.add(place, f"{text[:40]!r} has control characters, which would spoil logs")


def _app_beside(path: Path, mistakes: Mistakes) -> _App:
    """Return what app.json says: beside the module's file, or where OpenHarmony's projects have it."""
    folders = (path.parent, path.parent / "AppScope", path.parent.parent.parent.parent / "AppScope")
    for file in (folder / name for folder in folders for name in APP_FILES):
        if file.is_file():
            beside = Mistakes(file)
            return converted(read_document(file, MAX_FILE, beside), _AppFile, beside).app
    mistakes.fail("app", 'it is missing: put {"app": {"bundleName": …}} here or into app.json5 beside this file')


def _from_toml(folder: Path, raw: _Manifest) -> Bundle:
    return Bundle(
        name=raw.name,
        version=raw.version,
        module=raw.module,
        abilities=tuple(
            AbilityManifest(
                name=one.name,
                type=one.type,
                exported=one.exported,
                permissions=tuple(one.permissions),
                entry=_absolute(folder, one.entry),
                process=one.process or raw.name,
            )
            for one in raw.ability
        ),
        request_permissions=tuple(raw.request_permissions),
        path=folder,
    )


def _from_module(folder: Path, raw: _ModuleFile, app: _App) -> Bundle:
    module = raw.module
    own = app.bundle_name
    pages = [
        AbilityManifest(page.name, PAGE, page.exported, (), "", module.process or own) for page in module.abilities
    ]
    services = [
        AbilityManifest(
            name=one.name,
            type=one.type,
            exported=one.exported,
            permissions=tuple(one.permissions),
            entry=_absolute(folder, one.src_entry) if one.type == SERVICE else "",
            process=_process(one.process or module.process, own),
        )
        for one in module.extension_abilities
    ]
    return Bundle(
        name=own,
        version=app.version_name,
        module=module.name,
        abilities=(*services, *pages),
        request_permissions=tuple(dict.fromkeys(permission.name for permission in module.request_permissions)),
        path=folder,
    )


def _process(name: str, bundle: str) -> str:
    """Return a process's name; ":name" is short for one of the bundle's own."""
    return f"{bundle}.{name[1:]}" if name.startswith(":") else name or bundle


def _absolute(folder: Path, entry: str) -> str:
    """Return an entry whose file, if it names one, is found from everywhere."""
    file, colon, name = entry.partition(":")
    return f"{folder / file}{colon}{name}" if file.endswith(".py") else entry
