"""What is shown of things: repr in a line, str and HTML that never raise."""

import re

import pytest

from heaplab import Comparison, Kernel, compare, create, open_trace, parse, report, shown, synthetic
from heaplab.traces import SizeProfile
from heaplab.views.heap import heap_view


@pytest.fixture(scope="module")
def comparison() -> Comparison:
    return compare([synthetic(500, seed=1)], ["rbtree", "buddy"], jobs=1)


def test_reprs_are_a_line_and_exact(comparison: Comparison) -> None:
    kernel = Kernel(ram="4 MiB", seed=1)
    process = kernel.init.fork()
    process.name = "sh"
    thread = process.spawn_thread()
    heap = create("freelist:fit=best:top_pad=4096", process)
    twin = create("buddy", process.fork(), "c")
    trace, run = open_trace("lua"), comparison.runs[0]
    for thing, said in (
        (kernel, r"<Kernel with 4\.00 MiB: 3 processes, [\d,]+ of 1,024 frames free>"),
        (kernel.machine, r"<Machine with 4\.00 MiB: [\d,]+ of 1,024 frames free>"),
        (process, "<Process 2 sh R>"),
        (thread, "<Process 2 sh R, thread 3>"),
        (process.context, r"<Context: [\d,]+ loads?, [\d,]+ stores?>"),
        (process.look(), r"<Look at memory whose break is at 0x[0-9a-f]+>"),
        (heap, rf"<heap freelist:fit=best:top_pad=4096 in python, process 2, root {heap.root:#x}>"),
        (twin, rf"<heap buddy in c, process 4, root {twin.root:#x}>"),
        (heap.attach(process.look()), r"<heap freelist.* a look, root .*>"),
        (trace, r"<Trace lua: 69,655 events, peak live 354 KiB>"),
        (next(iter(trace)), "<Block of 65,536 events>"),
        (SizeProfile(trace), "<SizeProfile of 34,097 requests>"),
        (parse("freelist:fit=best"), "<Spec freelist:fit=best in python>"),
        (comparison, "<Comparison of 1 trace on 2 allocators: 2 runs>"),
        (run, "<Run of synthetic-500-1 on rbtree in c: finished>"),
        (run.timeline, "<Timeline of 500 samples, up to event 500>"),
        (
            heap_view(heap),
            "<HeapView of freelist in process 2: 0 live blocks, 0 B with headers, 7.91 KiB free, .*>",
        ),
        (report.filmstrip(["freelist"], "a0 4; f0"), "<Picture: freelist: malloc 0 4; free 0>"),
        (report.filmstrip(["freelist"], "a0 4; f0").data, "<Film of freelist: malloc 0 4; free 0>"),
        (report.process_tree(kernel).data, "<ProcessTree: The tree of processes>"),
        (run.heap_map, r"<HeapMap of process 0 after \d+ events: 132 KiB in \d+ cells>"),
    ):
        assert re.fullmatch(said, repr(thing)), repr(thing)


def test_a_kernel_is_its_memory_and_its_tree() -> None:
    kernel = Kernel(ram="1 MiB")
    assert str(kernel).splitlines()[1:] == ["init(1)"]
    kernel.init.fork().fork().exit(3)
    first, *tree = str(kernel).splitlines()
    assert first.startswith("1.00 MiB: 256 frames of 4096 bytes, ")
    assert tree == ["init(1)", "`-init(2)", "   `-init(3) <defunct>"]


def test_a_process_is_its_state_its_sizes_and_its_areas() -> None:
    process = Kernel(ram="1 MiB", core=True).init.fork()
    page = process.mmap(3 * 4096)
    process.store64(page, 1)
    text = str(process)
    assert text.startswith("init(2): R (running), parent 1, 1 thread, 1 minor and 0 major faults\nVmPeak ")
    assert f"VmSize {(0x21000 + 3 * 4096) // 1024} kB, VmRSS 4 kB" in text
    assert text.splitlines()[2:] == [line.rstrip() for line in process.maps().splitlines()]
    for _ in range(30):
        process.mmap(4096, prot=len(process.maps().splitlines()) % 2)
    assert "\n... 16 more\n" in str(process)
    assert len(str(process).splitlines()) == 2 + 8 + 1 + 8


def test_the_dead_say_that_they_are() -> None:
    kernel = Kernel(ram="1 MiB", core=True)
    parent = kernel.init.fork()
    child = parent.fork()
    heap = create("rbtree", child)
    parent.kill(child.pid, 11)
    for state in ("Z (zombie)", "X (dead)"):
        assert str(child).startswith(f"init(3): {state}, parent 2, ")
        assert "it is dead, and has no memory any more\nit left a core: " in str(child)
        assert "it is dead" in child._repr_html_()
        assert repr(heap) == f"<heap rbtree in python, process 3, root {heap.root:#x}>"
        assert str(heap) == f"{heap!r}\ncannot be shown: the process is dead"
        assert heap._repr_html_().startswith("<pre>&lt;heap rbtree")
        if state[0] == "Z":
            parent.wait()
    assert "init(2)" in kernel._repr_html_()


def test_a_heap_is_its_blocks_its_free_structure_and_its_pages() -> None:
    for language in ("python", "c"):
        heap = create("rbtree", Kernel(ram="1 MiB").init.fork(), language)
        p, q = heap.malloc(100), heap.malloc(200)
        heap.free(p)
        assert str(heap) == str(heap_view(heap))
        assert "rbtree in process 2: 1 live block" in str(heap)
        assert "<title>rbtree in process 2</title>" in heap._repr_html_()
        heap.process.store64(q - 8, 0xBAD)
        assert "\nthe heap is broken: " in str(heap)
        assert "<svg" in heap._repr_html_()


def test_what_cannot_be_drawn_says_why() -> None:
    broken = "tests.test_shown:no_such_function"
    assert shown.text([1], broken).startswith("[1]\ncannot be shown: ")
    assert shown.html("<x>", broken).startswith("<pre>&#x27;&lt;x&gt;&#x27;\ncannot be shown: ")
