"""`check` names what is wrong with a design, whatever it is; faults are planted in Python and in C."""

import shutil
from pathlib import Path

import pytest

from heaplab.allocators.designs.freelist import FreeList
from heaplab.testing.checking import Outcome, check, short_traces

LIFO = Path(__file__).parents[2] / "experiments" / "lifo.c"


def checked(design, language="python", *, sleeps=False, **others):
    """sleeps: what is planted never returns, and each time that is waited for."""
    step, clause = (0.1, 1) if sleeps else (20, 60)
    return check(
        design,
        language,
        seconds=60,
        steps=400,
        step_seconds=step,
        clause_seconds=clause,
        shrink_seconds=6,
        **others,
    )


def outcomes(result):
    return {part.name: part.outcome for part in result.parts}


def told(result):
    """All that was said to be broken."""
    return "\n".join(broken.sentence for part in result.parts for broken in part.broken)


def steps(result, name="fuzz"):
    [part] = [part for part in result.parts if part.name == name]
    return list(part.broken[0].steps)


@pytest.mark.parametrize("language", ["python", "c"])
def test_a_sound_design_passes(language):
    result = checked("buddy", language)
    assert result.passed
    assert set(outcomes(result).values()) == {Outcome.PASSED}
    assert result.data()["passed"] is True


def test_two_checks_with_steps_are_equal_but_for_seconds():
    first, second = (checked("freelist", "c", seed=3).data() for _ in range(2))
    for each in (first, second):
        for part in each["parts"]:
            del part["seconds"]
    assert first == second


class LostMerge(FreeList):
    """A freed block does not merge with the free one before it."""

    def _release(self, block, size, prev_size):
        super()._release(block, size, 0)


class LostSplit(FreeList):
    """What is left of a block of 600 bytes or more is nobody's."""

    def _malloc(self, size, alignment):
        p = super()._malloc(size, alignment)
        if p and 600 <= size < 5000 and self._usable(p) < 6000:
            self._store(p + self._usable(p), 0)
        return p


class Misaligned(FreeList):
    """Blocks of 100 to 200 bytes begin 8 bytes too late."""

    def malloc(self, size):
        p = super().malloc(size)
        return p + 8 if p and 100 <= size < 200 else p


class Unzeroed(FreeList):
    """calloc zeroes nothing."""

    def calloc(self, n, size):
        return self.malloc(n * size) if n * size < 1 << 20 else super().calloc(n, size)


class Asleep(FreeList):
    """Frees more than 500 bytes for ever, and touches nothing."""

    def _free(self, p):
        while self._usable(p) > 500:
            while True:
                pass
        super()._free(p)


@pytest.mark.parametrize(
    ("design", "sentence", "shortest"),
    [
        (LostMerge, "broken header", 6),
        (LostSplit, "broken header", 1),
        (Misaligned, "multiple of 16", 1),
        (Unzeroed, "not all zero", 60),
        (Asleep, "no end after 0.1 s", 2),
    ],
)
def test_a_fault_in_python_is_named_with_its_shortest_steps(design, sentence, shortest):
    result = checked(design, sleeps=design is Asleep)
    assert not result.passed
    assert sentence in told(result)
    assert len(steps(result)) <= shortest


def test_the_line_of_the_design_is_named(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from heaplab.allocators.designs.freelist import FreeList\n"
        "class Mine(FreeList):\n"
        "    def _free(self, p):\n"
        "        return {}[p]\n"
    )
    result = checked(str(path))
    assert {broken.place for part in result.parts for broken in part.broken} >= {"mine.py:4"}
    assert steps(result) == ["malloc 0 0", "free 0"]


@pytest.mark.skipif(shutil.which("cc") is None, reason="needs cc")
@pytest.mark.parametrize(
    ("sound", "faulty", "sentence", "shortest"),
    [
        (
            "    if (rest)\n        push(",
            "    if (rest && size < 600)\n        push(",
            "round in a circle",
            ["malloc 0 600"],
        ),
        ("    return p;\n", "    return p + (size == 24 ? 8 : 0);\n", "multiple of 16", ["malloc 0 24"]),
        ("up(size + HEADER", "up(size + HEADER - 1", "usable_size says 200 bytes", ["malloc 0 201"]),
        (
            "p) { push(",
            'p) { while (size_of(h, p - HEADER) > 600) __asm__ volatile(""); push(',
            "no end after 1,000,000 memory references",
            ["malloc 0 585", "free 0"],
        ),
        (
            "p) { push(",
            'p) { if (size_of(h, p - HEADER) > 600) for (;;) __asm__ volatile(""); push(',
            "no end after 0.1 s",
            ["malloc 0 585", "free 0"],
        ),
        (
            "p) { push(",
            "p) { if (size_of(h, p - HEADER) > 600) *(volatile int *)8 = 1; push(",
            "its process was ended by SIGSEGV",
            ["malloc 0 585", "free 0"],
        ),
    ],
    ids=["lost split", "misaligned", "short", "circle", "asleep", "dies"],
)
def test_a_fault_in_c_is_named_with_its_shortest_steps(request, tmp_path, sound, faulty, sentence, shortest):
    text = LIFO.read_text()
    assert sound in text
    path = tmp_path / "mine.c"
    path.write_text(text.replace(sound, faulty))
    waits = "asleep" in request.node.name  # each attempt waits: no time for all of them
    result = checked(str(path), "c", sleeps=waits or "circle" in request.node.name)
    assert not result.passed
    assert sentence in told(result)
    assert steps(result) == shortest or (waits and len(steps(result)) <= 4)


def test_the_short_traces_are_valid_and_short():
    for name, trace in short_traces(whole=False):
        assert trace.header.events <= 5000, name
        assert sum(len(block) for block in trace) == trace.header.events
