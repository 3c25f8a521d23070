"""Frozen copies of contracts: what was once given to others, to compare later versions with.

Owns: the folder of frozen copies, ``<folder>/<descriptor>/<version>.json``: the description and its hash, to be kept
with the source. Why a copy and not the hash alone: only a copy can tell in words what changed.

Rules upheld: a frozen version never changes; one that was edited by hand is refused instead of being believed.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from binderkit.errors import CommunicationError, ParamValueError
from binderkit.interface.compare import Change, compare
from binderkit.interface.contract import Interface, contract_of, description_hash
from binderkit.interface.described import read_description

__all__ = ["check", "freeze", "frozen_versions"]

_FILE: Final = re.compile(r"([1-9][0-9]{0,9})\.json")


def freeze(interface: Callable[..., Interface], folder: str | os.PathLike[str]) -> Path:
    """Write the frozen copy of a contract; the interfaces it extends have copies of their own.

    Args:
        interface: a class that declares an interface.
        folder: where the copies of all contracts are; made if it is not there.

    Returns:
        The file ``<folder>/<descriptor>/<version>.json``. If it was there with the same hash it stays as it is.

    Raises:
        ParamTypeError: no interface (401).
        ParamValueError: this version was frozen with another contract, or a newer version was (401).
        TypeError: a hint of the contract cannot travel. OSError: the file cannot be written.
    """
    contract = contract_of(interface)
    description = contract.describe()
    place = _place(folder, contract.descriptor)
    versions = frozen_versions(place)
    path = place / f"{contract.version}.json"
    if versions and versions[-1] > contract.version:
        raise ParamValueError(
            f"{contract.descriptor} version {versions[-1]} is frozen already, the contract says version "
            f"{contract.version}; declare version={versions[-1] + 1}"
        )
    if contract.version in versions:
        if description_hash(_frozen(path)) == contract.hash:
            return path
        raise ParamValueError(
            f"{contract.descriptor} version {contract.version} is frozen with another contract ({path}); what others "
            f"rely on never changes: declare version={contract.version + 1} ('binderkit interface check' tells the "
            "differences)"
        )
    place.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"hash": contract.hash, "description": description}, indent=2, ensure_ascii=False)
    with path.open("x", encoding="utf-8") as file:
        file.write(text + "\n")
    return path


def check(interface: Callable[..., Interface], folder: str | os.PathLike[str]) -> list[Change]:
    """Return what changed since the newest frozen copy of a contract.

    Raises:
        ParamTypeError: no interface (401).
        ParamValueError: nothing is frozen, or the frozen copy was edited (401).
        TypeError: a hint of the contract cannot travel. OSError: the file cannot be read.
    """
    contract = contract_of(interface)
    place = _place(folder, contract.descriptor)
    versions = frozen_versions(place)
    if not versions:
        raise ParamValueError(
            f"no version of {contract.descriptor} is frozen in {os.fspath(folder)}; freeze what others already use: "
            "binderkit interface freeze"
        )
    return compare(_frozen(place / f"{versions[-1]}.json"), contract.describe())


def frozen_versions(place: Path) -> list[int]:
    """Return the versions of which there is a copy in a contract's folder, ascending."""
    if not place.is_dir():
        return []
    return sorted(int(match[1]) for path in place.iterdir() if (match := _FILE.fullmatch(path.name)))


def _place(folder: str | os.PathLike[str], descriptor: str) -> Path:
    name = quote(descriptor, safe=" ")
    if not name.strip(". "):
        raise ParamValueError(
            f"the descriptor {descriptor!r} gives no name for a folder; use one like com.example.IPhoto"
        )
    return Path(folder) / name


def _frozen(path: Path) -> dict[str, Any]:
    """Return the description in a frozen copy.

    Raises:
        ParamValueError: it is not what was written.
    """
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
        description: dict[str, Any] = told["description"]
        read_description(description)
        known = told["hash"]
    except (ValueError, RecursionError, LookupError, TypeError, CommunicationError) as error:
        raise ParamValueError(f"{path} is no frozen contract: {error}; take it from version control again") from error
    if description_hash(description) != known:
        raise ParamValueError(
            f"{path} was edited: its hash is that of another contract. Frozen copies never change; take it from "
            "version control again, and freeze a new version instead"
        )
    return description
