"""Functions made for each method of a contract, once: the caller of a proxy, the invoker of a stub.

Owns: their source text. It is put together from names of the contract's own Python code (identifiers of functions and
parameters) and compiled; nothing that ever came over the wire is in it. Why text: a call then is what one would write
by hand, with the method's real signature, and without a loop over its parameters. Neighbouring numbers are packed by
one struct.

Layout (reference 5.6): request = token and parameters; reply = int32 error code, then the result if it is 0.
Rules upheld: wrong arguments fail before anything is sent, and the error names method, parameter, expected and given;
a malformed request never reaches the method.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from struct import Struct
from struct import error as StructError
from typing import Any, Final, NoReturn, cast

from binderkit.errors import (
    CommunicationError,
    ParamTypeError,
    ParcelReadError,
    RemoteError,
    UnknownMethodError,
    UnknownTransactionError,
)
from binderkit.interface import codes
from binderkit.interface.calls import TWIN
from binderkit.interface.codec import Codec, Mismatch, closing_on_error, owns_descriptors, reader
from binderkit.interface.contract import MISSING, Contract, Method, Parameter
from binderkit.interface.stream import Stream, source
from binderkit.interface.stub import Invoke
from binderkit.ipc.option import MessageOption
from binderkit.parcel import MessageSequence

_OK: Final = bytes(4)
_ONE_WAY: Final = MessageOption(MessageOption.TF_ASYNC)
_WRONG: Final = (StructError, TypeError, ValueError, OverflowError, AttributeError)


class _Slow(TypeError):
    """An argument is not what the quick way takes; look closer."""


# --- neighbouring numbers ---------------------------------------------------------------------------------


@dataclass
class _Part:
    """Parameters that travel together: some numbers by one struct, or one of any type."""

    format: str = ""
    parameters: list[Parameter] = field(default_factory=list)


def _parts(parameters: tuple[Parameter, ...]) -> list[_Part]:
    parts: list[_Part] = []
    for parameter in parameters:
        quick = parameter.codec.quick
        if quick is None:
            parts.append(_Part(parameters=[parameter]))
        elif parts and parts[-1].format:
            parts[-1].format += quick.format
            parts[-1].parameters.append(parameter)
        else:
            parts.append(_Part(quick.format, [parameter]))
    return parts


def _pack_lines(values: list[tuple[str, Codec]], target: str, pack: str, lead: str = "") -> list[str]:
    """Lines that append numbers to ``target``, after a look at their classes."""
    tests = [f"{name}.__class__ is not {codec.quick.kind}" for name, codec in values if codec.quick is not None]
    arguments = ", ".join([*([lead] if lead else []), *(name for name, _ in values)])
    return [f"if {' or '.join(tests)}: raise _Slow", f"{target} += {pack}({arguments})"]


# --- the caller ---------------------------------------------------------------------------------------------


def callers(contract: Contract, method: Method) -> Callable[..., Any]:
    """Return the function a proxy has for ``method``; its twin for coroutines hangs on it."""
    twin = _compiled(method, contract, waits=True)
    setattr(twin, TWIN, twin)
    if method.is_async:
        return twin
    function = _compiled(method, contract, waits=False)
    setattr(function, TWIN, twin)
    return function


def _compiled(method: Method, contract: Contract, *, waits: bool) -> Callable[..., Any]:
    space: dict[str, Any] = {
        "_new": MessageSequence,
        "_token": contract.token,
        "_method": method,
        "_Slow": _Slow,
        "_WRONG": _WRONG,
        "_Mismatch": Mismatch,
        "_write_slowly": _write_slowly,
        "_Unknown": UnknownTransactionError,
        "_unknown": _unknown,
        "_one_way": _one_way,
        "_failed": _failed,
        "_OK": _OK,
        "_StructError": StructError,
        "_Stream": Stream,
    }
    lines = [
        f"{'async ' if waits else ''}def {method.name}({_signature(method, space)}):",
        "    _data = _new()",
        *_write_arguments(method, space),
        "    _reply = _new()",
        *_transaction(method, waits=waits),
        *_read_result(method, space),
    ]
    function = _made("\n".join(lines), method, space)
    function.__doc__ = method.doc or None
    function.__module__ = contract.interface.__module__
    function.__qualname__ = f"{contract.interface.__qualname__}Proxy.{method.name}"
    return cast("Callable[..., Any]", function)


def _signature(method: Method, space: dict[str, Any]) -> str:
    names = ["self"]
    starred = False
    for number, parameter in enumerate(method.parameters):
        if parameter.keyword_only and not starred:
            names.append("*")
            starred = True
        if parameter.default is MISSING:
            names.append(parameter.name)
        else:
            space[f"_d{number}"] = parameter.default
            names.append(f"{parameter.name}=_d{number}")
    if not starred:
        names.append("*")
    return ", ".join([*names, "_option_=None"])


def _write_arguments(method: Method, space: dict[str, Any]) -> list[str]:
    lines = ["_out = _data._out"]
    parts = _parts(method.parameters)
    if not parts or not parts[0].format:
        lines.append("_out += _token")
    for number, part in enumerate(parts):
        values = [(parameter.name, parameter.codec) for parameter in part.parameters]
        if part.format:
            first = number == 0
            head = f"{len(space['_token'])}s" if first else ""
            space[f"_p{number}"] = Struct(f"<{head}{part.format}").pack
            lines += _pack_lines(values, "_out", f"_p{number}", "_token" if first else "")
        else:
            space[f"_w{number}"] = values[0][1].write
            lines.append(f"_w{number}(_data, {values[0][0]})")
    given = ", ".join(parameter.name for parameter in method.parameters)
    return [
        "    try:",
        *(f"        {line}" for line in lines),
        "    except (_Mismatch, *_WRONG):",
        f"        _write_slowly(_method, _data, _token, ({given}{',' if given else ''}))",
    ]


def _transaction(method: Method, *, waits: bool) -> list[str]:
    option = "_one_way(_option_)" if method.oneway else "_option_"
    call = f"(self._handle, {method.code}, _data, _reply, {option})"
    return [
        "    try:",
        f"        {'await self._transact_async' if waits else 'self._transact'}{call}",
        "    except _Unknown as _error:",
        "        _unknown(_method, self, _error)",
    ]


def _read_result(method: Method, space: dict[str, Any]) -> list[str]:
    if method.oneway:
        return ["    return None"]
    if method.result is None:
        return ["    if _reply._in[:4] != _OK: _failed(_method, _reply)", "    return None"]
    quick = None if method.stream else method.result.quick
    if quick is not None:
        space["_u"] = Struct(f"<i{quick.format}").unpack_from
        return [
            "    try: _status, _result = _u(_reply._in)",
            "    except _StructError: _failed(_method, _reply)",
            "    if _status: _failed(_method, _reply)",
            "    return _result",
        ]
    space["_r"] = reader(method.result)
    space["_codec"] = method.result
    return [
        "    if _reply._in[:4] != _OK: _failed(_method, _reply)",
        "    _reply._pos = 4",
        "    return _Stream(_reply.read_remote_object(), _codec)" if method.stream else "    return _r(_reply)",
    ]


def _made(source_text: str, method: Method, space: dict[str, Any]) -> Any:
    exec(compile(source_text, f"<{method.title}>", "exec"), space)  # noqa: S102 - see the module's head
    return space[method.name]


# --- what is out of the ordinary at the caller ----------------------------------------------------------------


def _write_slowly(method: Method, data: MessageSequence, token: bytes, values: tuple[Any, ...]) -> None:
    """Write the arguments one by one: an unusual but right one passes, a wrong one is named.

    Raises:
        ParamTypeError, ParamValueError: not what the contract says (401).
        TooBigError, and what objects raise: as MessageSequence.write_….
    """
    data.rewind_write(0)
    data._out += token
    for parameter, value in zip(method.parameters, values, strict=True):
        try:
            parameter.codec.write(data, value)
        except Mismatch as mismatch:
            raise mismatch.explained(f"{method.title}({parameter.name})") from None


def _one_way(option: MessageOption | None) -> MessageOption:
    return _ONE_WAY if option is None else MessageOption(MessageOption.TF_ASYNC, timeout=option.timeout)


def _unknown(method: Method, proxy: Any, error: UnknownTransactionError) -> NoReturn:
    raise UnknownMethodError(
        f"{method.title} is not known to {proxy!r}: {error.args[0]}; the service is older than this contract"
    ) from error


def _failed(method: Method, reply: MessageSequence) -> NoReturn:
    """Raise what a reply with an error code tells: a declared exception, or a service of another language's number."""
    reply._pos = 0
    status = reply.read_int()
    number = status - codes.RAISED
    if 0 <= number < len(method.raises):
        kind, codec = method.raises[number]
        value = reader(codec)(reply)
        raise value if isinstance(value, kind) else kind(*value)
    if status == 0:
        raise CommunicationError(f"the reply to {method.title} ends before its result; is the contract the service's?")
    raise RemoteError(f"{method.title} ended with error code {status}", code=status)


