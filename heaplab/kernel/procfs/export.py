"""/proc as files, for programs that read it."""

from pathlib import Path

from heaplab.kernel.procfs.memory import maps, pagemap_pieces, smaps
from heaplab.kernel.procfs.process import oom_score, oom_score_adj, stat, statm, status
from heaplab.kernel.procfs.system import meminfo
from heaplab.kernel.system import System
from heaplab.kernel.task import Task


def write(system: System, directory: str | Path) -> None:
    """Write /proc as it is now into a directory, made if need be.

    There are meminfo, stat, uptime and self, which is pid 1; of each process a directory with its maps,
    smaps, status, stat, statm, oom_score, oom_score_adj, comm, cmdline (empty) and pagemap (a file with
    holes, as large as the address space asks for), and one of its threads.  What was written before of
    processes that are gone stays: write into a new directory.  Raises: OSError.
    """
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    (root / "meminfo").write_text(meminfo(system))
    # readers take the time of boot from here: the model's clock stands at the epoch
    (root / "stat").write_text("cpu  0 0 0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\nbtime 0\n")
    (root / "uptime").write_text("0.00 0.00\n")
    if not (root / "self").is_symlink():
        (root / "self").symlink_to(str(system.init.pid))
    for task in list(system.tasks.values()):
        if task is task.group.leader:
            _write_task(task, root / str(task.pid))
        _write_task(task, root / str(task.tgid) / "task" / str(task.pid))


def _write_task(task: Task, directory: Path) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    views = {
        "maps": maps,
        "smaps": smaps,
        "status": status,
        "stat": stat,
        "statm": statm,
        "oom_score": oom_score,
        "oom_score_adj": oom_score_adj,
    }
    for name, view in views.items():
        (directory / name).write_text(view(task), errors="surrogateescape")
    (directory / "comm").write_text(f"{task.comm}\n", errors="surrogateescape")
    (directory / "cmdline").write_text("")
    with (directory / "pagemap").open("wb") as file:
        for offset, piece in pagemap_pieces(task):
            file.seek(offset)
            file.write(piece)
