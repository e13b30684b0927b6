"""The lives of processes over a few calls."""

import pytest

from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.kernel.elf import make_elf
from heaplab.report import process_tree, timeline


def test_fork_exec_exit_wait(legible):
    kernel = Kernel(ram="4 MiB", seed=1)
    kernel.write_file("/bin/lesson", make_elf())
    shell = kernel.init.fork()
    moments = []

    def after(call):
        moments.append((call, process_tree(kernel)))

    after("")
    child = shell.fork()
    after("fork()")
    child.execve("/bin/lesson", ["lesson"])
    after("execve('/bin/lesson', ['lesson'])")
    child.exit(3)
    after("exit(3)")
    shell.wait()
    after("wait()")
    shell.vfork()
    after("vfork()")
    picture = timeline(moments)
    first, second, third, fourth = picture.data.lanes
    assert [(span.first, span.end, span.name, span.meaning) for span in third.spans] == [
        (1, 2, "init", "running"),
        (2, 3, "lesson", "running"),
        (3, 4, "lesson", "zombie, exit code 3"),
    ]
    assert [lane.parent for lane in (first, second, third, fourth)] == [0, 1, 2, 2]
    assert [span.state for span in second.spans] == ["R", "D"]
    legible(picture)


def test_an_empty_timeline_is_refused():
    with pytest.raises(UsageError, match="needs moments"):
        timeline([])
