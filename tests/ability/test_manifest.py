"""ability/manifest.py: bundles and where they are."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from binderkit.ability import manifest
from binderkit.ability.manifest import BundleDirectory, default_directory, load_bundle
from binderkit.errors import ParamValueError, ProfileError
from tests.ability.manifests import APP, MODULE, TOML, folder, small

PHOTOS = "com.example.photos"


@pytest.fixture
def directory(tmp_path: Path) -> BundleDirectory:
    (tmp_path / "bundles").mkdir(mode=0o700)
    return BundleDirectory(tmp_path / "bundles")


def test_where_bundles_are(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BINDERKIT_BUNDLES", raising=False)
    assert default_directory() == BundleDirectory().path == runtime_dir / "bundles"
    monkeypatch.setenv("BINDERKIT_BUNDLES", "/x")
    assert default_directory() == Path("/x")


def test_a_folder_has_one_manifest(tmp_path: Path) -> None:
    with pytest.raises(ProfileError, match=r"no manifest; expected one of bundle.toml, module.json, module.json5"):
        load_bundle(folder(tmp_path, "empty"))
    with pytest.raises(ProfileError, match=r"several manifests \(bundle.toml, module.json5\)"):
        load_bundle(folder(tmp_path, "both", bundle__toml=TOML, module__json5=MODULE))
    with pytest.raises(ProfileError, match="cannot be read"):
        load_bundle(tmp_path / "none.toml")


def test_without_msgspec_it_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['msgspec'] = None\n"
        "from pathlib import Path\n"
        "from binderkit.ability.manifest import BundleDirectory, load_bundle\n"
        f"print(BundleDirectory(Path({str(tmp_path)!r}) / 'none').load())\n"
        f"load_bundle({str(folder(tmp_path, 'b', bundle__toml=TOML))!r})\n"
    )
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=30)
    assert ended.stdout == "{}\n" and "pip install 'binderkit[services]'" in ended.stderr


def test_bundles_are_found(directory: BundleDirectory) -> None:
    folder(directory.path, PHOTOS, bundle__toml=TOML)
    folder(directory.path, "other name", bundle__toml=small())
    (directory.path / "file").touch()
    folder(directory.path, ".hidden")
    assert sorted(directory.load()) == [PHOTOS, "com.example.small"]
    found = directory.find(PHOTOS, "Thumbs")
    assert found is not None and (found[0].name, found[1].name) == (PHOTOS, "Thumbs")
    assert directory.find("com.example.small", "One") is not None
    for bundle, ability in ((PHOTOS, "None"), ("none", "Thumbs"), ("../bundles/x", "Thumbs"), ("", ""), ("file", "x")):
        assert directory.find(bundle, ability) is None


def test_all_mistakes_are_collected_and_the_good_ones_work(directory: BundleDirectory) -> None:
    folder(directory.path, "a", bundle__toml=small())
    folder(directory.path, "b", bundle__toml=small())
    folder(directory.path, "c", bundle__toml="name")
    folder(directory.path, "d")
    loose = folder(directory.path, "e", bundle__toml=TOML)
    (loose / "bundle.toml").chmod(0o666)
    with pytest.raises(ProfileError) as caught:
        directory.load()
    bundles, problems = directory.scan()
    assert problems == caught.value.problems and list(bundles) == ["com.example.small"]
    words = ["is also the bundle in", "no valid TOML", "no manifest", "others may write it"]
    assert all(word in problem for word, problem in zip(words, problems, strict=True)), problems
    assert directory.find(PHOTOS, "Thumbs") is None


def test_install_replace_and_remove(directory: BundleDirectory, tmp_path: Path) -> None:
    source = folder(tmp_path, "source", bundle__toml=TOML, album__py="")
    (source / "photos").mkdir()
    (source / "photos" / "ability.py").write_text("class Thumbs: ...")
    (source / "__pycache__").mkdir()
    bundle = directory.install(source)
    assert bundle.path == directory.path / PHOTOS and directory.load() == {PHOTOS: bundle}
    assert bundle.abilities[1].entry == f"{directory.path}/{PHOTOS}/album.py:Album"
    modes = {stat.S_IMODE(os.stat(path).st_mode) for path in bundle.path.rglob("*.py")}
    assert modes == {0o600} and not (bundle.path / "__pycache__").exists()
    newer = folder(tmp_path, "newer", bundle__toml=TOML.replace("2.1", "2.2"))
    assert directory.install(newer).version == "2.2"
    assert sorted(path.name for path in bundle.path.iterdir()) == ["bundle.toml"]
    single = tmp_path / "bundle.toml"
    single.write_text(small())
    assert directory.install(single).path == directory.path / "com.example.small"
    with_app = folder(tmp_path, "oh", module__json5=MODULE.replace('"entry",', '"second",', 1), app__json5=APP)
    assert directory.install(with_app).module == "second"
    directory.remove(PHOTOS)
    assert [path.name for path in directory.path.iterdir()] == ["com.example.small"]
    for name in (PHOTOS, "", ".", "..", "../bundles"):
        with pytest.raises(ParamValueError, match="no bundle"):
            directory.remove(name)


def test_nothing_is_installed_that_cannot_be_copied_whole(
    directory: BundleDirectory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = folder(tmp_path, "source", bundle__toml=TOML)
    (source / "link").symlink_to("/etc/passwd")
    with pytest.raises(ProfileError, match="plain files and folders only"):
        directory.install(source)
    (source / "link").unlink()
    monkeypatch.setattr(manifest, "MAX_BUNDLE_BYTES", 10)
    with pytest.raises(ProfileError, match="is this the right folder"):
        directory.install(source)
    monkeypatch.setattr(manifest, "MAX_BUNDLE_BYTES", 10**6)
    lonely = folder(tmp_path, "oh", app__json5=APP) / "module.json5"
    lonely.write_text(MODULE)
    with pytest.raises(ProfileError, match="app: it is missing"):
        directory.install(lonely)  # the file alone, without the app.json5 beside it
    assert list(directory.path.iterdir()) == []
