"""Awaited calls and limits of time."""

from __future__ import annotations

import asyncio
import inspect

import pytest

from binderkit.errors import CallTimeoutError, ParamTypeError, ParamValueError
from binderkit.interface import aio, within
from binderkit.ipc.remote import IRemoteObject
from tests.interface.service import Bad, Echo, IEcho


def test_calls_from_coroutines(echo: IEcho) -> None:
    async def main() -> None:
        assert await aio(echo.echo)(6) == 6
        assert await aio(echo.words)(["x"], sep="/") == "x/x"
        assert await asyncio.gather(*(aio(echo.echo)(number) for number in range(20))) == list(range(20))
        assert await echo.later(1) == 2, "a method that the contract says is async"
        assert await aio(within(5, echo.echo))(3) == 3
        with pytest.raises(Bad):
            await aio(echo.fail)("bad")
        with pytest.raises(ParamTypeError, match=r"IEcho.echo\(value\)"):
            await aio(echo.echo)("x")  # type: ignore[arg-type]

    asyncio.run(main())


def test_a_limit_of_time(remote: IRemoteObject, echo: IEcho) -> None:
    assert within(5, echo.slow)(0.0) == 0.0
    if isinstance(remote, Echo):
        return  # a call within one process is a call: nobody else could end it
    with pytest.raises(CallTimeoutError):
        within(0.05, echo.slow)(30.0)


def test_the_adapters_take_methods_of_typed_objects_only(echo: IEcho) -> None:
    for wrong in (len, echo, print):
        with pytest.raises(ParamTypeError, match="expected a method of a proxy"):
            aio(wrong)  # type: ignore[arg-type]
        with pytest.raises(ParamTypeError, match="expected a method of a proxy"):
            within(1, wrong)  # type: ignore[arg-type]
    with pytest.raises(ParamValueError, match="timeout"):
        within(0, echo.echo)


def test_on_the_object_itself_they_call_it_directly() -> None:
    service = Echo()

    async def main() -> None:
        assert await aio(service.echo)(3) == 3
        assert await aio(service.slow)(0.0) == 0.0

    asyncio.run(main())
    assert within(1, service.echo)(4) == 4


def test_a_proxys_method_has_the_contracts_signature(echo: IEcho) -> None:
    parameters = inspect.signature(echo.words).parameters
    assert list(parameters)[:3] == ["values", "times", "sep"]
    assert echo.echo.__doc__ == "Return the value."
