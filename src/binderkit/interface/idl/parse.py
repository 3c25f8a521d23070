"""From the text of an IDL file to its tree.

Owns: the parser (lark with grammar.lark), numbers, names, and comments: what leads a declaration is its documentation.
Nothing is looked up here; check.py does that.

lark is imported at the first use, so that generated modules, which import this package for its layouts, do without it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from binderkit import limits
from binderkit.errors import IdlError
from binderkit.interface.idl import syntax
from binderkit.interface.idl.names import KEYWORDS
from binderkit.interface.idl.syntax import Document, Source, Span

if TYPE_CHECKING:
    from lark import Lark
    from lark.exceptions import UnexpectedInput

__all__ = ["number_of", "parse_text"]

Node: TypeAlias = Any
"""lark's trees and tokens: trees have None for what is missing, which lark's own types do not say."""
_WORD: Final = re.compile(r"[\w.]+|.")
_COMMENT: Final = re.compile(r"/\*[\s\S]*?\*/|//[^\n]*")
_NUMBER: Final = re.compile(r"(0[xX][0-9a-fA-F]+|0[bB][01]+|0[0-7]*|[1-9][0-9]*)([uU]?[lL]{0,2}|[lL]{1,2}[uU])")
_WORDS: Final = {
    "NAME": "a name",
    "NUMBER": "a number",
    "PATH": "a path",
    "BASIC": "a type",
    "CONTAINER": "a type",
    "POINTER": "a type",
    "UNSIGNED": "a type",
    "MESSAGE_EXPRESSION": "a value",
    "OPTION": "an option",
    "AMPERSAND": "an operator",
    "CARET": "an operator",
    "BAR": "an operator",
    "SHIFT": "an operator",
    "SIGN": "an operator",
    "FACTOR": "an operator",
    "TILDE": "an operator",
    "CUSTOM": "customMsgOption",
    "$END": "the end of the file",
    "SEMICOLON": "';'",
    "COMMA": "','",
    "COLON": "':'",
    "EQUAL": "'='",
    "LBRACE": "'{'",
    "RBRACE": "'}'",
    "LPAR": "'('",
    "RPAR": "')'",
    "LSQB": "'['",
    "RSQB": "']'",
    "LESSTHAN": "'<'",
    "MORETHAN": "'>'",
}


def parse_text(text: str, name: str, path: Path | None = None) -> Document:
    """Return the tree of a file's text. Names are not looked up and imports not read yet.

    Args:
        text: the file. name: how the file is called in errors. path: where it lies, if it does.

    Raises:
        IdlError: it breaks the grammar (reference 5.2, 5.3); the text shows where (401).
        ModuleNotFoundError: lark is not installed.
    """
    parser = _parser()
    from lark.exceptions import UnexpectedInput

    source = Source(name, text)
    if len(text) > limits.MAX_IDL_SIZE:
        raise IdlError(
            f"the file has {len(text)} characters; at most {limits.MAX_IDL_SIZE} are read, so split it",
            file=name,
        )
    try:
        return _Builder(source, path).document(parser.parse(text))
    except UnexpectedInput as error:
        raise _unexpected(source, error) from None


@cache
def _parser() -> Lark:
    try:
        from lark import Lark
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            'reading IDL needs the package lark; install it: pip install "binderkit[idl]"', name="lark"
        ) from error
    grammar = Path(__file__).with_name("grammar.lark").read_text("utf-8")
    return Lark(grammar, parser="lalr", lexer="contextual", propagate_positions=True, maybe_placeholders=True)


def _unexpected(source: Source, error: UnexpectedInput) -> IdlError:
    """Say what was found and what could stand there instead."""
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    if isinstance(error, UnexpectedToken):
        expected = _expectation(error.accepts or error.expected)
        if error.token.type == "$END":
            last = source.text.rstrip() or " "
            column = len(last) - last.rfind("\n") - 1
            return source.error_at(last.count("\n") + 1, column, f"the end of the file after this, {expected}")
    else:
        assert isinstance(error, UnexpectedCharacters)  # lark has no third kind for LALR
        expected = _expectation(error.allowed or set())
    rest = source.text[error.pos_in_stream or 0 :]
    if rest.startswith("/*") and "*/" not in rest:
        return source.error_at(error.line, error.column, "this comment has no end; close it with */")
    # Not the token: where nothing fits, lark takes the longest of all that might stand anywhere.
    word = next(_WORD.finditer(rest))
    return source.error_at(error.line, error.column, f"unexpected {word[0]!r}, {expected}")


def _expectation(terminals: set[str]) -> str:
    words = sorted({_WORDS.get(name, name.strip("_").lower()) for name in terminals if not name.startswith("__")})
    if len(words) > 8:
        return "expected a declaration, a type or a name" if "a name" in words else "expected a declaration"
    return "expected " + (", ".join(words[:-1]) + " or " + words[-1] if len(words) > 1 else "".join(words))


def number_of(text: str) -> int | None:
    """Return the value of an integer as IDL writes it (reference 5.2), or None if it is none."""
    match = _NUMBER.fullmatch(text)
    if match is None:
        return None
    digits = match[1]
    if digits[:2].lower() in ("0x", "0b"):
        return int(digits, 0)
    return int(digits, 8 if digits.startswith("0") else 10)


class _Builder:
    """Turns lark's tree of one file into ours."""

    def __init__(self, source: Source, path: Path | None) -> None:
        self._source = source
        self._path = path
        self._comments = {match.end(): match for match in _COMMENT.finditer(source.text)}
        self._licence_end = 0
        self._depth = 0

    def document(self, tree: Node) -> Document:
        licence = self._licence()
        items = [getattr(self, f"_{child.data}")(child) for child in _nodes(tree)]
        return Document(self._source, self._path, licence, items)

    # --- comments -----------------------------------------------------------------------------

    def _licence(self) -> str:
        text = self._source.text
        start = len(text) - len(text.lstrip("\ufeff \t\r\n"))
        match = _COMMENT.match(text, start)
        if match is None or not match[0].startswith("/*"):
            return ""
        self._licence_end = match.end()
        return _comment_text(match[0])

    def _leading(self, start: int) -> str:
        """Return the comments directly in front of an offset; one behind something else on its line is not ours."""
        text = self._source.text
        found: list[str] = []
        while True:
            before = len(text[:start].rstrip())
            match = self._comments.get(before)
            if match is None or before == self._licence_end or text.count("\n", before, start) > 1:
                break
            line = text[text.rfind("\n", 0, match.start()) + 1 : match.start()]
            if line.strip():
                break
            found.insert(0, _comment_text(match[0]))
            start = match.start()
        return "\n".join(found).strip("\n")

    # --- the file's parts ---------------------------------------------------------------------

    def _package(self, node: Node) -> syntax.Directive:
        return syntax.Directive("package", self._qualified(_tokens(node)[0]), _span(node))

    def _interface_token(self, node: Node) -> syntax.Directive:
        return syntax.Directive("interface_token", self._qualified(_tokens(node)[0]), _span(node))

    def _option(self, node: Node) -> syntax.Directive:
        name, value = _tokens(node)
        if value not in ("on", "off"):
            raise self._source.error(_span(value), f"{name} is on or off, not {str(value)!r}")
        return syntax.Directive(str(name), str(value), _span(node))

    def _import_file(self, node: Node) -> syntax.Import:
        (path,) = _tokens(node)
        return syntax.Import(str(path), _span(path))

    def _external(self, node: Node) -> syntax.External:
        kind, name = _tokens(node)
        return self._declared_elsewhere(str(kind), name, node)

    def _forward(self, node: Node) -> syntax.External:
        attributes, name = node.children
        if attributes is not None:
            raise self._source.error(
                _span(attributes),
                f"the forward declaration of {name} takes no attributes; they stand where it is defined",
            )
        return self._declared_elsewhere("interface", name, node)

    def _declared_elsewhere(self, kind: str, name: Node, node: Node) -> syntax.External:
        include, double, qualified = name.rpartition("..")
        if ".." in include:
            raise self._source.error(_span(name), f"{str(name)!r} has double dots twice; they end the include path")
        return syntax.External(
            kind, qualified, include if double else "", _span(name), self._leading(_span(node).start)
        )

    def _interface(self, node: Node) -> syntax.Interface:
        attributes, name, extends, methods = node.children
        qualifier, _, short = self._qualified(name).rpartition(".")
        base = None if extends is None else syntax.Named(self._qualified(extends), "interface", _span(extends))
        return syntax.Interface(
            name=short,
            qualifier=qualifier,
            extends=base,
            methods=[self._method(method) for method in _nodes(methods)],
            attributes=self._attributes(attributes),
            span=_span(name),
            comment=self._leading(_span(node).start),
        )

    def _method(self, node: Node) -> syntax.Method:
        attributes, result, name, *parameters = node.children
        kind = None if result is None else self._type(result)
        return syntax.Method(
            name=self._name(name),
            result=None if isinstance(kind, syntax.Basic) and kind.name == "void" else kind,
            parameters=[self._parameter(parameter) for parameter in parameters if parameter is not None],
            attributes=self._attributes(attributes),
            span=_span(name),
            comment=self._leading(_span(node).start),
        )

    def _parameter(self, node: Node) -> syntax.Parameter:
        directions, kind, name = node.children
        if directions is None:
            raise self._source.error(
                _span(name),
                f"parameter {str(name)!r} has no direction: write [in], [out] or [inout] in front of its type",
            )
        return syntax.Parameter(self._direction(directions), self._type(kind), self._name(name), _span(name))

    def _direction(self, node: Node) -> str:
        given = [token for token in node.children if token is not None]
        for token in given:
            if token not in ("in", "out", "inout"):
                raise self._source.error(_span(token), f"{str(token)!r} is no direction; it is in, out or inout")
        words = [str(token) for token in given]
        if sorted(words) == ["in", "out"]:
            return "inout"
        if len(words) > 1:
            raise self._source.error(_span(given[1]), "a parameter has one direction: in, out or inout")
        return words[0] if words else "in"

    def _attributes(self, node: Node) -> list[syntax.Attribute]:
        if node is None:
            return []
        return [self._attribute(child) for child in node.children if child is not None]

    def _attribute(self, node: Node) -> syntax.Attribute:
        if node.data == "message_options":
            _, *options = node.children
            value = " and ".join("=".join(_tokens(option)) for option in options)
            return syntax.Attribute("customMsgOption", value, _span(node))
        name, value_token = node.children
        return syntax.Attribute(str(name), "" if value_token is None else str(value_token), _span(node))

    def _enum(self, node: Node) -> syntax.Enum:
        attributes, _, name, base, *members = node.children
        return syntax.Enum(
            name=self._name(name),
            base=None if base is None else self._type(base),
            members=[self._member(member) for member in members if member is not None],
            attributes=self._attributes(attributes),
            span=_span(name),
            comment=self._leading(_span(node).start),
        )

    def _member(self, node: Node) -> syntax.EnumMember:
        name, expression = node.children
        value = None if expression is None else self._expression(expression)
        return syntax.EnumMember(self._name(name), value, _span(name), self._leading(_span(node).start))

    def _struct(self, node: Node) -> syntax.Struct:
        attributes, _, name, base, fields = node.children
        return syntax.Struct(
            name=self._name(name),
            base=None if base is None else self._named(base),
            fields=self._fields(fields),
            attributes=self._attributes(attributes),
            span=_span(name),
            comment=self._leading(_span(node).start),
        )

    def _union(self, node: Node) -> syntax.Union:
        attributes, _, name, fields = node.children
        return syntax.Union(
            name=self._name(name),
            fields=self._fields(fields),
            attributes=self._attributes(attributes),
            span=_span(name),
            comment=self._leading(_span(node).start),
        )

    def _fields(self, node: Node) -> list[syntax.Field]:
        return [
            syntax.Field(self._name(name), self._type(kind), _span(name), self._leading(_span(field).start))
            for field in _nodes(node)
            for kind, name in [field.children]
        ]

    # --- types and expressions ----------------------------------------------------------------

    @contextmanager
    def _level(self, node: Node, levels: int = 1) -> Iterator[None]:
        """Count a type or expression inside another one."""
        self._depth += levels
        if self._depth > limits.MAX_IDL_NESTING:
            raise self._source.error(
                _span(node), f"this is nested more than {limits.MAX_IDL_NESTING} levels deep; name its parts"
            )
        yield
        self._depth -= levels

    def _type(self, node: Node) -> syntax.Type:
        first, *arrays = node.children
        with self._level(node, 1 + len(arrays)):
            kind: syntax.Type = getattr(self, f"_{first.data}")(first)
        for _ in arrays:
            kind = syntax.Array(kind, _span(node))
        return kind

    def _basic(self, node: Node) -> syntax.Basic:
        return syntax.Basic(str(node.children[0]), _span(node))

    def _unsigned(self, node: Node) -> syntax.Basic:
        kind = str(node.children[1])
        if kind not in ("char", "short", "int", "long"):
            raise self._source.error(_span(node), f"unsigned goes with char, short, int and long, not with {kind}")
        return syntax.Basic(f"unsigned {kind}", _span(node))

    def _named(self, node: Node) -> syntax.Named:
        kind, name = node.children
        return syntax.Named(self._qualified(name), "" if kind is None else str(kind), _span(name))

    def _container(self, node: Node) -> syntax.Container:
        name, *arguments = node.children
        wanted = 2 if name in ("Map", "OrderedMap") else 1
        if len(arguments) != wanted:
            raise self._source.error(
                _span(node), f"{name} takes {wanted} type{'s' if wanted > 1 else ''}, not {len(arguments)}"
            )
        return syntax.Container(str(name), tuple(self._type(argument) for argument in arguments), _span(node))

    def _pointer(self, node: Node) -> syntax.Pointer:
        name, target = node.children
        return syntax.Pointer(str(name), self._type(target), _span(node))

    def _expression(self, node: Node) -> syntax.Expression:
        parts = node.children
        if node.data == "number":
            value = number_of(parts[0])
            if value is None:
                raise self._source.error(
                    _span(node),
                    f"{str(parts[0])!r} is no integer: 0b… binary, 0… octal, decimal or 0x…, then u, l, ul, ll",
                )
            return syntax.Number(value, _span(node))
        if node.data == "reference":
            return syntax.Reference(str(parts[0]), _span(node))
        if node.data == "unary":
            with self._level(node):
                return syntax.Unary(str(parts[0]), self._expression(parts[1]), _span(node))
        left, operator, right = parts
        with self._level(node):
            return syntax.Binary(str(operator), self._expression(left), self._expression(right), _span(node))

    # --- names --------------------------------------------------------------------------------

    def _name(self, token: Node) -> str:
        if "." in token:
            raise self._source.error(_span(token), f"{str(token)!r} has dots; only the interface's own name may")
        return self._qualified(token)

    def _qualified(self, token: Node) -> str:
        if token in KEYWORDS:
            raise self._source.error(
                _span(token), f"{str(token)!r} is a keyword and cannot be a name; choose another one"
            )
        if ".." in token:
            raise self._source.error(
                _span(token),
                f"{str(token)!r} has an include path; only sequenceable, rawdata and 'interface X;' take one",
            )
        return str(token)


def _nodes(node: Node) -> Iterator[Node]:
    for child in node.children:
        if child is not None:
            yield child


def _tokens(node: Node) -> list[Any]:
    return list(node.children)


def _span(part: Node) -> Span:
    """Return the place of a token or of a (never empty) node of lark."""
    place: Any = getattr(part, "meta", part)
    return Span(place.start_pos, place.end_pos, place.line, place.column)


def _comment_text(raw: str) -> str:
    """Take away a comment's marks: slashes, and the stars at the start of each line."""
    if raw.startswith("//"):
        return raw[2:].lstrip("/").strip()
    lines = raw[2:-2].lstrip("*").splitlines()
    return "\n".join(
        re.sub(r"^\s*\*? ?", "", line).rstrip() if index else line.strip() for index, line in enumerate(lines)
    ).strip()
