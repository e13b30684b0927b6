"""Sequences on sides made up: played, generated, shrunk."""

import os
from dataclasses import replace
from random import Random

import pytest

from heaplab.abi import CLONE_FILES, MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, WNOHANG
from heaplab.errors import WouldBlock
from heaplab.testing.conform.codec import PAGE
from heaplab.testing.conform.generate import PROFILES, Generator
from heaplab.testing.conform.observe import Outcome
from heaplab.testing.conform.play import PageTables, World, play, replay
from heaplab.testing.conform.scene import Scene
from heaplab.testing.conform.shrink import shrink
from heaplab.testing.conform.steps import (
    Brk,
    Clone,
    Close,
    Dup,
    Exec,
    Fork,
    Getpid,
    Kill,
    Load,
    Memfd,
    Mmap,
    Munmap,
    Pipe,
    Store,
    Wait4,
)

RW, PRIVATE = PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS


def test_a_sequence_ends_where_the_sides_differ(made_up):
    steps = [Getpid(2), Brk(3, 5), Getpid(2), Brk(2, 5), Getpid(1)]
    real, model = made_up(), made_up(Brk(2, 5), 7)
    played = play(replay(steps), real, model, real.start)
    assert played.steps == real.done == model.done == steps[:4]
    (found,) = played.differences
    assert found.what == "the step's outcome"


def test_a_sequence_that_does_not_differ_is_played_to_its_end(made_up):
    steps = [Getpid(2), Brk(3, 5)]
    played = play(replay(steps), made_up(), made_up(), made_up.start)
    assert (played.steps, played.differences) == (steps, [])


def test_steps_of_processes_that_are_not_there_are_left_out(made_up):
    steps = [Getpid(2), Getpid(4), Getpid(3)]
    assert play(replay(steps), made_up(), made_up(), made_up.start).steps == [Getpid(2), Getpid(3)]


def test_a_model_that_breaks_differs(made_up):
    class Broken(made_up):
        def perform(self, step):
            raise KeyError("lost")

    (found,) = play(replay([Getpid(2)]), made_up(), Broken(), made_up.start).differences
    assert found.what == "the model broke"
    assert "KeyError" in found.model


def test_a_wait_that_would_sleep_only_looks(made_up):
    class Sleepy(made_up):
        def perform(self, step):
            if not step.options & WNOHANG:
                raise WouldBlock("asleep", ready=lambda: False)
            return super().perform(step)

    real, looked = made_up(), Wait4(2, -1, WNOHANG)
    assert play(replay([Wait4(2, -1, 0)]), real, Sleepy(), real.start).steps == [looked] == real.done


@pytest.mark.parametrize("who", ["real", "model"])
def test_a_copy_on_one_side_alone_is_seen(made_up, entries, who):
    class OnePage(made_up):
        """A side whose first page has a frame; a store may give it another one."""

        copies = False

        def pages(self, spans):
            rest = sum(count for *_, count in spans) - 1
            return entries([5 + len(self.done) * self.copies, *[None] * rest])

    sides = {"real": OnePage(), "model": OnePage()}
    sides[who].copies = True
    (found,) = play(replay([Store(1, 0x401000)]), **sides, start=made_up.start).differences
    assert found.what == "the page of 0x401000"
    assert getattr(found, who) == "another frame"


@pytest.mark.parametrize(("every", "looks"), [(1, [2, 3, 2, 1, 2, 3]), (2, [3, 1, 2, 3]), (5, [1, 2, 3])])
def test_now_and_then_a_process_is_looked_at_in_full_and_all_at_the_end(made_up, every, looks):
    looked = []

    class Watched(made_up):
        def details(self, pid):
            looked.append(pid)
            return super().details(pid)

    steps = [Getpid(2), Getpid(3), Getpid(2)]
    assert play(replay(steps), Watched(), made_up(), made_up.start, every=every).differences == []
    assert looked == looks


@pytest.mark.parametrize(("threads", "same"), [(2, True), (1, False)])
def test_how_often_tasks_that_end_together_fault_is_open(made_up, threads, same):
    class Ends(made_up):
        faults = 20

        def views(self):
            views = super().views()
            ended = replace(views[3], state="Z", minflt=self.faults)
            return views | {3: ended if self.done else replace(views[3], threads=threads, minflt=20)}

        def set_minflt(self, pid, total):
            self.set = pid, total

    real, model = Ends(), Ends()
    real.faults = 21
    differences = play(replay([Kill(2, 3, 9)]), real, model, real.start).differences
    assert [str(found.what) for found in differences] == ([] if same else ["process 3: minor faults"])
    assert model.set == ((3, 21) if same else (1, 0))