# --- the invoker ------------------------------------------------------------------------------------------------


def invoker(method: Method, implementation: Callable[..., Any]) -> Invoke:
    """Return the function that reads a request, calls the method of the stub, and writes the reply."""
    waits = inspect.iscoroutinefunction(implementation)
    space: dict[str, Any] = {
        "_method": method,
        "_Slow": _Slow,
        "_WRONG": _WRONG,
        "_Mismatch": Mismatch,
        "_StructError": StructError,
        "_read_slowly": _read_slowly,
        "_bad_result": _bad_result,
        "_raised": _raised,
        "_source": source,
        "_OK": _OK,
        "_declared": tuple(kind for kind, _ in method.raises),
    }
    names = [f"_a{number}" for number in range(len(method.parameters))]
    given = ", ".join(
        f"{known.name}={name}" if known.keyword_only else name
        for known, name in zip(method.parameters, names, strict=True)
    )
    call = f"_result = {'await ' if waits else ''}self.{method.name}({given})"
    lines = [
        f"{'async ' if waits else ''}def {method.name}(self, _data, _reply):",
        *_read_arguments(method, names, space),
        *([f"    {call}"] if not method.raises else []),
        *(
            [
                "    try:",
                f"        {call}",
                "    except _declared as _error:",
                "        return _raised(_method, _reply, _error)",
            ]
            if method.raises
            else []
        ),
        *_write_result(method, space),
        "    return True",
    ]
    return _made("\n".join(lines), method, space)  # type: ignore[no-any-return]


