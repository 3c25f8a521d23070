"""samgr/profile_dir.py: the profiles of a device, together."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from binderkit.errors import ParamValueError, ProfileError
from binderkit.samgr.profile_dir import ProfileDirectory, check_private, default_directory, write_private
from tests.samgr.profiles import TOML, plain, small_toml, write


@pytest.fixture
def directory(tmp_path: Path) -> ProfileDirectory:
    (tmp_path / "profiles").mkdir(mode=0o700)
    return ProfileDirectory(tmp_path / "profiles")


def problems(directory: ProfileDirectory) -> tuple[str, ...]:
    with pytest.raises(ProfileError) as caught:
        directory.load()
    assert directory.scan().problems == caught.value.problems
    return caught.value.problems


def test_where_profiles_are(runtime_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BINDERKIT_PROFILES", raising=False)
    assert default_directory() == ProfileDirectory().path == runtime_dir / "profiles"
    monkeypatch.setenv("BINDERKIT_PROFILES", "/x")
    assert default_directory() == Path("/x")


def test_a_directory_that_is_not_there_has_no_profiles(tmp_path: Path) -> None:
    assert ProfileDirectory(tmp_path / "none").load() == {}
    (tmp_path / "file").touch(0o600)
    assert problems(ProfileDirectory(tmp_path / "file")) == (f"{tmp_path}/file: it is no directory",)


def test_a_device_without_profiles_needs_no_validator(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['msgspec'] = None\n"
        "from pathlib import Path\n"
        "from binderkit.samgr.profile_dir import ProfileDirectory\n"
        f"sys.exit(ProfileDirectory(Path({str(tmp_path)!r})).load() != {{}})"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


def test_profiles_by_process_and_other_files_are_passed_over(directory: ProfileDirectory) -> None:
    write(directory.path, "photos.toml", TOML)
    write(directory.path, "any.json", plain(name=1))
    write(directory.path, "README.md", "words")
    write(directory.path, ".photos.toml.1", "half")
    assert {name: profile.path.name for name, profile in directory.load().items()} == {
        "photos": "photos.toml",
        "plain": "any.json",
    }


def test_all_mistakes_are_collected_and_the_good_ones_work(directory: ProfileDirectory) -> None:
    write(directory.path, "a.toml", small_toml("a", 1))
    write(directory.path, "b.toml", "process =")
    write(directory.path, "c.toml", small_toml("c", 2, more="dump-level = 99\n"))
    write(directory.path, "d.toml", small_toml("d", 3, more='depend = [3]\npermission = "?"'))
    write(directory.path, "e.json", small_toml("e", 4))
    found = problems(directory)
    assert [problem.split(":")[0].rsplit("/", 1)[1] for problem in found] == [
        "b.toml",
        "c.toml",
        "d.toml",
        "d.toml",
        "e.json",
    ]
    assert list(directory.scan().profiles) == ["a"]


def test_what_two_files_both_claim(directory: ProfileDirectory) -> None:
    write(directory.path, "a.toml", small_toml("a", 1, more='name = "n"'))
    write(directory.path, "b.toml", small_toml("b", 2, 1))
    write(directory.path, "c.toml", small_toml("a", 3))
    write(directory.path, "d.toml", small_toml("d", 4, more='name = "n"'))
    found = problems(directory)
    place = directory.path
    assert found == (
        f"{place}/b.toml: system ability 1 (0x1) belongs to process 'a' already ({place}/a.toml)",
        f"{place}/c.toml: process: 'a' has a profile already: {place}/a.toml",
        f"{place}/d.toml: system ability 'n' belongs to process 'a' already ({place}/a.toml)",
    )
    assert list(directory.scan().profiles) == ["a"]


def test_dependencies_in_a_circle_over_two_files(directory: ProfileDirectory) -> None:
    write(directory.path, "a.toml", small_toml("a", 1, more="depend = [2]"))
    write(directory.path, "b.toml", small_toml("b", 2, more="depend = [1]"))
    (problem,) = problems(directory)
    assert "1 (0x1) → 2 (0x2) → 1 (0x1) wait for each other for ever" in problem
    assert list(directory.scan().profiles) == ["b"]


def test_a_trust_file_says_what_a_process_may_host(directory: ProfileDirectory) -> None:
    write(directory.path, "a.toml", small_toml("a", 1, 2))
    write(directory.path, "b.toml", small_toml("b", 3))
    write(directory.path, "a_trust.json", {"process": "a", "allow": [1, 7]})
    (problem,) = problems(directory)
    assert "system ability 2 is not among those that a_trust allows this process to host: 1, 7" in problem
    assert list(directory.scan().profiles) == ["b"]
    write(directory.path, "a_trust.json", {"process": "a", "allow": [1, 2]})
    assert list(directory.load()) == ["a", "b"]
    write(directory.path, "c_trust.json", {"process": "a", "allow": [1]})
    assert "it is 'a', but the file's name says 'c'" in problems(directory)[0]


def test_what_others_could_have_written_is_not_used(directory: ProfileDirectory) -> None:
    path = write(directory.path, "a.toml", small_toml("a", 1))
    path.chmod(0o620)
    assert problems(directory) == (f"{path}: others may write it, and it names what is run; run: chmod go-w {path}",)
    path.chmod(0o644)
    assert list(directory.load()) == ["a"]
    directory.path.chmod(0o777)
    assert "others may write it" in problems(directory)[0]
    assert directory.scan().profiles == {}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to other users")
def test_another_users_profile_is_not_used(directory: ProfileDirectory) -> None:
    path = write(directory.path, "a.toml", small_toml("a", 1))
    os.chown(path, 12345, -1)
    assert "it belongs to uid 12345" in problems(directory)[0]
    with pytest.raises(ProfileError, match="belongs to uid 12345"):
        check_private(path)


def test_install_replace_and_remove(directory: ProfileDirectory, tmp_path: Path) -> None:
    directory.path.rmdir()
    source = write(tmp_path, "some name.json", plain())
    source.chmod(0o664)
    installed = directory.install(source)
    assert installed.path == directory.path / "plain.json"
    assert stat.S_IMODE(installed.path.stat().st_mode) == 0o600
    directory.install(write(tmp_path, "new.toml", small_toml("plain", 4097, 4098)))
    assert [path.name for path in directory.path.iterdir()] == ["plain.toml"]
    assert len(directory.load()["plain"].abilities) == 2
    directory.remove("plain")
    assert directory.load() == {} and list(directory.path.iterdir()) == []
    for name in ("plain", "../profiles", "", "a/b"):
        with pytest.raises(ParamValueError, match="no profile of a process"):
            directory.remove(name)


def test_nothing_is_installed_that_does_not_go_together(directory: ProfileDirectory, tmp_path: Path) -> None:
    directory.install(write(tmp_path, "a.toml", small_toml("a", 1)))
    write(directory.path, "b_trust.toml", 'process = "b"\nallow = [2]')
    for text, why in (
        (small_toml("b", 1), "belongs to process 'a' already"),
        (small_toml("b", 3), "b_trust allows this process to host: 2"),
        ('process = "b"\n[[ability]]\nid = 2\nentry = "beside.py:B"\n', "a file beside the profile"),
        ("process", "no valid TOML"),
    ):
        with pytest.raises(ProfileError, match=why):
            directory.install(write(tmp_path, "b.toml", text))
    assert sorted(path.name for path in directory.path.iterdir()) == ["a.toml", "b_trust.toml"]
    whole = f'process = "b"\n[[ability]]\nid = 2\nentry = "{tmp_path}/beside.py:B"\n'
    assert directory.install(write(tmp_path, "b.toml", whole)).process == "b"


def test_a_file_is_there_whole_or_not_at_all(tmp_path: Path) -> None:
    write_private(tmp_path / "a", b"old")
    with pytest.raises(TypeError):
        write_private(tmp_path / "a", "no bytes")  # type: ignore[arg-type]
    assert (tmp_path / "a").read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
