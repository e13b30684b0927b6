"""Hypothesis strategies for steps on a heap, and for traces.

    from heaplab.testing.strategies import steps, traces

`steps` are lists of possible steps (heaplab.testing.steps), `traces` are `heaplab.traces.Trace`.  Both shrink
well: each step stands alone, and without it the others keep their meaning.  Where heaplab is installed,
Hypothesis knows them too (entry point `hypothesis`): `st.from_type(Trace)`, and `@given(...)` by annotations.
"""

from collections.abc import Iterable

from hypothesis import strategies as st

from heaplab.testing.renumbering import renumbered
from heaplab.testing.steps import (
    MOST_ALIGNMENT,
    SIZES,
    Aligned,
    Calloc,
    Fork,
    Free,
    Malloc,
    Realloc,
    Step,
    ThreadExit,
)
from heaplab.testing.traces import event_lists
from heaplab.traces import Trace

#: kinds of steps that `steps` draws unless told otherwise: those that need no other process or thread
ONE_PROGRAM: tuple[type[Step], ...] = (Malloc, Free, Realloc, Calloc, Aligned)


def sizes(most: int = 1 << 20) -> st.SearchStrategy[int]:
    """A strategy for sizes of requests in bytes, at most `most`: small ones, and around powers of two.

    >>> sizes().example() <= 1 << 20    # doctest: +SKIP
    True
    """
    powers = st.builds(
        lambda bits, more: max((1 << bits) + more, 0), st.integers(4, 20), st.integers(-17, 16)
    )
    usual = st.sampled_from([size for size in SIZES if size <= most] or [most])
    return st.one_of(usual, st.integers(0, min(most, 300)), powers.filter(lambda size: size <= most))


@st.composite
def steps(
    draw: st.DrawFn,
    *,
    kinds: Iterable[type[Step]] = ONE_PROGRAM,
    min_size: int = 0,
    max_size: int = 60,
    slots: int = 8,
    processes: int = 3,
    threads: int = 1,
    size: st.SearchStrategy[int] | None = None,
) -> list[Step]:
    """A strategy for lists of steps that are possible one after another.

    kinds: of steps.  min_size, max_size: how many are drawn; those that are not possible are left out, so
    there may be fewer.  slots: blocks that live at once, at most, in each process.  processes, threads: that
    take steps, at most, if Fork or several threads are wanted.  size: of requests; `sizes()` without it.

    >>> from hypothesis import given, settings
    >>> from heaplab.testing.checked_heap import CheckedHeap
    >>> @settings(max_examples=5, database=None, deadline=None)
    ... @given(steps(kinds=[Malloc, Free]))
    ... def test(script):
    ...     heap = CheckedHeap("freelist")
    ...     for step in script:
    ...         heap.do(step)
    >>> test()
    """
    each = _step(tuple(kinds), slots, processes, threads, size or sizes())
    return renumbered(draw(st.lists(each, min_size=min_size, max_size=max_size)))


def _step(
    kinds: tuple[type[Step], ...], slots: int, processes: int, threads: int, size: st.SearchStrategy[int]
) -> st.SearchStrategy[Step]:
    slot = st.integers(0, slots - 1)
    who = {
        "process": st.integers(0, processes - 1) if Fork in kinds else st.just(0),
        "thread": st.integers(0, threads - 1),
    }
    made: dict[type[Step], st.SearchStrategy[Step]] = {
        Malloc: st.builds(Malloc, slot, size, **who),
        Free: st.builds(Free, slot, **who),
        Realloc: st.builds(Realloc, slot, size.map(lambda n: max(1, n)), **who),
        Calloc: st.builds(Calloc, slot, st.integers(1, 4), size, **who),
        Aligned: st.builds(
            Aligned, slot, st.sampled_from([1 << bits for bits in range(MOST_ALIGNMENT + 1)]), size, **who
        ),
        Fork: st.builds(Fork, st.integers(1, max(1, processes - 1)), **who),
        ThreadExit: st.builds(ThreadExit, **who),
    }
    return st.one_of([made[kind] for kind in kinds])


def traces(*, processes: bool = True, max_size: int = 60) -> st.SearchStrategy[Trace]:
    """A strategy for valid traces, in memory.

    processes: whether they fork, exec and exit.  max_size: how many events at most.

    >>> from hypothesis import given, settings
    >>> @settings(max_examples=5, database=None, deadline=None)
    ... @given(traces(max_size=10))
    ... def test(trace):
    ...     assert trace.header.events <= 10
    >>> test()
    """
    return event_lists(processes=processes, max_size=max_size).map(lambda events: Trace.of(events, "drawn"))


def step() -> st.SearchStrategy[Step]:
    """A strategy for single steps of one program, possible or not."""
    return _step(ONE_PROGRAM, 8, 1, 1, sizes())
