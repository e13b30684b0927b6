"""Running a program under the preloaded recorder, and making a trace of what it did."""

import os
import shlex
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from heaplab.errors import UsageError
from heaplab.files import naming
from heaplab.native.assemble import Assembler
from heaplab.native.preloading import preloadable, with_preload
from heaplab.native.raw import open_images
from heaplab.traces import Header, Provenance, TraceWriter


@dataclass(frozen=True)
class Recording:
    """What came of recording a program.

    header: of the trace.  status: the program's as `subprocess` has it, negative for a signal.
    strangers: frees and reallocs of blocks whose allocation was not seen: such frees are not in the trace.
    lost_frees: frees that were not seen, put in where the address was handed out again.
    """

    header: Header
    status: int
    strangers: int
    lost_frees: int


def library() -> Path:
    """The recorder's shared library, built with the package.  Raises: UsageError when it was not."""
    spec = find_spec("heaplab.native._recorder")
    if spec is None or spec.origin is None:
        raise UsageError("the recorder was not built: run `pip install .`, or `setup.py build_ext --inplace`")
    return Path(spec.origin)


def record(
    command: Sequence[str],
    output: str | os.PathLike[str],
    provenance: Provenance | None = None,
    *,
    env: Mapping[str, str] | None = None,
    stdout: int | None = None,
    level: int = 9,
) -> Recording:
    """Run `command` to its end and write the trace of its heap, and its children's, to `output`.

    provenance: for the trace; what it leaves empty is filled in from the command and the clock.
    env, stdout: the program's, as `subprocess` takes them; this process's if not given.
    level: zstandard's.
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
    with tempfile.TemporaryDirectory(
        prefix=f".{target.name[:200]}.", dir=target.parent, ignore_cleanup_errors=True
    ) as directory:
        settings = {**(os.environ if env is None else env), "HEAPLAB_RECORD_DIR": directory}
        status = _run(command, executable, settings, stdout)
        with naming(output):
            images = open_images(Path(directory))
        if not images:
            raise UsageError(
                f"{command[0]} recorded no events: the recorder is not loaded into programs that are "
                "statically linked or setuid"
            )
        assembler = Assembler(images)
        with TraceWriter.create(output, provenance, level) as writer:
            for block in assembler.blocks(provenance.tick):
                writer.write(block)
            if writer.header().events == 0:
                raise UsageError(
                    f"{command[0]} recorded no events: it does not call malloc, or brings its own"
                )
        return Recording(writer.header(), status, assembler.strangers, assembler.lost_frees)


def _described(provenance: Provenance, command: Sequence[str]) -> Provenance:
    """Fill in what `provenance` leaves empty."""
    program = os.path.basename(command[0])
    return replace(
        provenance,
        program=provenance.program or program,
        command=provenance.command or shlex.join([program, *command[1:]]),
        date=provenance.date or datetime.now(UTC).date().isoformat(),
    )


def _run(command: Sequence[str], executable: str, env: Mapping[str, str], stdout: int | None) -> int:
    """Run the program with the recorder loaded; return its status as `subprocess` has it."""
    with preloadable(library()) as recorder:
        try:
            process = subprocess.Popen(
                command, executable=executable, env=with_preload(env, recorder), stdout=stdout
            )
        except OSError as error:
            raise UsageError(f"{command[0]}: cannot be started: {error.strerror}") from None
        with _signals_go_to(process):
            return process.wait()


@contextmanager
def _signals_go_to(process: "subprocess.Popen[bytes]") -> Iterator[None]:
    """Outlive what ends the program, so that its trace is written: pass signals on and wait.

    A terminal's Ctrl-C reaches the program by itself, so SIGINT is only borne.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signal.SIGINT: signal.signal(signal.SIGINT, lambda *_: None),
        signal.SIGTERM: signal.signal(signal.SIGTERM, lambda number, _: process.send_signal(number)),
        signal.SIGHUP: signal.signal(signal.SIGHUP, lambda number, _: process.send_signal(number)),
    }
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
