from __future__ import annotations

import keyword

import pytest
from hypothesis import given
from hypothesis import strategies as st

from binderkit.interface.idl.names import KEYWORDS, free_name, module_name, to_camel, to_snake


@pytest.mark.parametrize(
    ("camel", "snake"),
    [
        ("ping", "ping"),
        ("GetSize", "get_size"),
        ("getHTTPProxy2", "get_http_proxy2"),
        ("enum_test_func", "enum_test_func"),
        ("URL", "url"),
        ("x", "x"),
    ],
)
def test_names_become_snake_case(camel: str, snake: str) -> None:
    assert to_snake(camel) == snake


@given(st.from_regex(r"[a-z]+[0-9]?(_[a-z][a-z0-9]*){0,3}", fullmatch=True))
def test_camel_case_leads_back_to_the_name(name: str) -> None:
    camel = to_camel(name)

    assert to_snake(camel) == name
    assert camel == name or camel not in KEYWORDS


def test_a_name_that_would_become_a_keyword_stays_as_it_is() -> None:
    assert to_camel("custom_msg_option") == "custom_msg_option"
    assert to_camel("get_2d") == "get_2d"


@pytest.mark.parametrize(
    ("stem", "module"),
    [("IFooBar", "i_foo_bar"), ("MediaTypes", "media_types"), ("Item", "item"), ("a-b", "a_b"), ("import", "import_")],
)
def test_modules_are_called_as_their_files(stem: str, module: str) -> None:
    assert module_name(stem) == module


def test_a_taken_name_gets_an_underscore_then_a_number() -> None:
    assert free_name("list", {"list"}) == "list_"
    assert free_name("list", {"list", "list_"}) == "list_2"
    assert free_name("class", set()) == "class_"
    assert free_name("_private", set()) == "private"
    assert free_name("_", set()) == "name"
    assert free_name("_2d", set()) == "n2d"


@given(st.from_regex(r"[A-Za-z_][A-Za-z0-9_]*", fullmatch=True), st.sets(st.sampled_from(["a", "a_", "a_2", "class_"])))
def test_free_names_can_be_used(wanted: str, taken: set[str]) -> None:
    name = free_name(wanted, taken)

    assert name.isidentifier() and not keyword.iskeyword(name) and not name.startswith("_") and name not in taken
