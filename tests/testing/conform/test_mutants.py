"""Mistakes planted in the model: each goes in, comes out again, and some are caught on the real kernel."""

import builtins
import dis
import inspect

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.kernel import pid
from heaplab.testing.conform import mutants
from heaplab.testing.conform.mutants import (
    counts,
    files,
    memory,
    pages,
    pipes,
    processes,
    remap,
    signals,
    verdict,
)
from heaplab.testing.conform.mutants.plant import Edit, Mutant, _function, planted
from heaplab.testing.conform.observe import Difference, Start
from heaplab.testing.conform.play import Played, World
from heaplab.testing.conform.steps import Getpid

LISTS = (
    *(pages.PAGES, memory.MEMORY, remap.REMAP, files.FILES, pipes.PIPES),
    *(processes.PROCESSES, signals.SIGNALS, signals.HANDLERS, counts.COUNTS),
)
#: caught early
QUICK = (
    "accerr-is-maperr",
    "split-keeps-offset",
    "last-owner-copies",
    "fork-leaves-write",
    "orphaned-when-reaped",
    "pipe-counts-bytes",
)


def lowest_pid(old="first = max(self._next, lowest)", where="pid.PidAllocator.alloc", when="True"):
    return Mutant(
        "lowest", "process", "The lowest pid is given out.", "", (Edit(where, old, "first = lowest", when),)
    )


def pids():
    """The second pid that is given out when the first was given back."""
    allocator = pid.PidAllocator(10)
    allocator.free(allocator.alloc())
    return allocator.alloc()


def globals_used(code):
    nested = [each for each in code.co_consts if inspect.iscode(each)]
    names = {each.argval for each in dis.get_instructions(code) if each.opname == "LOAD_GLOBAL"}
    return names.union(*map(globals_used, nested))


def test_there_are_many_and_none_has_the_name_of_another():
    assert len(mutants.MUTANTS) == sum(map(len, LISTS)) >= 25


def test_each_says_what_it_is():
    for mutant in mutants.MUTANTS.values():
        assert mutant.mistake.endswith("."), mutant.name
        assert mutant.linux, mutant.name
        assert mutant.profile in ("all", "mm", "process", "files", "exec"), mutant.name
        assert len({edit.where for edit in mutant.edits}) == len(mutant.edits) > 0, mutant.name


@pytest.mark.parametrize("mutant", mutants.MUTANTS.values(), ids=lambda mutant: mutant.name)
def test_each_goes_in_and_comes_out(mutant):
    functions = [_function(edit.where) for edit in mutant.edits]
    before = [(function.__code__, set(function.__globals__)) for function in functions]
    with planted(mutant) as reached:
        for function, (code, _) in zip(functions, before, strict=True):
            assert function.__code__ is not code
            assert globals_used(function.__code__) <= set(function.__globals__) | set(vars(builtins))
    assert reached.times == 0
    assert [(function.__code__, set(function.__globals__)) for function in functions] == before


def test_it_comes_out_when_something_fails():
    def fail():
        with planted(lowest_pid()) as reached:
            assert (pids(), reached.times) == (1, 2)
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert pids() == 2


def test_it_is_reached_where_it_makes_a_difference():
    with planted(lowest_pid(when="self._next > lowest")) as reached:
        pids()
    assert reached.times == 1


@pytest.mark.parametrize(
    ("mutant", "why"),
    [
        (lowest_pid(old="first = 7"), "0 times"),
        (lowest_pid(old="lowest"), "times"),
        (lowest_pid(where="pid.PidAllocator.allocate"), "no pid.PidAllocator.allocate any more"),
        (lowest_pid(where="pid.RESERVED_PIDS"), "no function"),
    ],
)
def test_what_does_not_fit_the_kernel_any_more_is_an_error(mutant, why):
    with pytest.raises(LookupError, match=why), planted(mutant):
        pass
    assert pids() == 2


# ---- verdicts


@pytest.fixture
def made_up_play(monkeypatch):
    """Sequences without a kernel: what `play` does at the end of each, given its number."""

    def use(play):
        def play_once(source, every):
            while source(World(Start(0, (0, 0), ()))) is not None:
                pass
            return play()

        monkeypatch.setattr(verdict, "demand_rights", lambda: None)
        monkeypatch.setattr(verdict, "Generator", made_up_generator)
        monkeypatch.setattr(verdict, "play_once", play_once)

    return use


