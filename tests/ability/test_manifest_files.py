"""ability/manifest_files.py: both formats, and every mistake in them."""

from __future__ import annotations

from pathlib import Path

import pytest

from binderkit.ability.manifest import AbilityManifest, load_bundle
from binderkit.errors import ProfileError
from tests.ability.manifests import APP, MODULE, TOML, folder, small

PHOTOS = "com.example.photos"


def test_our_toml(tmp_path: Path) -> None:
    path = folder(tmp_path, "b", bundle__toml=TOML)
    bundle = load_bundle(path)
    assert (bundle.name, bundle.version, bundle.module, bundle.path) == (PHOTOS, "2.1", "main", path)
    assert bundle.request_permissions == ("ohos.permission.CAMERA",)
    assert bundle.abilities == (
        AbilityManifest("Thumbs", "service", True, ("ohos.permission.READ_PHOTOS",), "photos.ability:Thumbs", PHOTOS),
        AbilityManifest("Album", "service", False, (), f"{path}/album.py:Album", "album-process"),
        AbilityManifest("Main", "page", False, (), "", PHOTOS),
    )
    assert bundle.ability("Album") is bundle.abilities[1] and bundle.ability("None") is None
    assert load_bundle(path / "bundle.toml") == bundle


def test_openharmonys_files(tmp_path: Path) -> None:
    bundle = load_bundle(folder(tmp_path, "b", module__json5=MODULE, app__json5=APP))
    assert (bundle.name, bundle.version, bundle.module) == (PHOTOS, "1.2.3", "entry")
    assert bundle.request_permissions == ("ohos.permission.CAMERA",)
    assert bundle.abilities == (
        AbilityManifest("Thumbs", "service", True, (), "photos.ability:Thumbs", f"{PHOTOS}.thumbs"),
        AbilityManifest("Form", "form", False, (), "", PHOTOS),
        AbilityManifest("Main", "page", True, (), "", PHOTOS),
    )


def test_the_bundles_name_is_also_found_where_projects_have_it(tmp_path: Path) -> None:
    place = tmp_path / "entry" / "src" / "main"
    place.mkdir(parents=True)
    (place / "module.json5").write_text(MODULE)
    (tmp_path / "AppScope").mkdir()
    (tmp_path / "AppScope" / "app.json5").write_text(APP)
    assert load_bundle(place / "module.json5").name == PHOTOS


MISTAKES = [
    ("", "name", "it is missing"),
    ('name = "x.y"', "ability", "it is missing"),
    ('name = "x.y"\nability = []', "ability", "0 abilities, expected 1 to 256"),
    (small(name="x"), "name", "'x' is no bundle's name; they are like 'com.example.photos'"),
    (small(name="../x.y"), "name", "is no bundle's name"),
    (small(name="x." + "y" * 260), "name", "length <= 255"),
    (small(ability="a b"), "ability[0].name", "is no name of an ability"),
    (small(more="exported = 1"), "ability[0].exported", "expected true or false"),
    (small(more='type = "services"'), "ability[0].type", "invalid enum value 'services'"),
    (small(more='permission = "a"'), "ability[0].permission", "did you mean 'permissions'?"),
    (small(more='permissions = ["a b"]'), "ability[0].permissions", "'a b' is no permission"),
    (small(more='process = "a/b"'), "ability[0].process", "'a/b' is no name"),
    (small().replace("m:C", "lib.so"), "ability[0].entry", "native library"),
    (small().replace('entry = "m:C"', ""), "ability[0].entry", "names no class"),
    (small().replace("m:C", "m:\\u0007"), "ability[0].entry", "control characters"),
    (small(more='[[ability]]\nname = "One"\nentry = "m:C"'), "ability[1].name", "another ability is called 'One' too"),
    ('request-permissions = [""]\n' + small(), "request-permissions[0]", "length >= 1"),
    ('request-permissions = ["?"]\n' + small(), "request-permissions[0]", "'?' is no permission"),
]


def test_mistakes(tmp_path: Path) -> None:
    path = folder(tmp_path, "b", bundle__toml="") / "bundle.toml"
    for text, field, why in MISTAKES:
        path.write_text(text)
        with pytest.raises(ProfileError) as caught:
            load_bundle(path)
        found = caught.value.problems
        assert any(one.startswith(f"{path}: {field}: ") and why in one for one in found), (text, found)


def test_mistakes_in_openharmonys_files(tmp_path: Path) -> None:
    path = folder(tmp_path, "b", module__json5=MODULE)
    with pytest.raises(ProfileError, match=r"app: it is missing: put .* or into app.json5"):
        load_bundle(path)
    (path / "app.json5").write_text('{"app": {}}')
    with pytest.raises(ProfileError, match=r"app.json5: app.bundleName: it is missing"):
        load_bundle(path)
    (path / "app.json5").write_text(APP)
    (path / "module.json5").write_text(MODULE.replace("photos.ability:Thumbs", "./ets/Thumbs.ets"))
    with pytest.raises(ProfileError, match=r"extensionAbilities\[0\].entry: './ets/Thumbs.ets' names no class"):
        load_bundle(path)
