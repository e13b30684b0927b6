"""`heaplab native`: a design as the malloc of real programs."""

import os
import shutil
import signal
import subprocess
from pathlib import Path

import click

from heaplab.errors import UsageError
from heaplab.native import build as build_library
from heaplab.native.preloading import preloadable, why_not, with_preload
from heaplab.outside import find_outside


@click.group()
def native() -> None:
    """A design as the malloc of real programs, on this Linux.

    The design's C file is compiled into a library that is preloaded; a C compiler is needed.  What was
    compiled once is kept in ~/.cache/heaplab (XDG_CACHE_HOME), by content.
    """


_CHECK = click.option(
    "--check",
    is_flag=True,
    help="Verify the whole heap now and then, and tell on standard error at exit what was done.",
)


@native.command()
@click.argument("spec")
@click.option("-o", "--output", metavar="FILE", help="Write the library there.")
@_CHECK
def build(spec: str, output: str | None, *, check: bool) -> None:
    """Build the library that makes SPEC the malloc of whoever loads it, and print its path.

    LD_PRELOAD=$(heaplab native build rbtree) PROGRAM ...
    """
    click.echo(build_library(spec, check=check, output=output))


@native.command(context_settings={"ignore_unknown_options": True})
@click.argument("spec")
@_CHECK
@click.argument("program", nargs=-1, required=True, type=click.UNPROCESSED)
def run(spec: str, program: tuple[str, ...], *, check: bool) -> None:
    """Run PROGRAM with its arguments on SPEC instead of the C library's malloc.

    SPEC is a design of heaplab's in C, or an allocator from outside: a course's mm.c, a C file that defines
    malloc.

    heaplab native run SPEC -- PROGRAM ARGS

    Without `--`, -h and --check are heaplab's, wherever they stand.

    Its threads and children have it too, but for programs that are statically linked or setuid.  CPython
    serves small blocks itself unless PYTHONMALLOC=malloc is set.

    The exit status is PROGRAM's own.  A program that corrupts its heap is ended by SIGABRT, after one line on
    standard error that names the block and what is wrong with it.
    """
    if (executable := shutil.which(program[0])) is None:
        raise UsageError(f"{program[0]}: there is no such program, or it may not be executed")
    if reason := why_not(executable):
        raise UsageError(f"{program[0]}: {reason}")
    library = _library(spec, check)
    with preloadable(library) as named:
        environment = with_preload(os.environ, named)
        try:
            if named != library:  # a link, to be removed afterwards
                status = subprocess.run(
                    program, executable=executable, env=environment, check=False
                ).returncode
                raise SystemExit(status if status >= 0 else 128 - status)
            for number in (signal.SIGPIPE, signal.SIGXFSZ):  # which Python ignores
                signal.signal(number, signal.SIG_DFL)
            os.execve(executable, program, environment)
        except OSError as error:
            raise UsageError(f"{program[0]}: cannot be started: {error.strerror}") from None


def _library(spec: str, check: bool) -> Path:
    """The library that makes a design, or an allocator from outside, the malloc of a program."""
    outside = find_outside(spec)
    if outside is None or outside.library is None:
        return build_library(spec, check=check)
    if check:
        raise UsageError(
            f"{spec}: --check is of heaplab's designs: heaplab check tries an allocator from outside"
        )
    return outside.library
