"""Where the command ``binderkit`` starts: errors become one line and an exit code.

Owns: exit codes (0 ok, 1 error, 2 wrong usage, 130 interrupted; the last two are
typer's) and how an error is shown. Why
apart from app.py: this file must also run where typer is not installed.
"""

from __future__ import annotations

import sys
import traceback

from binderkit.errors import IdlError, IpcError

EXIT_ERROR = 1


def main(arguments: list[str] | None = None) -> int:
    """Run the command line ``arguments`` (default: sys.argv); return the exit code."""
    try:
        from binderkit.cli import app
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] == "binderkit":
            raise
        print(
            f"binderkit: the command line needs the package {error.name!r}; install it: pip install 'binderkit[cli]'",
            file=sys.stderr,
        )
        return EXIT_ERROR
    try:
        app.app(args=arguments, prog_name="binderkit")
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else EXIT_ERROR if end.code else 0
    except ModuleNotFoundError as error:
        if error.name != "lark" or app.settings.debug:
            raise
        print(f"binderkit: {error}", file=sys.stderr)
        return EXIT_ERROR
    except (IpcError, OSError) as error:
        if app.settings.debug:
            traceback.print_exc()
        else:
            print(
                f"binderkit: {_with_place(error) if isinstance(error, IdlError) else _one_line(error)}", file=sys.stderr
            )
        return EXIT_ERROR
    return 0


def _one_line(error: IpcError | OSError) -> str:
    """Return the first line of an error's text (a service may send its traceback after it) with its code."""
    if not isinstance(error, IpcError):
        return " ".join(str(error).split())
    first, _, more = str(error.args[0] if error.args else "").strip().partition("\n")
    hint = " (--debug shows all of it)" if more else ""
    return f"{first or type(error).__name__}{hint} [code {error.code}]"


def _with_place(error: IdlError) -> str:
    """Return an error in a file with the offending line and a caret, without what would move a terminal's cursor."""
    return "".join(one if one.isprintable() or one in "\n\t" else "\ufffd" for one in str(error))


if __name__ == "__main__":
    sys.exit(main())
