"""Compiling C at run time, once for each content: what was compiled before is taken from a cache."""

import hashlib
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from heaplab.confining import Limits, run
from heaplab.csrc import c_sources
from heaplab.errors import HeaplabError, UsageError

#: in the first line that names a cause: the compiler's, the linker's
_ERRORS = ("error: ", "undefined reference to ", "multiple definition of ")
#: seconds that a confined compiler has
MAX_SECONDS = 60
_MOST_WRITTEN = 64 << 20  # bytes of a file that it writes
_STAGES = 16  # processes that a compiler starts: preprocessor, assembler, linker


class NotCompiled(HeaplabError):
    """The compiler refuses the sources of `name`; `said`: its first error, one line that names the place."""

    def __init__(self, command: str, name: str, said: str) -> None:
        self.said = said
        super().__init__(f"{command} cannot compile {name}: {said}")


def compiler() -> list[str]:
    """Return the command of the C compiler: CC of the environment, or cc.  Raises: UsageError without one."""
    given = os.environ.get("CC", "")
    try:
        command = shlex.split(given) or ["cc"]
    except ValueError as error:
        raise UsageError(f"CC={given}: {error}") from None
    if shutil.which(command[0]) is None:
        raise UsageError(
            f"there is no C compiler {command[0]} to build with: install gcc or clang, or set CC"
        )
    return command


def cache() -> Path:
    """Return the folder of what was compiled: heaplab in XDG_CACHE_HOME, by default in ~/.cache."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(given) if os.path.isabs(given) else Path("~/.cache").expanduser()
    except RuntimeError:
        raise UsageError(
            "there is no home directory to keep what is compiled in: set XDG_CACHE_HOME"
        ) from None
    return base / "heaplab"


def compile_c(
    name: str,
    sources: Sequence[str | Path],
    flags: Sequence[str],
    written: Mapping[str, str] | None = None,
    included: Sequence[Path] = (),
    *,
    confined: Limits | None = None,
) -> Path:
    """Compile `sources` and return the file `name` made of them.

    sources: paths; relative ones are below csrc.  flags: the compiler's.
    written: headers to be written, text by name; the compiler finds them, and csrc, by #include "...".  A
    source may be one of them.
    included: files outside csrc that the sources include.
    confined: what the compiler may have, if nobody vouches for the sources; it reads their folders too.
    The cache's key is all of this, the compiler, and every file of csrc.
    Raises: UsageError without a compiler or a place for the cache; NotCompiled when it refuses the sources.
    """
    command, root = [*compiler(), *flags], c_sources()
    written = written or {}
    paths = [str(source) if source in written else str(root / source) for source in sources]
    files = _text(root, [*(path for path in paths if path not in written), *included])
    key = hashlib.sha256(repr((command, paths, sorted(written.items()), files)).encode())
    target = cache() / key.hexdigest()[:24] / name
    if target.is_file():
        return target
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = tempfile.TemporaryDirectory(dir=target.parent)
    except OSError as error:
        raise UsageError(
            f"{target.parent}: {error.strerror}: what is compiled is kept there; set XDG_CACHE_HOME to a "
            "folder that you may write in"
        ) from None
    with draft as folder:
        for header, text in written.items():
            Path(folder, header).write_text(text)
        made = Path(folder, "made")
        line = [*command, f"-I{folder}", f"-I{root}", *paths, "-o", str(made)]
        done = run_compiler(line, Path(folder), confined, [*map(Path, paths), *included])
        if done.returncode or not made.is_file():
            raise NotCompiled(command[0], name, first_error(done))
        made.replace(target)
    return target


def run_compiler(
    line: Sequence[str | Path],
    folder: Path,
    limits: Limits | None,
    sources: Sequence[Path],
    text: bytes = b"",
) -> subprocess.CompletedProcess[str]:
    """Run a compiler in `folder`, with `text` on standard input, and return how it ended and what it said.

    limits: what it may have, if nobody vouches for the sources; it reads csrc, the folders of `sources` and
    what is installed with it, and writes into `folder`.  None: it is not confined.
    """
    if limits is None:
        done = subprocess.run(line, cwd=folder, input=text, capture_output=True, check=False)
        return subprocess.CompletedProcess(line, done.returncode, "", done.stderr.decode(errors="replace"))
    found = Path(shutil.which(line[0]) or line[0])
    own = [c_sources(), *(_installed(path) for path in (found, found.resolve()))]
    wide = replace(
        limits,
        read=[*limits.read, *own, *(path.parent for path in sources)],
        write=[*limits.write, folder],
        file_size=max(limits.file_size, _MOST_WRITTEN),
        children=max(limits.children, _STAGES),
    )
    environment = {"PATH": os.environ.get("PATH", os.defpath), "TMPDIR": str(folder), "LC_ALL": "C.UTF-8"}
    status, told = run(
        [found, *line[1:]], wide, environment=environment, folder=folder, max_seconds=MAX_SECONDS, given=text
    )
    if status is None:
        told, status = f"error: no end after {MAX_SECONDS} s", -1
    return subprocess.CompletedProcess(line, status, "", told)


def first_error(done: subprocess.CompletedProcess[str]) -> str:
    """Return the line that says why a compiler, or its linker, has failed."""
    said = done.stderr.splitlines() or [f"it ends with status {done.returncode} and says nothing"]
    return next((line for line in said if any(mark in line for mark in _ERRORS)), said[0])


def _installed(compiler: Path) -> Path:
    """Return what a compiler reads of its own: all that is installed beside its bin."""
    return compiler.parent.parent if compiler.parent.name == "bin" else compiler


def _text(root: Path, paths: Sequence[str | Path]) -> list[tuple[str, str]]:
    """What the sources may include: all of csrc, and themselves."""
    files = sorted({*root.rglob("*.[ch]"), *map(Path, paths)})
    try:
        return [(str(file), hashlib.sha256(file.read_bytes()).hexdigest()) for file in files]
    except OSError as error:
        raise UsageError(f"{error.filename}: {error.strerror}") from None
