"""Specs: names, parameters, files, entry points, and what is said when they are wrong."""

import importlib.metadata
from types import SimpleNamespace

import pytest

from heaplab import allocators
from heaplab.allocators import Allocator, parse, parse_list, registry
from heaplab.allocators.base import SIZE_MAX
from heaplab.allocators.designs.freelist import FreeList
from heaplab.allocators.registry import Spec
from heaplab.errors import UsageError


def complaint(call, *args):
    with pytest.raises(UsageError) as caught:
        call(*args)
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_the_four_families_are_there():
    assert {"freelist", "buddy", "binheap", "rbtree"} <= set(allocators.names())


def test_a_spec_prints_as_it_was_given():
    for text in ("rbtree", "freelist:fit=best:order=address", "buddy:top_pad=0:mmap_threshold=1MiB"):
        assert str(parse(text)) == text
    assert str(parse("  buddy ")) == "buddy"


def test_options_become_numbers():
    options = parse("freelist:fit=worst:order=fifo:top_pad=4k:checks=links:trim_threshold=1MiB").options
    assert options == {
        "fit": 3, "order": 1, "mmap_threshold": SIZE_MAX, "trim_threshold": 1 << 20, "top_pad": 4096,
        "checks": 1, "seal": 1,
    }  # fmt: skip


def test_lists_are_separated_by_commas():
    assert [str(spec) for spec in parse_list("rbtree, freelist:fit=next,,buddy")] == [
        "rbtree", "freelist:fit=next", "buddy"
    ]  # fmt: skip
    assert "names no allocator" in complaint(parse_list, " , ")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("rbtre", "there is no allocator 'rbtre' in python: did you mean 'rbtree'?"),
        ("", "there is no allocator '' in python: there are binheap, buddy, freelist, rbtree"),
        ("buddy:top_pod=1", "buddy has no parameter 'top_pod': did you mean 'top_pad'?"),
        ("freelist:fit=fist", "freelist has no fit 'fist': did you mean 'first'?"),
        ("freelist:fit", "'fit' in 'freelist:fit' is no parameter: write key=value"),
        ("rbtree:top_pad=much", "'much' is not a size: write a number of bytes, or one with KiB, MiB or GiB"),
        ("rbtree:top_pad=1000000T", "is too much for rbtree: write 70368744177664 bytes or less"),
        (
            f"rbtree:mmap_threshold={1 << 64}",
            "is too much for rbtree: write 9223372036854775807 bytes or less",
        ),
        ("nowhere.py", "there is no file nowhere.py to take an allocator from"),
    ],
)
def test_a_wrong_spec_is_told_with_the_mend(text, says):
    assert says in complaint(parse, text)


def test_a_wrong_language_is_told():
    assert "write python or c" in complaint(parse, "rbtree", "pascal")


def file(tmp_path, text):
    path = tmp_path / "mine.py"
    path.write_text(text)
    return str(path)


def test_a_file_names_a_class(tmp_path, process):
    path = file(
        tmp_path, "from heaplab.allocators.designs.rbtree import RBTree\nclass Mine(RBTree):\n    pass\n"
    )
    spec = parse(f"{path}:top_pad=0")
    assert spec.design.__name__ == "Mine"
    heap = spec.create(process)
    assert heap.malloc(1) % 16 == 0
    assert heap.options["top_pad"] == 0


def test_a_file_must_define_one_class_and_import(tmp_path):
    assert "defines 0 Allocator classes" in complaint(parse, file(tmp_path, "x = 1\n"))
    two = "from heaplab.allocators.designs.rbtree import RBTree as R\nclass A(R): pass\nclass B(R): pass\n"
    assert "defines 2 Allocator classes" in complaint(parse, file(tmp_path, two))
    assert "cannot be imported: SyntaxError" in complaint(parse, file(tmp_path, "def\n"))
    assert "cannot be imported: ZeroDivisionError" in complaint(parse, file(tmp_path, "1 / 0\n"))


def test_a_class_is_a_spec_with_its_defaults():
    spec = Spec.of(FreeList)
    assert spec.options == parse("freelist").options
    assert spec.language == "python"


@pytest.fixture
def offered(monkeypatch):
    """`offered(name, load)`: a package offers what `load` returns under this name, and no package another."""

    def offer(name, load):
        entry = SimpleNamespace(name=name, value=f"theirs:{name}", load=load)
        monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [entry])
        registry._offered.cache_clear()

    yield offer
    registry._offered.cache_clear()


def test_packages_offer_designs_by_entry_points(offered):
    class Theirs(FreeList):
        pass

    offered("theirs", lambda: Theirs)
    assert parse("theirs:fit=next").design is Theirs
    assert parse("theirs", "c").language == "python"
    assert "theirs" in allocators.names("python")
    assert "theirs" not in allocators.names("c")
    assert "did you mean 'theirs'?" in complaint(parse, "their")


def test_no_package_takes_the_name_of_one_of_heaplabs(offered):
    offered("buddy", lambda: FreeList)
    assert parse("buddy").design.NAME == "buddy"


@pytest.mark.parametrize(
    ("load", "says"),
    [
        (lambda: 1 // 0, "cannot be loaded: ZeroDivisionError"),
        (lambda: len, "is no class derived from heaplab.allocators.Allocator"),
        (lambda: Allocator, "still has to define "),
    ],
)
def test_what_a_package_offers_and_cannot_be_taken_is_said(offered, load, says):
    """It costs nobody the other names."""
    offered("theirs", load)
    said = complaint(parse, "theirs")
    assert said.startswith("the allocator theirs, which an installed package offers as theirs:theirs, ")
    assert says in said
    with pytest.warns(UserWarning, match="the allocator theirs, which an installed package offers"):
        assert "buddy" in allocators.names()
    assert parse("buddy")