def _read_arguments(method: Method, names: list[str], space: dict[str, Any]) -> list[str]:
    if not names:
        return []
    lines: list[str] = ["_start = _data._pos"]
    at = 0
    for number, part in enumerate(_parts(method.parameters)):
        here = names[at : at + len(part.parameters)]
        at += len(part.parameters)
        if part.format:
            unpacker = Struct(f"<{part.format}")
            space[f"_u{number}"] = unpacker.unpack_from
            lines.append(f"{', '.join(here)}, = _u{number}(_data._in, _data._pos)")
            lines.append(f"_data._pos += {unpacker.size}")
        else:
            space[f"_r{number}"] = part.parameters[0].codec.read
            lines.append(f"{here[0]} = _r{number}(_data)")
    if any(owns_descriptors(parameter.codec) for parameter in method.parameters):
        space["_closing_on_error"] = closing_on_error
        lines = ["with _closing_on_error():", *(f"    {line}" for line in lines)]
    return [
        "    try:",
        *(f"        {line}" for line in lines),
        "    except Exception as _error:",
        f"        {', '.join(names)}, = _read_slowly(_method, _data, _start, _error)",
    ]


def _write_result(method: Method, space: dict[str, Any]) -> list[str]:
    if method.oneway:
        return []
    if method.stream:
        space["_codec"], space["_title"] = method.result, method.title
        return ["    _reply._out += _OK", "    _reply.write_remote_object(_source(_result, _codec, _title))"]
    if method.result is None:
        return ["    if _result is not None: _bad_result(_method, _result, None)", "    _reply._out += _OK"]
    lines = ["    _reply._out += _OK", "    _w(_reply, _result)"]
    space["_w"] = method.result.write
    if method.result.quick is not None:
        space["_p"] = Struct(f"<i{method.result.quick.format}").pack
        lines = [f"    {line}" for line in _pack_lines([("_result", method.result)], "_reply._out", "_p", "0")]
    return [
        "    try:",
        *(f"    {line}" for line in lines),
        "    except (_Mismatch, *_WRONG) as _error:",
        "        _bad_result(_method, _result, _error, _reply)",
    ]


# --- what is out of the ordinary at the service ---------------------------------------------------------------


def _read_slowly(method: Method, data: MessageSequence, start: int, error: Exception) -> list[Any]:
    """Read the parameters one by one: those an older caller does not send take their defaults.

    Raises:
        ParcelReadError: the request is malformed (1900010); it names the parameter.
    """
    data._pos = start
    with closing_on_error():
        return [_read_one(method, parameter, data, error) for parameter in method.parameters]


def _read_one(method: Method, parameter: Parameter, data: MessageSequence, error: Exception) -> Any:
    if data.get_readable_bytes() == 0 and parameter.default is not MISSING:
        return parameter.default
    try:
        return parameter.codec.read(data)
    except ParcelReadError as bad:
        raise ParcelReadError(f"a malformed call of {method.title}({parameter.name}): {bad.args[0]}") from error


def _bad_result(method: Method, result: Any, error: Exception | None, reply: MessageSequence | None = None) -> None:
    """Write an unusual but right result the slow way, or say what is wrong with it.

    Raises:
        ParamTypeError, ParamValueError: not what the contract says (401).
    """
    if method.result is None or reply is None:
        raise ParamTypeError(f"{method.title} returned {type(result).__name__}; the contract says None")
    if not isinstance(error, (_Slow, Mismatch)):
        raise error or ParamTypeError(method.title)
    reply.rewind_write(0)
    reply.write_int(0)
    try:
        method.result.write(reply, result)
    except Mismatch as mismatch:
        raise mismatch.explained(f"{method.title} returned") from None


def _raised(method: Method, reply: MessageSequence, error: Exception) -> bool:
    """Write a declared exception: its number, then its fields."""
    for number, (kind, codec) in enumerate(method.raises):
        if not isinstance(error, kind):
            continue
        reply.write_int(codes.RAISED + number)
        fields: Any = error if hasattr(kind, "__dataclass_fields__") else [str(one) for one in error.args]
        try:
            codec.write(reply, fields)
        except Mismatch as mismatch:
            raise mismatch.explained(f"{method.title} raised {kind.__name__}") from None
        return True
    raise error
