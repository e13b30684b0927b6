"""The indices in C on an array of words: what they hold and find is what a plain list of their blocks says.

Their twins on a dictionary are in test_list.py, test_binheap.py and test_rbtree.py.
"""

import shutil
import subprocess
from itertools import product
from pathlib import Path

import pytest

from heaplab.allocators.stated import stated
from tests.programs import host_environment

HERE = Path(__file__).parent
CSRC = HERE.parents[2] / "csrc"
SANITIZERS = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
#: each part that is an index, with the values of its own options that come first in `option`
INDICES = {
    path.stem: [()] for path in sorted((CSRC / "parts").glob("*.h")) if "index_find(" in path.read_text()
}
INDICES["list"] = list(product(*(range(len(option.choices)) for option in stated("freelist").options[:2])))


def compiled(index, into, planted=""):
    """Compile the program for an index, with the sanitizers if this computer has them; `planted`: a C source
    to use instead of the part's own."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not CSRC.is_dir():
        pytest.skip("no C compiler here, or no C sources")
    header = f"parts/{index}.h"
    if planted:
        (into / "planted.h").write_text(planted)
        header = "planted.h"
    command = [compiler, "-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-Wno-unused-function"]
    command += ['-DHEAPLAB_ENV="array_env.h"', f'-DINDEX="{header}"', f"-I{into}", f"-I{HERE}", f"-I{CSRC}"]
    command += [f"-I{CSRC / 'parts'}", str(HERE / "index_on_array.c"), "-o", str(into / index)]
    for flags in (SANITIZERS, []):
        made = subprocess.run(
            [*command, *flags], env=host_environment(), capture_output=True, text=True, check=False
        )
        if made.returncode == 0:
            return into / index
    raise AssertionError(made.stderr)


def tried(program, *arguments):
    """What the program prints, and how it ends."""
    ended = subprocess.run(
        [program, *map(str, arguments)],
        env=host_environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    return ended.stdout + ended.stderr, ended.returncode


@pytest.mark.parametrize("index", INDICES)
def test_an_index_holds_and_finds_what_a_list_of_its_blocks_does(index, tmp_path):
    program = compiled(index, tmp_path)
    for options in INDICES[index]:
        for seed in (1, 2):
            assert tried(program, seed, 4000, *options) == ("", 0), options


@pytest.mark.parametrize(
    ("index", "old", "new"),
    [
        ("list", "    heap_store(h, prev + NEXT, block);\n", ""),
        ("list", "need <= size && size < least", "need <= size"),
        ("binheap", "    heap_store(h, block + SLOT, slot);\n", ""),
        ("binheap", "env_copy(h->env, array, old, WORD * heap_load(h, h->root + COUNT));", ""),
        ("rbtree", "    heap_store(h, grand + side, far);\n", ""),
        ("rbtree", "where && rest > where->floor", "where"),
    ],
)
def test_a_fault_planted_in_an_index_is_found(index, old, new, tmp_path):
    source = (CSRC / "parts" / f"{index}.h").read_text()
    assert source.count(old) == 1, f"{index}.h has {old!r} {source.count(old)} times"
    program = compiled(index, tmp_path, source.replace(old, new))
    fit = 2 if index == "list" and "least" in old else 0
    said, status = tried(program, 1, 4000, fit, 0)
    assert status != 0
    assert said
