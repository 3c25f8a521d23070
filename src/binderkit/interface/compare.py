"""What a change of a contract means for clients and services that still have the old one, in words.

Owns: the rules of evolution. The wire has positions and numbers, but no names: what keeps its place, its number and its
type is understood by both sides. Methods, parameters, fields and exceptions can be appended; everything else is another
contract.

Rule upheld: each change is told once, with who fails and what to do instead. Recursive types are compared
once per pair.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, TypeAlias

from binderkit.interface.codes import RAISED
from binderkit.interface.contract import description_hash
from binderkit.interface.described import (
    Description,
    EnumType,
    FieldPart,
    MethodPart,
    ParameterPart,
    PropertyPart,
    TypeRef,
    codes_of,
    read_description,
)

__all__ = ["Change", "Severity", "compare"]

Severity: TypeAlias = Literal["breaks", "warns", "ok"]
_Part: TypeAlias = FieldPart | ParameterPart
_Wire: TypeAlias = Literal["same", "more", "other"]
_Direction: TypeAlias = Literal["to the service", "to the client"]

_SAME_WIRE: Final = {"bytearray": "bytes", "memoryview": "bytes", "file": "fd"}
"""Types that differ only in what the receiver makes of them."""
_NEW_METHOD: Final = "leave it as it is and add a method with another name"


@dataclass(frozen=True)
class Change:
    """One difference between two versions of a contract.

    Attributes:
        severity: "breaks": old and new do not understand each other here; "warns": they do unless somebody uses what is
            new, or the source of callers has to change; "ok".
        where: e.g. "IPhoto.thumbnail(width)".
        words: what changed, who is affected, what to do instead.
    """

    severity: Severity
    where: str
    words: str

    def __str__(self) -> str:
        """Return it as one line."""
        return f"{self.severity}: {self.where}: {self.words}"


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[Change]:
    """Return what changed between two descriptions of a contract (Contract.describe), in the order of the new one.

    Raises:
        CommunicationError: one of them is no description (1900007).
    """
    before, after = read_description(old), read_description(new)
    if before.descriptor != after.descriptor:
        words = (
            f"the descriptor was {before.descriptor!r}: this is another interface. Old clients get "
            "InterfaceMismatchError; keep the descriptor, or have the service implement both interfaces"
        )
        return [Change("breaks", after.name, words)]
    changes = _Comparison(before, after).changes()
    return _version(before, after, differs=description_hash(old) != description_hash(new)) + changes


def _version(before: Description, after: Description, *, differs: bool) -> list[Change]:
    where = f"{after.name}, its version"
    if after.version < before.version:
        return [Change("breaks", where, f"it went down from {before.version} to {after.version}; versions only go up")]
    if differs and after.version == before.version:
        words = (
            f"it is still {after.version} although the contract changed, so nobody can tell the two apart; "
            f"declare version={after.version + 1}"
        )
        return [Change("breaks", where, words)]
    return []


class _Comparison:
    """Two versions of one interface, and what was found so far."""

    def __init__(self, old: Description, new: Description) -> None:
        self._old = old
        self._new = new
        self._found: list[Change] = []
        self._seen: set[tuple[str, str, str, _Direction]] = set()
        self._todo: list[tuple[TypeRef, TypeRef, _Direction]] = []

    def changes(self) -> list[Change]:
        """Return the changes, each once."""
        self._parents()
        self._methods()
        self._properties()
        self._reused_codes()
        while self._todo:
            self._definition(*self._todo.pop(0))
        return list(dict.fromkeys(self._found))

    def _add(self, severity: Severity, where: str, words: str) -> None:
        self._found.append(Change(severity, where, words))

    # --- interfaces -------------------------------------------------------------------------------------------

    def _parents(self) -> None:
        name = self._new.name
        for parent in self._old.extends:
            if parent not in self._new.extends:
                words = (
                    f"it does not extend {parent} any more: old clients that call its methods get "
                    "InterfaceMismatchError; go on extending it"
                )
                self._add("breaks", name, words)
        for parent in self._new.extends:
            if parent not in self._old.extends:
                words = f"it now extends {parent}; new clients of an old service get InterfaceMismatchError there"
                self._add("ok", name, words)

    def _methods(self) -> None:
        old, new = self._old.methods, self._new.methods
        by_code = {method.code: method for method in new.values() if method.name not in old}
        for name, method in old.items():
            if name in new:
                self._method(method, new[name])
            else:
                self._missing(method, by_code.get(method.code))
        known = {method.code for method in old.values()}
        for name, method in new.items():
            if name not in old and method.code not in known:
                self._add("ok", self._at(name), "new; new clients of an old service get UnknownMethodError for it")

    def _at(self, name: str) -> str:
        return f"{self._new.name}.{name}"

    def _missing(self, old: MethodPart, heir: MethodPart | None) -> None:
        where = self._at(old.name)
        if heir is not None and _signature(old) == _signature(heir):
            words = (
                f"it is called {heir.name} now and kept its code {old.code}, so calls still arrive; it must mean "
                "the same as before, and callers have to change their source"
            )
            self._add("warns", where, words)
            self._method(old, heir)
            return
        if heir is not None:
            words = (
                f"it is gone and its code {old.code} now means {heir.name}: old clients call the wrong method, and new "
                f"clients of an old service too. Never use a code again: give {heir.name} a new one with "
                "@transaction_code"
            )
        else:
            words = (
                "it is gone: old clients of a new service get UnknownMethodError. Keep it, and have it raise an "
                "error or do what comes closest, as long as anybody may call it"
            )
        self._add("breaks", where, words)

    def _reused_codes(self) -> None:
        """Tell codes that mean something else now and were not told as a moved or missing method."""
        old, new = _titles(self._old), _titles(self._new)
        for code in old.keys() & new.keys():
            is_method = old[code] in self._old.methods and new[code] in self._new.methods
            if old[code] == new[code] or is_method:
                continue
            words = (
                f"code {code} was {old[code]}'s: old clients get the wrong one. Declare what is new after everything "
                "else, or give it a code with @transaction_code"
            )
            self._add("breaks", self._at(new[code]), words)

    # --- methods ----------------------------------------------------------------------------------------------

    def _method(self, old: MethodPart, new: MethodPart) -> None:
        where = self._at(new.name)
        if old.code != new.code:
            words = (
                f"its code moved from {old.code} to {new.code}: a call of one side is another method, or none, at the "
                f"other. Declare new methods after the old ones, or write @transaction_code({old.code}) here"
            )
            self._add("breaks", where, words)
        if old.oneway != new.oneway:
            said = "one-way now" if new.oneway else "not one-way any more"
            words = f"it is {said}: the two sides disagree on whether an answer comes; {_NEW_METHOD}"
            self._add("breaks", where, words)
        if old.idempotent and not new.idempotent:
            self._add("warns", where, "it is not idempotent any more: old clients may still repeat a call that failed")
        if new.idempotent and not old.idempotent:
            self._add("ok", where, "it is idempotent now")
        self._parameters(old, new, where)
        self._result(old, new, where)
        self._raises(old, new, where)

    def _parameters(self, old: MethodPart, new: MethodPart, where: str) -> None:
        def place(name: str) -> str:
            return f"{where}({name})"

        self._sequence(old.parameters, new.parameters, place, "parameter", "to the service")
        for before, after in zip(old.parameters, new.parameters, strict=False):
            if before.name == after.name and before.keyword_only != after.keyword_only:
                how = "by its name only now" if after.keyword_only else "also by its position now"
                words = f"callers give it {how}; the wire is the same"
                self._add("warns" if after.keyword_only else "ok", place(after.name), words)
        for one in new.parameters[len(old.parameters) :]:
            self._appended_parameter(one, place(one.name))

    def _appended_parameter(self, new: ParameterPart, where: str) -> None:
        if new.optional:
            words = "new, with a default: an old client's call uses the default, an old service does not see the value"
            self._add("ok", where, words)
            return
        words = (
            "new and without a default: calls of old clients fail at a new service, which finds no value for it; "
            "give it a default"
        )
        self._add("breaks", where, words)

    def _result(self, old: MethodPart, new: MethodPart, where: str) -> None:
        place = f"{where} -> result"
        if old.stream != new.stream:
            said = "an iterator now" if new.stream else "not an iterator any more"
            words = f"it is {said}: clients and services of different versions cannot read each other; {_NEW_METHOD}"
            self._add("breaks", place, words)
            return
        if old.result is None or new.result is None:
            if old.result != new.result:
                words = (
                    f"it was {old.result or 'None'} and is {new.result or 'None'}: whoever expects a value does not "
                    f"find one; {_NEW_METHOD}"
                )
                self._add("breaks", place, words)
            return
        self._type(old.result, new.result, place, "to the client")

    def _raises(self, old: MethodPart, new: MethodPart, where: str) -> None:
        for number, (before, after) in enumerate(zip(old.raises, new.raises, strict=False)):
            place = f"{where} raises {after.name}"
            if before.name != after.name:
                words = (
                    f"exception number {number} was {before.name}: old clients raise that instead. Keep the order of "
                    "@raises and append new ones at its end"
                )
                self._add("breaks", place, words)
                continue
            self._type(before.fields, after.fields, place, "to the client")
        for number, added in enumerate(new.raises[len(old.raises) :], len(old.raises)):
            words = f"declared now; old clients get RemoteError with code {RAISED + number} instead of it"
            self._add("ok", f"{where} raises {added.name}", words)
        for number, gone in enumerate(old.raises[len(new.raises) :], len(new.raises)):
            words = (
                f"not declared any more: new clients of an old service get RemoteError with code {RAISED + number}, "
                "and its number must not be used again; go on declaring it"
            )
            self._add("warns", f"{where} raises {gone.name}", words)

    # --- properties -------------------------------------------------------------------------------------------

    def _properties(self) -> None:
        for name, old in self._old.properties.items():
            new = self._new.properties.get(name)
            if new is None:
                words = (
                    "the property is gone: old clients get UnknownTransactionError; keep it as long as it may be used"
                )
                self._add("breaks", self._at(name), words)
            else:
                self._property(old, new)
        for name in self._new.properties:
            if name not in self._old.properties:
                words = "a new property; new clients of an old service get UnknownTransactionError for it"
                self._add("ok", self._at(name), words)

    def _property(self, old: PropertyPart, new: PropertyPart) -> None:
        where = self._at(new.name)
        moved = old.getter != new.getter or (old.setter and new.setter and old.setter != new.setter)
        if moved:
            words = (
                f"its codes moved from {old.getter}, {old.setter} to {new.getter}, {new.setter}: old clients reach "
                "something else; declare what is new after the old methods and properties"
            )
            self._add("breaks", where, words)
        if old.setter and not new.setter:
            words = "it is read-only now: old clients that set it get UnknownTransactionError; keep it settable"
            self._add("breaks", where, words)
        if new.setter and not old.setter:
            self._add("ok", where, "it can be set now; an old service refuses that")
        self._type(old.type, new.type, where, "to the client")
        if old.setter and new.setter:
            self._type(old.type, new.type, where, "to the service")

    # --- types ------------------------------------------------------------------------------------------------

    def _type(self, old: TypeRef, new: TypeRef, where: str, direction: _Direction) -> None:
        """Compare two types where they are used; what is inside of named ones is compared later, once."""
        wire = self._wire(old, new, direction)
        if wire == "other":
            words = (
                f"the type was {old} and is {new}: what one version writes the other cannot read. Keep the type; "
                "add a parameter or field with a default, or a new method, for the new one"
            )
            self._add("breaks", where, words)
        elif wire == "more":
            words = (
                f"the type was {old} and is {new}: {_old_reader(direction)} refuses a value that is new. Send it only "
                "to those who know it: ask for the version first"
            )
            self._add("warns", where, words)
        elif old != new:
            self._add("ok", where, f"the type is called {new} now, and was {old}; names are not on the wire")

    def _wire(self, old: TypeRef, new: TypeRef, direction: _Direction) -> _Wire:
        """Compare the forms on the wire: "more": the new one has values at its end that the old one has not."""
        form = _SAME_WIRE.get(old.form, old.form)
        if form != _SAME_WIRE.get(new.form, new.form):
            return "other"
        if form in ("struct", "enum"):
            self._todo.append((old, new, direction))
            return "same"
        inner = [self._wire(before, after, direction) for before, after in zip(old.inner, new.inner, strict=False)]
        if old.name != new.name or "other" in inner or old.words != new.words[: len(old.words)]:
            return "other"
        added = len(new.inner) - len(old.inner)
        if added < 0 or (added and form != "union"):
            return "other"
        return "more" if added or "more" in inner or old.words != new.words else "same"

    def _definition(self, old: TypeRef, new: TypeRef, direction: _Direction) -> None:
        key = (old.form, old.name, new.name, direction)
        if key in self._seen:
            return
        self._seen.add(key)
        if old.form == "struct":
            self._struct(old.name, new.name, direction)
        else:
            self._enum(self._old.enums[old.name], self._new.enums[new.name], direction)

    def _struct(self, old_name: str, new_name: str, direction: _Direction) -> None:
        old, new = self._old.structs[old_name], self._new.structs[new_name]

        def place(name: str) -> str:
            return f"{new_name}.{name}"

        if old.packed != new.packed:
            said = "packed now" if new.packed else "not packed any more"
            words = f"it is {said}: it has another form on the wire; make a new class and a new method for it"
            self._add("breaks", new_name, words)
        self._sequence(old.fields, new.fields, place, "field", direction)
        for one in new.fields[len(old.fields) :]:
            self._appended_field(one, place(one.name), packed=new.packed)

    def _appended_field(self, new: FieldPart, where: str, *, packed: bool) -> None:
        if packed:
            words = (
                "new in a @packed struct, which has no room for more: the other version reads what follows wrongly. "
                "Make a new class and a new method for it"
            )
            self._add("breaks", where, words)
        elif new.optional:
            words = "new, with a default: whoever has the old version leaves it out or does not see it"
            self._add("ok", where, words)
        else:
            words = "new and without a default: what the old version sends cannot be read; give it a default"
            self._add("breaks", where, words)

    def _enum(self, old: EnumType, new: EnumType, direction: _Direction) -> None:
        if old.form != new.form:
            words = f"its values travelled as {old.form} and do as {new.form} now: neither version reads the other's"
            self._add("breaks", new.name, f"{words}; keep the values within {old.form}")
            return
        old_values, new_values = set(old.members.values()), set(new.members.values())
        for name, value in old.members.items():
            self._member(old, new, name, value)
        for name, value in new.members.items():
            if value in old_values or name in old.members:
                continue
            words = (
                f"a new member: {_old_reader(direction)} refuses it as an unknown value. Send it only "
                "to those who know it: ask for the version first"
            )
            self._add("warns", f"{new.name}.{name}", words)
        if old.flag != new.flag and old_values == new_values:
            self._add("warns", new.name, "flags can be combined, plain members cannot: one side refuses combinations")

    def _member(self, old: EnumType, new: EnumType, name: str, value: int | str | float) -> None:
        where = f"{new.name}.{name}"
        if name in new.members:
            if new.members[name] != value:
                words = (
                    f"its value was {value!r} and is {new.members[name]!r}: the other version takes it for another one"
                )
                self._add("breaks", where, f"{words}, or refuses it; keep the value")
            return
        if value in new.members.values():
            self._add("warns", where, "it has another name now, for the same value; source that names it has to change")
            return
        self._add("breaks", where, f"it is gone: a new reader refuses {value!r} from an old sender; keep the member")

    def _sequence(
        self,
        old: Sequence[_Part],
        new: Sequence[_Part],
        place: Callable[[str], str],
        what: str,
        direction: _Direction,
    ) -> None:
        """Compare what travels by position, as far as both have it; what was appended is not looked at here."""
        old_names, new_names = [one.name for one in old], [one.name for one in new]
        for at, before in enumerate(old):
            where = place(before.name)
            if before.name in new_names:
                now = new_names.index(before.name)
                if now != at:
                    self._add("breaks", where, _moved(what, at, now))
                else:
                    self._same_place(before, new[at], where, what, direction)
                continue
            heir = new[at] if at < len(new) and new_names[at] not in old_names else None
            if heir is None or heir.type != before.type:
                words = (
                    f"the {what} is gone: the other version reads what follows wrongly, or does not find it. Keep it, "
                    "give it a default and ignore it"
                )
                self._add("breaks", where, words)
                continue
            words = (
                f"it is called {heir.name} now. The wire has no names, so calls still work if it means the same; "
                "source that names it has to change"
            )
            self._add("warns", where, words)
            self._same_place(before, heir, place(heir.name), what, direction)

    def _same_place(self, old: _Part, new: _Part, where: str, what: str, direction: _Direction) -> None:
        self._type(old.type, new.type, where, direction)
        self._default(old, new, where, what)

    def _default(self, old: _Part, new: _Part, where: str, what: str) -> None:
        if old.optional and not new.optional:
            words = f"it has no default any more: whoever is older than this {what} leaves it out and is refused"
            self._add("breaks", where, f"{words}; keep the default")
        if new.optional and not old.optional:
            self._add("ok", where, "it has a default now")


def _moved(what: str, before: int, now: int) -> str:
    return (
        f"{what} {before + 1} is {what} {now + 1} now; the wire has positions, not names, so values end up in "
        "the wrong one. Keep the order and append new ones at the end"
    )


def _old_reader(direction: _Direction) -> str:
    return "an old service" if direction == "to the service" else "an old client"


def _signature(method: MethodPart) -> tuple[Any, ...]:
    return (
        tuple((one.type, one.optional) for one in method.parameters),
        method.result,
        method.stream,
        method.oneway,
        tuple(one.name for one in method.raises),
    )


def _titles(description: Description) -> dict[int, str]:
    return {code: name for name, code in codes_of(description)}
