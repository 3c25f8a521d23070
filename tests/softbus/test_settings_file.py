"""settings_file.py: what softbus.toml may hold."""

from __future__ import annotations

from pathlib import Path

import pytest

from binderkit.errors import ProfileError
from binderkit.softbus.settings import Settings
from binderkit.softbus.settings_file import MAX_FILE, read_settings


def written(directory: Path, text: str) -> Path:
    path = directory / "softbus.toml"
    path.write_text(text)
    return path


def test_every_field_is_optional(tmp_path: Path) -> None:
    assert read_settings(written(tmp_path, "")) == Settings()
    full = 'listen = ["192.168.1.5", "fe80::1"]\nport = 7447\nconnect = ["10.0.0.2:7447"]\ngroup = "[ff02::1]:7446"\n'
    assert read_settings(written(tmp_path, full)) == Settings(
        ("192.168.1.5", "fe80::1"), 7447, ("10.0.0.2:7447",), "[ff02::1]:7446"
    )


def test_all_wrong_values_are_told_at_once_with_their_fields(tmp_path: Path) -> None:
    path = written(tmp_path, 'listen = ["tv"]\nport = 70000\nconnect = ["tv"]\ngroup = ""\n')
    with pytest.raises(ProfileError) as caught:
        read_settings(path)
    fields = [problem.removeprefix(f"{path}: ").partition(":")[0] for problem in caught.value.problems]
    assert fields == ["listen", "port", "connect", "group"]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("prot = 7447", "prot: there is no such field; did you mean 'port'?"),
        ('port = "7447"', "port: expected a whole number, got a text"),
        ("port = true", "port: expected a whole number, got true or false"),
        ('listen = "127.0.0.1"', "listen: expected a list, got a text"),
        ("listen = [1]", "expected a text"),
        ("listen", "no valid TOML"),
        ("#" * (MAX_FILE + 1), "larger than"),
    ],
)
def test_a_mistake_is_said_with_its_place(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(ProfileError) as caught:
        read_settings(written(tmp_path, text))
    assert words in str(caught.value)


def test_a_link_to_nowhere_is_no_settings_left_out(tmp_path: Path) -> None:
    from binderkit.softbus.settings import load_settings

    (tmp_path / "softbus.toml").symlink_to(tmp_path / "gone")
    with pytest.raises(ProfileError, match="cannot be read"):
        load_settings(tmp_path, {})
