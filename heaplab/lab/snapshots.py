"""Replays that stand still: from the nearest of them, any moment is a few events away.

    moment     0          1600          3200          4800      5000
    left       first      snapshot      snapshot      snapshot
                                                         `-- fork, then 200 events --> moment 5000

A snapshot is a fork of all processes of a replay.  The kernel copies a page when either side writes it, so
that a snapshot costs the frames that were written since, page tables, and 16 bytes a slot.
"""

from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from sortedcontainers import SortedDict

from heaplab.errors import HeaplabError
from heaplab.kernel import Kernel
from heaplab.lab.replay import Replay
from heaplab.machine import Machine
from heaplab.process import Process

#: so many replays that were asked for last are good where memory is short
KEPT: Final = 4
#: so many else
_KEPT: Final = 16
#: the most snapshots, those that stay as long as any can, and the fewest events between two of them
_SNAPSHOTS: Final = 64
_FEWEST: Final = 4
_APART: Final = 256
#: what is left behind may take so many bytes of frames, or so many times what the replay had at its peak
_FRAME_BYTES: Final = 1 << 30
_PEAKS: Final = 8
#: bytes that the slots of all snapshots may take, and what one slot takes
_SLOT_BYTES: Final = 512 << 20
_SLOT: Final = 16
#: so far before the moment that was asked for others are left, for whoever goes back step by step
_BEFORE: Final = (8192, 512, 32)
_NEAR: Final = 16
#: frames for the page tables of one process
_TABLES: Final = 24
_ENTRIES: Final = 512
#: processes that a kernel has pids for, with room to spare
_MOST_PROCESSES: Final = 16_384
#: events between two reports of progress
_REPORT_EVERY: Final = 32_768


def fork_exactly(kernel: Kernel, process: Process) -> Process:
    """Fork a process so that whatever happens next happens to the child as it would to the parent.

    A child of fork differs in two things.  It has no entries for the zero frames of VMAs that nobody has
    written.  And its VMAs are marked as inherited, so that they merge with fewer others.
    Raises: as Process.fork; MemoryError.
    """
    child = process.fork()
    old, new = kernel.task(process.pid).mm, kernel.task(child.pid).mm
    assert old is not None
    assert new is not None
    for vma, copy in zip(old.vmas, new.vmas, strict=True):
        copy.anon_vma, copy.inherited = vma.anon_vma, vma.inherited
        if vma.anon_vma is None and old.space.fork_range(new.space, vma.start, vma.end, cow=False) is None:
            child.exit()
            process.waitpid(child.pid)
            raise MemoryError("no frame for a page table of the fork")
    return child