def made_up_generator(seed, count, profile):
    steps = iter([Getpid(1)] * count)
    return lambda world: next(steps, None)


def verdict_on(mutant):
    (said,) = mutants.judge([mutant], steps=25, length=10)
    return said.outcome, said.steps, said.sequences, said.reached


def test_verdicts(made_up_play):
    same, different = Played([], []), Played([], [Difference("pid", "2", "1")])
    made_up_play(lambda: same)
    assert verdict_on(lowest_pid()) == ("never reached", 25, 3, 0)
    made_up_play(lambda: [pids(), same][1])
    assert verdict_on(lowest_pid()) == ("survived", 25, 3, 6)
    made_up_play(lambda: different if pids() == 1 else same)
    assert verdict_on(lowest_pid()) == ("caught", 10, 1, 2)


def test_what_differs_only_once_or_without_the_mistake_too_is_no_catch(made_up_play):
    same, different = Played([], []), Played([], [Difference("pid", "2", "1")])
    moods = iter([different, same, different, same, same, same])
    made_up_play(lambda: next(moods))
    assert verdict_on(lowest_pid()) == ("never reached", 25, 3, 0)
    made_up_play(lambda: different)
    assert verdict_on(lowest_pid()) == ("never reached", 25, 3, 0)


def test_a_broken_invariant_catches_and_a_broken_judge_does_not(made_up_play):
    made_up_play(lambda: pid.PidAllocator(10).free(7) if pids() == 1 else Played([], []))
    assert verdict_on(lowest_pid()) == ("caught", 10, 1, 2)
    made_up_play(lambda: {}["lost"])
    with pytest.raises(KeyError):
        verdict_on(lowest_pid())


def test_without_sequences_of_its_kind_it_is_not_played(made_up_play):
    made_up_play(lambda: Played([], []))
    mutant = lowest_pid()
    assert verdict_on(Mutant("lowest", "no such kind", "", "", mutant.edits)) == ("not played", 0, 0, 0)


# ---- on the real kernel


@pytest.mark.parametrize("name", QUICK)
def test_some_are_caught(rights, name):
    (said,) = mutants.judge([mutants.MUTANTS[name]], steps=2000, length=250)
    assert said.outcome == mutants.CAUGHT
    assert said.showed is not None


def test_the_command(rights):
    some = ",".join(QUICK[:2])
    result = CliRunner().invoke(main, ["conform", "--mutants", some, "--steps", "2000"])
    assert result.exit_code == 0
    assert result.stdout.splitlines()[-1].startswith("2 of 2 caught, after ")
    assert result.stderr.startswith("accerr-is-maperr: caught, ")


def test_the_command_with_one_that_lives(rights):
    result = CliRunner().invoke(
        main, ["conform", "--mutants", "moved-pages-are-left-behind", "--steps", "2", "--seeds", "1", "-q"]
    )
    assert result.exit_code == 1
    assert "never reached" in result.stdout
    assert result.stderr == ""


def test_what_is_known_when_interrupted_is_shown(monkeypatch):
    def judge(chosen, steps, length, seed, progress):
        yield mutants.Verdict(chosen[0], mutants.CAUGHT, 7, 1, 3, 0.5, Difference("pid", "2", "1"))
        raise KeyboardInterrupt

    monkeypatch.setattr(mutants, "judge", judge)
    result = CliRunner().invoke(main, ["conform", "--mutants", "no-zero-frame,accerr-is-maperr"])
    assert result.exit_code == 130
    row, total = result.stdout.splitlines()[1:]
    assert " ".join(row.split()) == "no-zero-frame mm caught 7 0.5 pid: real 2; model 1"
    assert total == "1 of 1 caught, after 7 steps at most; 0 s"
    assert result.stderr.endswith("heaplab: interrupted after 1 of 2 mutants\n")


def test_a_mutant_that_is_none_is_named():
    result = CliRunner().invoke(main, ["conform", "--mutants", "none-such"])
    assert result.exit_code == 2
    assert result.stderr.startswith("heaplab: there is no mutant 'none-such'")
