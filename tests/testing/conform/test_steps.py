"""Steps as lines, and read back."""

import os
from dataclasses import fields

import pytest

from heaplab.abi import MAP_ANONYMOUS, MAP_PRIVATE, PROT_READ, PROT_WRITE, WNOHANG
from heaplab.errors import UsageError
from heaplab.testing.conform.steps import KINDS, Access, Kill, Load, Mmap, Pipe, Wait4, parse, parse_all


def with_all(kind, number):
    names = [each.name for each in fields(kind) if each.name != "pid"]
    return kind(2, **{name: 8 if name == "size" and issubclass(kind, Access) else number for name in names})


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
@pytest.mark.parametrize("number", [0, 1, 3, 0x1001, (1 << 47) - 1])
def test_a_step_is_read_back_from_its_line(kind, number):
    step = with_all(kind, number)
    assert parse(str(step)) == step
    assert len(str(step).splitlines()) == 1


def test_a_line_says_what_is_done():
    assert str(Mmap(3, 0, 0x3000, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS)) == (
        "[3] mmap(addr=0x0, length=0x3000, prot=READ|WRITE, flags=PRIVATE|ANONYMOUS, fd=-1, offset=0x0)"
    )
    assert str(Kill(2, 3, 9)) == "[2] kill(target=3, sig=SIGKILL)"
    assert str(Wait4(2, -1, WNOHANG)) == "[2] wait4(target=-1, options=NOHANG, status_addr=0x0)"


def test_a_pipe_lets_nobody_sleep_and_tells_its_ends():
    step = parse("[2] pipe(flags=CLOEXEC)")
    assert step == Pipe(2, os.O_CLOEXEC)
    assert step.registers(0x5000) == (0x5000, os.O_CLOEXEC | os.O_NONBLOCK)
    assert step.told(0, b"\3\0\0\0\4\0\0\0") == "3, 4"
    assert step.told(-24, b"\xaa" * 8) == Pipe(2, 0, 0x7000).told(0, b"\xaa" * 8) == ""


def test_what_has_a_default_can_be_left_out_and_comments_too():
    assert parse_all("\n# all\n[2] load(addr=0x1000)  # a page\n") == [Load(2, 0x1000, 8, 0)]


@pytest.mark.parametrize(
    "line",
    [
        "fork()",
        "[2] spoon()",
        "[2] access(addr=0x0)",
        "[2] load(addr=0x0, size=3)",
        "[2] brk(addr=zero)",
        "[2] brk(place=0x1)",
        "[2] brk()",
        "[2] mmap(addr=0x0",
    ],
)
def test_what_is_no_step_is_named(line):
    with pytest.raises(UsageError, match="is no step") as caught:
        parse(line)
    assert repr(line) in str(caught.value)


@pytest.mark.parametrize("kind", KINDS.values(), ids=lambda kind: kind.__name__)
def test_making_a_step_simpler_comes_to_an_end(kind):
    step, rounds = with_all(kind, 0x7FFF), 0
    while simpler := list(step.simpler()):
        assert step not in simpler
        step, rounds = simpler[-1], rounds + 1
        assert rounds < 100


def test_the_line_of_what_is_no_step_is_told():
    with pytest.raises(UsageError, match=r"line 3: .*spoon"):
        parse_all("# all\n[1] fork()\n[2] spoon()\n")