def test_details_that_differ_end_a_sequence(made_up):
    class Larger(made_up):
        def details(self, pid):
            return "VmSize:\t12 kB\n" if pid == 3 and self.done else super().details(pid)

    played = play(replay([Getpid(2), Getpid(3), Getpid(2)]), made_up(), Larger(), made_up.start)
    (found,) = played.differences
    assert (found.what, found.real, found.model) == ("process 3: VmSize", "8 kB", "12 kB")
    assert len(played.steps) == 2


# ---- what is learnt of descriptors


def learnt(made_up, *done):
    """A world after steps with these outcomes: a result, or what was told."""
    world = World(made_up.start)
    for step, came in done:
        world.note(step, Outcome(told=came) if isinstance(came, str) else Outcome(came))
    return world


def ends(world, pid):
    """The descriptors of a process: (none of a pipe, to read from, to write to)."""
    scene = Scene(Random(1), world, pid)
    return scene.files(), scene.pipe_ends(writes=False), scene.pipe_ends(writes=True)


def test_both_ends_of_a_pipe_are_known(made_up):
    world = learnt(made_up, (Memfd(2), 0), (Pipe(2), "1, 2"), (Pipe(2), "3, 4"), (Pipe(2), -24))
    assert ends(world, 2) == ([0], [1, 3], [2, 4])
    assert Scene(Random(1), world, 2).pipes() == [(1, 2), (3, 4)]
    world = learnt(made_up, (Pipe(2), "1, 2"), (Dup(2, 2), 5), (Dup(2, 77), 6), (Close(2, 1), 0))
    assert ends(world, 2) == ([6], [], [2, 5])
    assert Scene(Random(1), world, 2).pipes() == []


def test_ends_are_inherited_shared_and_closed_by_exec(made_up):
    world = learnt(
        made_up,
        (Pipe(2), "0, 1"),
        (Pipe(2, os.O_CLOEXEC), "2, 3"),
        (Dup(2, 3), 4),
        (Fork(2), 3),
        (Clone(2, CLONE_FILES), 4),
        (Exec(3, 0), 0x7000),
        (Close(4, 0), 0),
    )
    assert ends(world, 3) == ([], [0], [1, 4])
    assert ends(world, 2) == ends(world, 4) == ([], [2], [1, 3, 4])


# ---- generating


def sequence(made_up, seed, profile="all"):
    nothing = PageTables([], made_up().pages([]), made_up().pages([]))
    world = World(made_up.start, made_up().views(), nothing)
    generator = Generator(seed, 300, profile)
    return [generator(world) for _ in range(301)]


@pytest.mark.parametrize("profile", PROFILES)
def test_a_sequence_is_made_of_its_seed(made_up, profile):
    assert sequence(made_up, 1, profile) == sequence(made_up, 1, profile) != sequence(made_up, 2, profile)


def test_a_sequence_has_an_end(made_up):
    steps = sequence(made_up, 1)
    assert steps[300] is None
    assert None not in steps[:300]


# ---- shrinking


def test_shrinking_leaves_what_is_needed():
    noise = [Getpid(1), Store(2, 0x5000), Munmap(2, 0x1000, 0x1000), Load(2, 0x1000)] * 10
    steps = [*noise, Mmap(2, 0, 0x5000, RW, PRIVATE), *noise, Munmap(2, 0x7000, 0x3000), *noise]

    def differs(some):
        mapped = [
            index for index, step in enumerate(some) if isinstance(step, Mmap) and step.prot & PROT_WRITE
        ]
        wrong = [index for index, step in enumerate(some) if isinstance(step, Munmap) and step.addr == 0x7000]
        return list(some[: wrong[0] + 1]) if mapped and wrong and mapped[0] < wrong[0] else None

    *_, shortest = shrink(steps, differs)
    assert shortest == [Mmap(2, 0, PAGE, PROT_WRITE, 0), Munmap(2, 0x7000, PAGE)]


def test_shrinking_lets_parents_do_what_their_children_did():
    steps = [Fork(1), Fork(2), Fork(3), Brk(4, 5), Fork(2), Kill(5, 4, 9)]

    def differs(some):
        """A process that moved its break is killed by another one; both must have been forked."""
        there, movers = {1}, set()
        for index, step in enumerate(some):
            if step.pid not in there:
                return None
            if isinstance(step, Fork):
                there.add(len(there) + 1)
            elif isinstance(step, Brk):
                movers.add(step.pid)
            elif step.target in movers - {step.pid}:
                return list(some[: index + 1])
        return None

    assert differs(steps) is not None
    *_, shortest = shrink(steps, differs)
    assert shortest == [Brk(1, 5), Fork(1), Kill(2, 1, 9)]
