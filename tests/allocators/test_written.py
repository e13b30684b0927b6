"""Designs in C files outside the tree: they do what the tree's do, and what is wrong with a file is said."""

import re
from pathlib import Path

import pytest
from click.testing import CliRunner

from heaplab import lab
from heaplab.allocators import parse, written
from heaplab.allocators.written import registers_design
from heaplab.cli import main
from heaplab.errors import HeapCorruption, Rule, UsageError
from heaplab.kernel import Kernel
from heaplab.testing import contract
from heaplab.testing.fuzz import fuzz
from heaplab.traces import synthetic

ROOT = Path(__file__).resolve().parents[2]
LIFO = (ROOT / "experiments" / "lifo.c").read_text()
FREELIST = (ROOT / "csrc" / "designs" / "freelist.c").read_text()


@pytest.fixture
def file(tmp_path):
    """`file(text, name)`: the path of a file with this text."""

    def write(text, name="mine.c"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        return str(path)

    return write


def complaint(call, *args):
    with pytest.raises(UsageError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


def seen(spec, page_size):
    """What a heap of `spec` does with a few blocks, to the last reference."""
    process = Kernel(ram="16 MiB", seed=1, page_size=page_size).init.fork()
    heap = spec.create(process)
    blocks = [heap.malloc(size) for size in (100, 5000, 24, 0, 300_000 if page_size == 4096 else 3000)]
    heap.free(blocks[1])
    blocks[2] = heap.realloc(blocks[2], 700)
    blocks.append(heap.aligned_alloc(256, 40))
    blocks.append(heap.calloc(10, 10))
    heap.check()
    return blocks, list(heap.walk()), process.context.loads, process.context.stores, process.syscalls


@pytest.mark.parametrize("page_size", [4096, 256])
def test_a_copy_of_a_design_does_what_the_trees_does(file, page_size):
    """On the usual machine and on another: each has code of its own."""
    copy = parse(file(FREELIST) + ":fit=best", "python")
    assert copy.language == "c"
    assert seen(copy, page_size) == seen(parse("freelist:fit=best", "c"), page_size)


def test_a_copy_with_the_same_magic_is_not_taken_for_the_original(file):
    ours, copy = parse("freelist", "c").design, parse(file(FREELIST)).design
    assert copy.MAGIC == ours.MAGIC
    shell = Kernel(ram="16 MiB", seed=1).init.fork()
    assert parse(file(FREELIST)).create(shell).raw.design == copy.USUAL
    assert copy.USUAL not in (copy.DESIGN, ours.USUAL, ours.DESIGN)
    shell = Kernel(ram="1 MiB", seed=1, page_size=256).init.fork()
    assert parse(file(FREELIST) + ":top_pad=0").create(shell).raw.design == copy.DESIGN


def test_a_copy_under_the_name_of_a_twin_has_no_twin(file, process):
    heap = parse(file(FREELIST)).create(process)
    assert "has no twin" in complaint(heap.index)
    assert (heap.STRUCTURE, list(heap.words(heap.root, heap.root + 64))) == ("", [])


def test_a_child_has_the_heap_and_broken_metadata_is_named(file, process):
    heap = parse(file(LIFO)).create(process)
    p, q = heap.malloc(100), heap.malloc(100)
    child = heap.attach(process.fork())
    child.free(p)
    child.check()
    assert heap.usable_size(p) == 104
    process.store64(q - 8, 0)
    with pytest.raises(HeapCorruption) as caught:
        list(heap.walk())
    assert caught.value.rule is Rule.NO_PROGRESS
    process.store64(q - 8, 112 | 1)
    heap.free(p)
    process.store64(p - 8, 112 | 1)
    with pytest.raises(HeapCorruption, match="broken index"):
        child.attach(process).check()


def test_parameters_are_named_as_in_other_designs(file):
    path = file(LIFO)
    assert parse(f"{path}:top_pad=4KiB").options == {"top_pad": 4096}
    assert str(parse(f"{path}:top_pad=4KiB")) == f"{path}:top_pad=4KiB"
    assert "has no parameter 'top_pod': did you mean 'top_pad'?" in complaint(parse, f"{path}:top_pod=1")
    assert "is too much for" in complaint(parse, f"{path}:top_pad=1000000T")


SPLIT = "    if (rest)\n        push(h, p - HEADER + need, rest);\n"
LOST_SPLIT = "    if (rest)\n        heap_store(h, p - HEADER + need, rest | USED);\n"
#: what is wrong: the text, what is said of it, and the line that is named, by what stands in it
WRONG = {
    "it does not compile": (
        LIFO.replace("have = size_of(h, block)", "hav = size_of(h, block)"),
        "cannot be compiled: {}: error: ",
        "hav = size_of",
    ),
    "it calls what it does not declare": (
        LIFO.replace("push(h, block, front)", "pusch(h, block, front)"),
        "cannot be compiled: {}: error: ",
        "pusch",
    ),
    "it calls what is nowhere": (
        LIFO.replace("static void push", "void sink(uint64_t);\nstatic void push").replace(
            SPLIT, SPLIT + "    sink(p);\n"
        ),
        "cannot be compiled: {}: undefined reference to `sink'",
        "sink(p)",
    ),
    "it includes what is nowhere": (
        '#include "nowhere.h"\n' + LIFO,
        "cannot be compiled: {}: fatal error: nowhere.h",
        "nowhere.h",
    ),
    "it is no design": ("int mm_init(void) { return 0; }\n", "{} is no design of heaplab's", None),
    "it has two designs": (
        LIFO + 'static const hl_design other = {.name = "other"};\nHEAP_DESIGN(other);\n',
        "{} registers 2 designs (",
        None,
    ),
    "a verb is missing": (LIFO.replace(".free = lifo_free, ", ""), "{}: its hl_design lacks .free", None),
    "the magic is missing": (
        LIFO.replace(".magic = 0x6f66696c, ", ""),
        "{}: its hl_design lacks .magic",
        None,
    ),
    "a default is none of the choices": (
        LIFO.replace("{BRK_PAD_OPTION,", '{HEAP_CHOICE(option[0], "fit", "frist", "first|best", ""),'),
        "{}: fit=frist by default is none of its choices",
        None,
    ),
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_wrong_with_a_file_is_one_line(file, what):
    text, says, stands = WRONG[what]
    path = place = file(text)
    if stands is not None:
        place += f":{1 + text[: text.rindex(stands)].count(chr(10))}"
    said = re.sub(r"(:\d+):\d+: ", r"\1: ", complaint(parse, path))  # the column is the compiler's business
    assert says.format(place) in said


def test_a_file_that_is_not_there_is_named():
    assert complaint(parse, "nowhere.c") == "there is no file nowhere.c to take an allocator from"


def test_what_a_c_file_is_is_seen_from_its_text(file):
    assert registers_design(file(LIFO))
    assert registers_design(file('#include "mine.c"\n', "wrapper.c"))
    assert registers_design(file('#include "nowhere.h"\n' + LIFO))
    assert not registers_design(file("/* HEAP_DESIGN(x) */ void *mm_malloc(unsigned long size);\n"))
    assert not registers_design(file('#include "memlib.h"\nvoid *mm_malloc(unsigned long size);\n'))
    assert "there is no file" in complaint(registers_design, "nowhere.c")


def test_files_of_one_name_stay_apart_and_edits_are_seen(file, process):
    other = LIFO.replace(".smallest = 16", ".smallest = 32")
    one, two = parse(file(LIFO, "a/mine.c")), parse(file(other, "b/mine.c"))
    assert (one.design.SMALLEST, two.design.SMALLEST) == (16, 32)
    assert one.design is parse(one.name).design
    assert parse(file(other, "a/mine.c")).design.SMALLEST == 32
    assert one.create(process).malloc(1)  # the heaps that stand go on


def test_a_header_beside_the_file_is_found_and_its_edits_are_seen(file):
    file("#define LEAST 16\n", "sizes.h")
    path = file('#include "sizes.h"\n' + LIFO.replace(".smallest = 16", ".smallest = LEAST"))
    assert parse(path).design.SMALLEST == 16
    file("#define LEAST 48\n", "sizes.h")
    assert parse(path).design.SMALLEST == 48


def test_other_headers_than_the_extensions_are_refused(file, monkeypatch):
    monkeypatch.setattr(written, "fingerprint", lambda csrc: "0" * 32)
    assert "build heaplab again" in complaint(parse, file(LIFO))


def test_workers_take_the_file_by_its_relative_path(file, monkeypatch):
    monkeypatch.chdir(Path(file(LIFO)).parent)
    specs = ["mine.c", "./mine.c:top_pad=0"]
    runs = lab.compare([synthetic(2000, seed=1)], specs, jobs=2).runs
    assert [(run.allocator, run.language, run.outcome) for run in runs] == [
        (spec, "c", "finished") for spec in specs
    ]


def test_a_planted_lost_split_is_found_and_made_short(file):
    """The rest of a split block counts as allocated, and nobody has it."""
    whole = fuzz(file(LIFO), steps=2000, seconds=60)
    assert whole.first is None
    lost = fuzz(file(LIFO.replace(SPLIT, LOST_SPLIT)), steps=2000, seconds=60)
    assert lost.minimal is not None
    assert [str(step) for step in lost.minimal.failure.steps] == ["malloc 0 0"]


def test_it_keeps_the_contract(file):
    path = file(LIFO)
    factory = contract.HeapFactory(path)
    clauses = contract.applying(path)
    assert len(clauses) > 20
    for clause in clauses:
        clause(factory)


def test_what_fuzz_finds_is_shrunk_from_a_trace_too(file, monkeypatch):
    """Blocks are 8 bytes too small, so that a payload runs into the next block's header."""
    monkeypatch.chdir(Path(file(LIFO.replace("size + HEADER,", "size,"))).parent)
    run = CliRunner().invoke
    assert run(main, ["fuzz", "mine.c", "--steps", "500", "-o", "small", "--quiet"]).exit_code == 1
    shrunk = run(main, ["shrink", "small.rep", "--allocators", "mine.c", "--quiet"])
    assert shrunk.exit_code == 1
    assert "What broke: " in shrunk.stdout
