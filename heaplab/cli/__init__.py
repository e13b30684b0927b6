"""The command line: `heaplab COMMAND ...`.

Each module of this package is one command: it parses, calls the rooms below, and prints.  A module
`NAME.py` offers the command as its attribute `NAME`; nothing else registers it.  Modules whose names begin
with `_` are shared by several commands.

Exit status: 0; 1 when the work was done and found something wrong; 2 for a user's mistake, told in one line
on standard error; 130 when interrupted, 143 when terminated and 141 when standard output was closed early:
as a shell reports SIGINT, SIGTERM and SIGPIPE.
"""

import ast
import errno
import importlib
import os
import pkgutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from heaplab import __version__
from heaplab.errors import HeaplabError, UsageError

#: exit statuses, see above
OK, FOUND_WRONG, INTERRUPTED = 0, 1, 130
#: what setup.py builds of csrc, and everything but the help needs
_EXTENSION = "heaplab._core._heaplab"


class Ending(click.Command):
    """A command that ends its process with an exit status as above, and tells a mistake in one line."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line; standing alone, end the process with the exit status of the page above."""
        if not standalone_mode:
            return super().main(args, prog_name, complete_var, False, **extra)
        if sys.stdout is None:  # started with it closed
            sys.stdout = Path(os.devnull).open("w")  # noqa: SIM115 - for as long as the process lives
        signal.signal(signal.SIGTERM, _terminate)
        try:
            status = super().main(args, prog_name, complete_var, False, **extra)
            sys.stdout.flush()
        except click.exceptions.NoArgsIsHelpError as error:
            click.echo(error.format_message(), err=True)
            status = 2
        except click.Abort:
            status = INTERRUPTED
        except SystemExit as end:  # click and rich end so, with 1, when standard output is closed early
            status = 141 if end.code == 1 else end.code
        except (click.ClickException, HeaplabError, OSError, MemoryError) as error:
            click.echo(f"{prog_name or self.name}: {_sentence(error)}", err=True)
            status = 2 if isinstance(error, click.ClickException | UsageError | OSError) else 1
        _settle_stdout()
        sys.exit(status)


class _Commands(Ending, click.Group):
    """The modules of this package as commands, imported when they are asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        names = (module.name for module in pkgutil.iter_modules(__path__))
        return sorted(name for name in names if not name.startswith("_"))

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        try:
            module = importlib.import_module(f"{__name__}.{cmd_name}")
        except ModuleNotFoundError as error:
            if error.name != _EXTENSION:
                raise
            raise HeaplabError("the C core was not built: run `make build`, or `pip install .`") from error
        command: click.Command = getattr(module, cmd_name)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the commands as click does, but without importing any of them."""
        names = self.list_commands(ctx)
        limit = formatter.width - 6 - max(map(len, names))
        with formatter.section("Commands"):
            formatter.write_dl(
                [(name, click.Command(name, help=_help(name)).get_short_help_str(limit)) for name in names]
            )

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = "heaplab",
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        """Run the command line, or answer a shell that completes one."""
        if asked := os.environ.get("_HEAPLAB_COMPLETE"):
            from heaplab.cli._completion import answer  # noqa: PLC0415 - for shells alone

            sys.exit(answer(self, asked))
        return super().main(args, prog_name, complete_var, standalone_mode, **extra)


def _help(name: str) -> str:
    """The help of the command `name`: the docstring of that function in its source, which is only read."""
    body = ast.parse(Path(__path__[0], f"{name}.py").read_bytes()).body
    found = [
        ast.get_docstring(each) for each in body if isinstance(each, ast.FunctionDef) and each.name == name
    ]
    return (found and found[0]) or ""


def _terminate(_signum: int, _frame: object) -> None:
    """Leave by the way of all exceptions, so that nothing half-written stays behind."""
    raise SystemExit(143)


def _sentence(error: Exception) -> str:
    """What went wrong, in one line."""
    if isinstance(error, click.UsageError):
        hint = f" (try '{error.ctx.command_path} --help')" if error.ctx else ""
        return " ".join(error.format_message().split()) + hint
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError):
        return _os_sentence(error)
    if isinstance(error, MemoryError):
        return "this needs more memory than the host has"
    return str(error)


def _os_sentence(error: OSError) -> str:
    where = os.fspath(error.filename) if error.filename is not None else "the output"
    if error.errno == errno.ENOSPC:
        return f"no space is left on the device for {where}: free some, or write elsewhere"
    return f"{where}: {error.strerror or error}"


def _settle_stdout() -> None:
    """Drop what standard output did not take, so that the interpreter does not complain of it at exit."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


@click.group(
    name="heaplab",
    cls=_Commands,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@click.version_option(__version__, prog_name="heaplab", message="%(prog)s %(version)s")
@click.pass_context
def main(ctx: click.Context) -> None:
    """A laboratory for memory allocators, on an exact model of the machine and of Linux's kernel."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help())
