"""Pages copied after a fork: from the write on, until they are shared again or unmapped."""

from heaplab.kernel import Kernel
from heaplab.lab.copied import CopyWatch


class Clock:
    """The event that is being carried out, as the test says."""

    event = 0

    def __call__(self) -> int:
        return self.event


def watched(clock):
    kernel = Kernel(ram="4 MiB")
    watch = CopyWatch(clock)
    watch.watch(kernel.system)
    parent = kernel.init.fork()
    watch.begin(0, parent)
    return watch, parent


def rows(watch):
    found = watch.copied(99)
    return list(
        zip(*(getattr(found, name).tolist() for name in ("event", "until", "process", "page")), strict=True)
    )


def test_a_write_to_a_shared_page_copies_it_and_to_one_s_own_does_not():
    clock = Clock()
    watch, parent = watched(clock)
    page = parent.mmap(3 * 4096)
    parent.store64(page, 1)
    assert rows(watch) == []
    child = parent.fork()
    watch.begin(1, child)
    clock.event = 5
    child.store64(page + 8, 2)
    child.store64(page + 16, 2)
    child.store64(page + 4096, 2)
    clock.event = 6
    parent.store64(page, 3)  # nobody else has the frame any more
    assert rows(watch) == [(5, 99, 1, page)]
    assert watch.copied(99).at(6, 1).tolist() == [page]
    assert watch.copied(99).at(5, 1).tolist() == watch.copied(99).at(6, 0).tolist() == []


def test_a_copy_ends_where_the_page_is_unmapped_or_shared_again():
    clock = Clock()
    watch, parent = watched(clock)
    pages = parent.mmap(4 * 4096)
    top = parent.sbrk(4 * 4096)
    for n in range(4):
        parent.store64(pages + 4096 * n, 1)
        parent.store64(top + 4096 * n, 1)
    child = parent.fork()
    watch.begin(1, child)
    clock.event = 3
    for start in (pages, pages + 4096, top, top + 3 * 4096):
        child.store64(start, 2)
    clock.event = 4
    child.munmap(pages, 4096)
    child.sbrk(-4096)
    clock.event = 7
    watch.end(1)  # as before a fork
    watch.leave(1)
    until = {page: until for _, until, _, page in rows(watch)}
    assert until == {pages: 4, pages + 4096: 7, top: 7, top + 3 * 4096: 4}


def test_watching_changes_no_count():
    def counts(watching):
        kernel = Kernel(ram="4 MiB")
        if watching:
            CopyWatch(Clock()).watch(kernel.system)
        parent = kernel.init.fork()
        page = parent.mmap(16 * 4096)
        for n in range(16):
            parent.store64(page + 4096 * n, n)
        child = parent.fork()
        for n in range(0, 16, 2):
            child.store64(page + 4096 * n, n)
        return [(each.minflt, each.context.loads, each.context.stores) for each in (parent, child)]

    assert counts(True) == counts(False)