class Snapshots:
    """Replays of one trace that stand still at moments, and the way to any other.

    begin: makes a replay at moment 0 in a kernel of its own.  events, slots, processes: of the trace.
    progress: called now and then with the number of events done on the way to a moment.
    need: the most frames of anonymous memory that the replay had, as far as anybody is to go.

    A replay runs only while the machine has frames for all that it may need.  When frames could run out,
    snapshots are dropped; if that is not enough, the replay gets a kernel of its own.  So the OOM killer
    finds no more to do than in a replay without snapshots.
    A design that keeps something elsewhere than in the process's memory cannot be forked.  Its branches do
    other things than the log says; from then on each of its replays gets a kernel of its own.
    """

    def __init__(
        self,
        begin: Callable[[], Replay],
        events: int,
        slots: int,
        processes: int,
        progress: Callable[[int], None],
    ) -> None:
        self.need = 0
        self._begin = begin
        self._processes = processes
        self._progress = progress
        self._first: Replay | None = None
        self._apart = False
        most = max(_FEWEST, min(_SNAPSHOTS, _SLOT_BYTES // (_SLOT * max(slots, 1))))
        self._interval = max(_APART, -(-events // most))
        # by their moments: those left at every interval, those left near others, and those asked for
        self._every: SortedDict[int, Replay] = SortedDict()
        self._near: OrderedDict[int, Replay] = OrderedDict()
        self._kept: OrderedDict[int, Replay] = OrderedDict()

    def close(self) -> None:
        """Let go of all of them."""
        for replay in self._kept.values():
            replay.closed = True
        self._every.clear()
        self._near.clear()
        self._kept.clear()
        self._first = None

    def __len__(self) -> int:
        """How many replays there are."""
        return (self._first is not None) + len(self._every) + len(self._near) + len(self._kept)

    @property
    def touched_frames(self) -> int:
        """Frames of the machine that this computer has committed memory for."""
        return self._first.kernel.machine.touched_frames if self._first is not None else 0

    def at(self, done: int) -> Replay:
        """Return a replay that stands there; nobody may change it.  It is `closed` once it had to go.

        Raises: HeaplabError when the replay ends before.
        """
        replay = self._kept.get(done)
        if replay is None:
            replay = self._near.pop(done, None) or self.run_to(done)
            self._kept[done] = replay
            alone = self._first is None or replay.kernel is not self._first.kernel
            while len(self._kept) > (KEPT if alone else _KEPT):
                self._close_oldest(self._kept)
        self._kept.move_to_end(done)
        return replay

    def run_to(self, done: int) -> Replay:
        """Return a replay that stands there, for the caller to go on with and to close.

        Raises: HeaplabError when the replay ends before.
        """
        branch = None if self._apart else self._branch_before(done)
        if branch is not None:
            if self._carry_out(branch, done) is None:
                return branch
            self._apart = True
        replay = self._begin()
        if why := self._carry_out(replay, done):
            raise HeaplabError(f"on the way to moment {done}: {why}")
        return replay

    def _carry_out(self, replay: Replay, done: int) -> str | None:
        """Let the replay go on to `done`; close it and return why if it does other things than its log."""
        try:
            while replay.done < done and replay.end is None and replay.strayed is None:
                replay.advance(min(self._stops(replay, done)))
                self._progress(replay.done)
                if self._shares(replay):
                    self._leave_behind(replay, done)
        except BaseException:
            replay.close()
            raise
        if replay.done == done and replay.strayed is None:
            return None
        replay.close()
        if replay.end is not None:
            return replay.end.reason
        return f"event {replay.strayed} gave another address, or made more references, than the first time"

    def _branch_before(self, done: int) -> Replay | None:
        """Return a branch of the nearest replay before; None where there is no room for one."""
        if self._first is None:
            self._first = self._begin()
        return self._branch(self._nearest(done)) if self._make_room() else None

    def _nearest(self, done: int) -> Replay:
        assert self._first is not None
        found = self._first
        at = bisect_right(self._every.keys(), done) - 1
        if at >= 0:
            found = self._every.peekitem(at)[1]
        for replays in (self._near, self._kept):
            for moment, replay in replays.items():
                if found.done < moment <= done and self._shares(replay):
                    found = replay
        return found

    def _shares(self, replay: Replay) -> bool:
        """Whether the replay is in the kernel of the snapshots."""
        return self._first is not None and replay.kernel is self._first.kernel

    def _branch(self, replay: Replay) -> Replay | None:
        """Return a branch, or None: the replay of a design that cannot be attached to a child has none."""
        try:
            return replay.branch(partial(fork_exactly, replay.kernel))
        except Exception:
            return None

    # ---- what is left on the way ----

    def _stops(self, replay: Replay, done: int) -> Iterator[int]:
        """Yield where the replay is to stop on the way to `done`; the first of them is what counts."""
        yield min(done, replay.done + _REPORT_EVERY)
        if self._shares(replay):
            yield (replay.done // self._interval + 1) * self._interval
            yield from (done - before for before in _BEFORE if done - before > replay.done)

    def _leave_behind(self, replay: Replay, done: int) -> None:
        """Leave a branch, if one is to be here and there is room for it."""
        here = replay.done
        every = here % self._interval == 0 and here not in self._every
        near = done - here in _BEFORE and here not in self._near and here not in self._kept
        if not (every or near) or not self._make_room():
            return
        branch = self._branch(replay)
        if branch is None:
            return
        if every:
            self._every[here] = branch
        else:
            self._near[here] = branch
            if len(self._near) > _NEAR:
                self._close_oldest(self._near)

    # ---- room ----

    def _is_short(self, kernel: Kernel) -> bool:
        """Whether a replay could want for frames, or for pids."""
        machine = kernel.machine
        processes = min(self._processes, machine.frame_count // (16 * _TABLES) + 1)
        need = self.need + self.need // _ENTRIES + _TABLES * processes
        return machine.free_frames < need or len(kernel.system.tasks) > _MOST_PROCESSES

    def _is_large(self, machine: Machine) -> bool:
        """Whether more than half of the machine is in use, or more than this computer is to give."""
        most = max(_FRAME_BYTES // machine.page_size, _PEAKS * self.need)
        return machine.frame_count - machine.free_frames > min(most, machine.frame_count // 2)

    def _make_room(self) -> bool:
        """Let go of what was left until no replay can want for anything; return False if it still could."""
        assert self._first is not None
        kernel = self._first.kernel
        while (short := self._is_short(kernel)) or self._is_large(kernel.machine):
            if self._near:
                self._close_oldest(self._near)
            elif len(self._kept) > KEPT:
                self._close_oldest(self._kept)
            elif len(self._every) > (0 if short else _FEWEST):
                self._thin_out()
            else:
                return not short
        return True

    def _thin_out(self) -> None:
        """Double the interval."""
        self._interval *= 2
        for moment in [moment for moment in self._every if moment % self._interval]:
            self._every.pop(moment).close()

    @staticmethod
    def _close_oldest(replays: OrderedDict[int, Replay]) -> None:
        replays.popitem(last=False)[1].close()
