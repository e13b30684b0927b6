"""Recording a program, and making a trace of what it did."""

import os
import shlex
import shutil
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path

from heaplab.errors import UsageError
from heaplab.files import naming, replacing
from heaplab.native.assemble import Assembler
from heaplab.native.missing import missing
from heaplab.native.monitoring import Sight, library, read_sight, run_monitored
from heaplab.native.raw import open_images
from heaplab.native.stacks import Use, uses
from heaplab.traces import Header, Provenance, TraceWriter, open_trace
from heaplab.traces.sites import Stack, write_sites

__all__ = ["Recording", "library", "record"]


_RESIDENT_EVERY = 10_000_000  # nanoseconds


@dataclass(frozen=True)
class Recording:
    """What came of recording a program.

    header: of the trace.  status: the program's as `subprocess` has it, negative for a signal.
    strangers: frees and reallocs of blocks whose allocation was not seen: such frees are not in the trace.
    lost_frees: frees that were not seen, put in where the address was handed out again.
    warnings: what the trace lacks, a sentence each.
    """

    header: Header
    status: int
    strangers: int
    lost_frees: int
    warnings: tuple[str, ...] = ()


def record(
    command: Sequence[str],
    output: str | os.PathLike[str],
    provenance: Provenance | None = None,
    *,
    env: Mapping[str, str] | None = None,
    stdout: int | None = None,
    level: int = 9,
    wait: bool = True,
    waiting: Callable[[int], None] = lambda _: None,
    resident: str | os.PathLike[str] | None = None,
    stacks: str | os.PathLike[str] | None = None,
    sites: str | os.PathLike[str] | None = None,
) -> Recording:
    """Run `command` to its end and write the trace of its heap, and its children's, to `output`.

    provenance: for the trace; what it leaves empty is filled in from the command and the clock.
    env, stdout: the program's, as `subprocess` takes them; this process's if not given.
    level: zstandard's.
    wait: until the processes have ended that the program leaves behind.  An interrupt ends the waiting.
    waiting: called with their number when the waiting takes more than a second.
    resident: a file for the processes' resident sizes over time, as text: a line of nanoseconds since the
    trace began, process and bytes, with commas between, for every look at each process, 100 times a second.
    What the recorder takes itself is not counted.
    stacks: a file for what each call stack allocated, as text: a line of calls, bytes requested, bytes live
    at the trace's peak, and the names of the functions from the outermost on, with semicolons between.
    sites: a file for the call stack of every acquisition, which `heaplab.traces.sites.read_sites` reads.
    The raw records, 24 bytes an event, stand beside `output` until the trace is written.
    An interrupt (Ctrl-C) goes to the program alone; what it had done until then is written.
    Raises: UsageError when the program cannot be started or does nothing that can be recorded; OSError
    when there is no room.  Then `output` is as it was before.
    """
    if not command:
        raise UsageError("there is no program to record: name one, with its arguments")
    if (executable := shutil.which(command[0])) is None:
        raise UsageError(f"{command[0]}: there is no such program, or it may not be executed")
    target = Path(os.path.realpath(output))
    if not target.parent.is_dir():
        raise UsageError(f"{output}: there is no directory {target.parent}: make it first")
    provenance = _described(provenance or Provenance(target.stem), command)
    with_sites = stacks is not None or sites is not None
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name[:200]}.", dir=target.parent, ignore_cleanup_errors=True
    ) as folder:
        directory = Path(folder)
        status = run_monitored(
            command,
            executable,
            os.environ if env is None else env,
            directory,
            stdout=stdout,
            wait=wait,
            waiting=waiting,
            resident_every=_RESIDENT_EVERY if resident is not None else 0,
            stacks=with_sites,
        )
        sight = read_sight(directory)
        images = open_images(directory, sight.clock)
        with naming(output):
            for error in () if images else sight.lost.values():
                raise OSError(error, os.strerror(error))
        warnings = missing(sight, images)
        if not images:
            raise UsageError("; ".join([f"{command[0]} recorded no events", *warnings]))
        assembler = Assembler(images, sight.deaths, with_sites=with_sites)
        with TraceWriter.create(output, provenance, level) as writer:
            for block in assembler.blocks(provenance.tick):
                writer.write(block)
            if writer.header().events == 0:
                raise UsageError(
                    f"{command[0]} recorded no events: it does not call malloc, or brings its own"
                )
        if resident is not None:
            _write_resident(resident, sight, assembler.numbers(), images[0].started)
        if with_sites:
            found = assembler.sites(sight.modules)
            if sites is not None:
                write_sites(sites, found)
            if stacks is not None:
                _write_stacks(stacks, uses(open_trace(output), found))
        return Recording(writer.header(), status, assembler.strangers, assembler.lost_frees, tuple(warnings))


def _described(provenance: Provenance, command: Sequence[str]) -> Provenance:
    """Fill in what `provenance` leaves empty."""
    program = os.path.basename(command[0])
    return replace(
        provenance,
        program=provenance.program or program,
        command=provenance.command or shlex.join([program, *command[1:]]),
        date=provenance.date or datetime.now(UTC).date().isoformat(),
    )


def _write_resident(
    path: str | os.PathLike[str], sight: Sight, numbers: Mapping[int, int], origin: int
) -> None:
    """Write the resident sizes of the processes that are in the trace, which began at `origin`."""
    lines = ["nanoseconds,process,bytes"]
    for process, time, size in sight.resident.tolist():
        if process in numbers and time >= origin:
            lines.append(f"{time - origin},{numbers[process]},{size}")
    with replacing(path) as file:
        file.write("\n".join([*lines, ""]).encode())


def _write_stacks(path: str | os.PathLike[str], stacks: Sequence[tuple[Stack, Use]]) -> None:
    lines = ["calls,requested,peak,stack"]
    lines += [
        f"{use.calls},{use.requested},{use.peak},{';'.join(names).replace(',', '_')}" for names, use in stacks
    ]
    with replacing(path) as file:
        file.write("\n".join([*lines, ""]).encode())
