"""Fakes: they answer as told, record, copy, and say clearly what the test forgot."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import binderkit as bk
from binderkit.interface.calls import aio, within
from binderkit.interface.contract import Interface
from binderkit.interface.marks import method
from binderkit.interface.proxy import proxy
from binderkit.testing import Call, FakeError, calls, fake, loopback
from tests.testing.interfaces import BadImage, IEverything, IListener, IPhoto, Photos, Size


def test_values_and_functions_answer_and_calls_are_recorded() -> None:
    photos = fake(IPhoto, thumbnail=b"small", measure=lambda image: Size(len(image)))
    assert bytes(photos.thumbnail(b"large")) == b"small"
    assert photos.measure(b"four") == Size(4)
    assert [(call.name, [bytes(one) if isinstance(one, memoryview) else one for one in call.args], call.kwargs)
            for call in calls(photos)] == [("thumbnail", [b"large", 160], {}), ("measure", [b"four"], {})]  # fmt: skip


def test_calls_compare_and_read_well() -> None:
    photos = fake(IPhoto, sizes={}, hint=None)
    photos.sizes(["a", "b"], factor=2.0)
    photos.hint("soon")
    assert calls(photos) == [Call("sizes", (["a", "b"],), {"factor": 2.0}), Call("hint", ("soon",))]


def test_arguments_and_results_are_copies() -> None:
    names = ["a"]
    answer = {"a": Size(1)}
    photos = fake(IPhoto, sizes=answer)
    result = photos.sizes(names)
    assert result == answer
    assert result is not answer
    assert result["a"] is not answer["a"]
    names.append("b")
    assert calls(photos)[0].args == (["a"],)


def test_wrong_arguments_fail_as_they_do_with_a_real_service() -> None:
    photos = fake(IPhoto, thumbnail=b"")
    with pytest.raises(bk.errors.ParamTypeError, match="thumbnail"):
        photos.thumbnail("text")  # type: ignore[arg-type]
    with pytest.raises(bk.errors.ParamError, match="width"):
        photos.thumbnail(b"x", width=2**40)
    assert calls(photos) == []


def test_a_method_without_an_answer_says_so_to_the_test() -> None:
    photos = fake(IPhoto)
    with pytest.raises(FakeError, match=r"IPhoto\.measure was called, but the fake has no answer: .*measure=…"):
        photos.measure(b"x")
    with pytest.raises(AssertionError, match=r"IPhoto\.hint was called"):
        photos.hint("x")
    assert [call.name for call in calls(photos)] == ["measure", "hint"]


@pytest.mark.parametrize(
    ("answers", "error", "text"),
    [
        ({"measure": "wide"}, bk.errors.ParamTypeError, r"IPhoto\.measure"),
        ({"measure": Size(width="x")}, bk.errors.ParamTypeError, "width"),  # type: ignore[arg-type]
        ({"hint": 1}, bk.errors.ParamTypeError, "None"),
        ({"pages": 3}, bk.errors.ParamTypeError, "iterator"),
        ({"paint": 1}, bk.errors.ParamValueError, "has no paint; it has thumbnail"),
        ({"title": 1}, bk.errors.ParamTypeError, "title"),
    ],
)
def test_an_answer_that_cannot_be_is_refused(answers: dict[str, Any], error: type[Exception], text: str) -> None:
    with pytest.raises(error, match=text):
        fake(IPhoto, **answers)


def test_a_function_with_a_wrong_result_is_told_to_the_test() -> None:
    photos = fake(IPhoto, measure=lambda image: "wide")
    with pytest.raises(FakeError, match=r"cannot be sent: IPhoto\.measure returned"):
        photos.measure(b"x")


def test_exceptions_are_raised_declared_ones_as_themselves() -> None:
    photos = fake(IPhoto, measure=BadImage("torn"), thumbnail=ValueError("v"), sizes=KeyError)
    with pytest.raises(BadImage) as raised:
        photos.measure(b"x")
    assert raised.value.reason == "torn"
    with pytest.raises(bk.RemoteError, match="ValueError: v"):
        photos.thumbnail(b"x")
    with pytest.raises(bk.RemoteError, match="KeyError"):
        photos.sizes([])


def test_streams_properties_and_inherited_methods() -> None:
    everything = fake(IEverything, pages=[1, 2], title="t", measure=Size(1), words=5)
    assert [list(everything.pages(9)), list(everything.pages(9))] == [[1, 2], [1, 2]]
    assert everything.title == "t"
    everything.title = "new"
    assert everything.title == "new"
    assert everything.measure(b"x") == Size(1)


def test_from_a_coroutine_with_a_coroutine_and_with_a_limit_of_time() -> None:
    async def measure(image: bytes) -> Size:
        await asyncio.sleep(0)
        return Size(len(image))

    async def main() -> None:
        photos = fake(IPhoto, measure=measure, thumbnail=b"t")
        assert await aio(photos.measure)(b"four") == Size(4)
        assert bytes(await aio(within(5.0, photos.thumbnail))(b"x")) == b"t"
        with pytest.raises(FakeError, match="no answer"):
            await aio(photos.sizes)([])
        assert [call.name for call in calls(photos)] == ["measure", "thumbnail", "sizes"]

    asyncio.run(main())


def test_a_fake_serves_other_processes() -> None:
    photos = fake(IPhoto, measure=Size(3))
    with loopback() as pair:
        remote = proxy(IPhoto, pair.offer(photos))
        assert remote.measure(b"x") == Size(3)
        with pytest.raises(bk.RemoteError, match="no answer"):
            remote.sizes([])
        del remote
    assert [call.name for call in calls(photos)] == ["measure", "sizes"]


class ITeller(Interface, descriptor="binderkit.tests.ITeller"):
    """Calls back."""

    @method
    def tell(self, listener: IListener, number: int) -> None: ...


class Teller(ITeller):
    """Calls back."""

    def tell(self, listener: IListener, number: int) -> None:
        """Call back."""
        listener.ready(number)


def test_a_fake_can_be_the_callback() -> None:
    listener = fake(IListener, ready=None)
    with loopback() as pair:
        proxy(ITeller, pair.offer(Teller())).tell(listener, 3)
        pair.check()  # its one-way call has been executed then
        assert calls(listener) == [Call("ready", (3,))]


def test_each_fake_has_its_own_calls_and_real_objects_have_none() -> None:
    one, other = fake(IListener, ready=None), fake(IListener, ready=None)
    one.ready(1)
    assert (len(calls(one)), len(calls(other))) == (1, 0)
    with pytest.raises(bk.errors.ParamTypeError, match="calls takes what fake returned"):
        calls(Photos())
    with pytest.raises(bk.errors.ParamTypeError, match="declares an interface"):
        fake(Photos)
