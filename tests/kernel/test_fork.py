"""fork and copy-on-write: rules 4, 5 and 6."""

from heaplab.machine import FrameKind


def test_memory_is_the_parents_until_written(boot):
    kernel = boot()
    parent = kernel.init.fork()
    page = parent.mmap(parent.page_size)
    parent.store64(page, 1)
    before = kernel.machine.used(FrameKind.ANON)
    child = parent.fork()
    assert kernel.machine.used(FrameKind.ANON) == before
    assert child.load64(page) == 1
    child.store64(page, 2)
    assert kernel.machine.used(FrameKind.ANON) == before + 1
    assert (parent.load64(page), child.load64(page)) == (1, 2)
    kernel.check()
