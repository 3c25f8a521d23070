"""Faults that strike one method of a contract."""

from __future__ import annotations

import pytest

import binderkit as bk
from binderkit.interface.proxy import proxy
from binderkit.testing import faults, loopback, to
from tests.testing.interfaces import Everything, IEverything, IPhoto, Photos, Size


def test_only_calls_of_the_method_are_struck() -> None:
    with loopback() as pair:
        photos = proxy(IPhoto, pair.offer(Photos()))
        with faults(pair).fail(bk.RefusedError("no"), to(IPhoto.measure)) as refused:
            assert bytes(photos.thumbnail(b"xyz", 2)) == b"xy"
            with pytest.raises(bk.RefusedError):
                photos.measure(b"x")
        assert refused.hits == 1
        assert photos.measure(b"x") == Size(1)


def test_an_inherited_method_is_another_than_the_own_one_with_the_same_code() -> None:
    code = IPhoto.__contract__.methods["thumbnail"].code
    twin = next(known for known in IEverything.__contract__.methods.values() if known.code == code)
    with loopback() as pair:
        everything = proxy(IEverything, pair.offer(Everything()))
        with faults(pair).fail(bk.RefusedError("no"), to(getattr(IEverything, twin.name))) as refused:
            everything.thumbnail(b"x")
        assert refused.hits == 0


def test_something_else_is_refused() -> None:
    with pytest.raises(bk.errors.ParamTypeError, match=r"IPhoto\.thumbnail"):
        to(Photos.measure)
