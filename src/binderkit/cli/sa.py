"""``binderkit sa``: host system abilities by hand.

Owns: the command line of the host; what it does stands in samgr/sa_main.py.
"""

from __future__ import annotations

import logging
import sys
from pathlib import Path
from typing import Annotated

import typer

sa_commands = typer.Typer(help="Host the system abilities of a profile.", no_args_is_help=True, rich_markup_mode="rich")


@sa_commands.callback()
def group() -> None:
    """Host the system abilities of a profile."""


@sa_commands.command(epilog="Example: binderkit sa run photos.toml")
def run(
    profile: Annotated[Path, typer.Argument(metavar="PROFILE", help="The profile's file, TOML or JSON.")],
) -> None:
    """Run the process of a profile until Ctrl-C, SIGTERM, or SAMgr ends it.

    SAMgr does this by itself for profiles in its profile directory; by hand it is for trying a profile out, with the
    log on the terminal.
    """
    from binderkit.samgr.sa_main import run as run_profile

    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    run_profile(profile)
