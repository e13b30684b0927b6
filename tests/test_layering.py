"""Imports and includes go downwards only, in the order of the rooms in docs/design.md."""

import ast
import functools
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.programs import host_environment

ROOT = Path(__file__).resolve().parents[1]
EXTENSION = "heaplab._core._heaplab"

#: the rooms of csrc that the allocators are, from the contract up: what they ask of the world is env's
HEAP_ROOMS = ("heap", "parts", "sources", "families", "front", "designs")
#: the only headers of the C library that they may use: types, constants and inlined memory moves
FREESTANDING = {"stdint.h", "stddef.h", "limits.h", "errno.h", "string.h"}
#: what the compiler may call without being asked
RUNTIME = {"memcpy", "memmove", "memset", "__stack_chk_fail"}


def rooms_of_design(tree: str) -> list[set[str]]:
    """The rooms under `tree` in the first block of docs/design.md, a set a line, in its order."""
    block = (ROOT / "docs" / "design.md").read_text().split("```")[1]
    listing = block.partition(f"\n{tree}/\n")[2]
    rows = []
    for line in listing.splitlines():
        if not line.startswith("  "):
            break
        names = re.split(r"\s{2,}", line.strip())[0].split()
        rows.append({name.strip("/").removesuffix(".py") for name in names})
    return rows


def order_of_allocators() -> list[str]:
    """The rooms of heaplab/allocators, lowest first, in the sentence of docs/design.md that lists them."""
    text = (ROOT / "docs" / "design.md").read_text().partition("\n## Allocators\n")[2]
    [listing] = re.findall(r"Imports go downwards in this order:([^.]*)\.", text)
    return [name.strip() for name in listing.split(",")]


ALLOCATOR_ROOMS = order_of_allocators()


# ---- Python ----


@functools.cache
def import_statements(source: str) -> list[ast.Import | ast.ImportFrom]:
    """Those of a source, also under TYPE_CHECKING and in functions."""
    return [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


def imports_of(module: str, source: str, is_package: bool, known: set[str]) -> Iterator[tuple[int, str]]:
    """Each (line, module) that `module` imports from heaplab."""
    package = module if is_package else module.rpartition(".")[0]
    for node in import_statements(source):
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        else:
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, *([base] if base else [])])
            found = [
                name if (name := f"{base}.{alias.name}") in known or name == EXTENSION else base
                for alias in node.names
                if (base, alias.name) != ("heaplab", "__version__")
            ]
        for name in found:
            if name.partition(".")[0] == "heaplab":
                yield node.lineno, name


@functools.cache
def modules_of_package() -> dict[str, tuple[str, bool]]:
    """Every module of heaplab: its source, and whether it is a package."""
    modules = {}
    for path in sorted((ROOT / "heaplab").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        is_package = parts[-1] == "__init__"
        modules[".".join(parts[:-1] if is_package else parts)] = path.read_text(), is_package
    return modules


def upward_imports(modules: dict[str, tuple[str, bool]]) -> list[str]:
    """What breaks the order, one sentence each."""
    rows = rooms_of_design("heaplab")
    floor = {room: len(rows) - number for number, row in enumerate(rows) for room in row}
    faces = {"heaplab", "heaplab.__main__"}  # the house itself, and its front door: above all rooms

    def height(module: str) -> int:
        return len(rows) + 1 if module in faces else floor.get(module.split(".")[1], -1)

    wrong = [f"{module} is in no room of docs/design.md" for module in modules if height(module) < 0]
    for module, (source, is_package) in modules.items():
        for line, target in imports_of(module, source, is_package, set(modules)):
            if height(target) > height(module):
                wrong.append(f"{module}:{line} imports {target}, which stands above it")
            if target.startswith(EXTENSION) and module != "heaplab._core":
                wrong.append(f"{module}:{line} imports the extension, which only heaplab._core may")
    return wrong


def test_imports_go_downwards() -> None:
    modules = modules_of_package()
    assert {"heaplab.cli", "heaplab.machine.machine", "heaplab.allocators.designs.buddy"} <= set(modules)
    assert upward_imports(modules) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("heaplab.machine.planted", "from heaplab.allocators.base import Block"),
        ("heaplab.machine.planted", "import heaplab.allocators"),
        ("heaplab.machine.planted", "from heaplab import allocators"),
        ("heaplab.machine.planted", "from ..allocators import base"),
        ("heaplab.machine.planted", "def late():\n    from heaplab.cli import main"),
        ("heaplab.units", "from heaplab._core import lib"),
        ("heaplab.errors", "import heaplab"),
        ("heaplab.allocators.planted", "from heaplab._core._heaplab import lib"),
        ("heaplab.allocators.planted", "import heaplab._core._heaplab as core"),
        ("heaplab.allocators.planted", "from heaplab._core import _heaplab"),
        ("heaplab.cellar", ""),
    ],
)
def test_an_upward_import_is_found(module: str, line: str) -> None:
    modules = modules_of_package()
    assert len(upward_imports({**modules, module: (line, False)})) == 1


@pytest.mark.parametrize(
    "line",
    [
        "from heaplab.machine import Machine",
        "from heaplab import machine",
        "from . import large",
        "from heaplab._core import ffi, lib",
        "from heaplab import __version__",
        "import numpy",
    ],
)
def test_a_downward_import_is_not(line: str) -> None:
    modules = modules_of_package()
    assert upward_imports({**modules, "heaplab.allocators.planted": (line, False)}) == []


# ---- C ----


def c_sources() -> dict[str, str]:
    """Every C file, by its path below csrc."""
    csrc = ROOT / "csrc"
    return {str(path.relative_to(csrc)): path.read_text() for path in sorted(csrc.glob("*/*.[ch]"))}


def upward_includes(sources: dict[str, str]) -> list[str]:
    """What breaks the order of csrc, or lets an allocator reach past the env, one sentence each."""
    floor = {room: number for number, row in enumerate(rooms_of_design("csrc")) for room in row}
    wrong = []
    for path, source in sources.items():
        room = path.partition("/")[0]
        if room not in floor:
            wrong.append(f"csrc/{path} is in no room of docs/design.md")
            continue
        for mark, name in re.findall(r'^\s*#\s*include\s*([<"])([^>"]+)[>"]', source, re.MULTILINE):
            if mark == '"':
                target = name.split("/")[1] if name.startswith("../") else room
                if floor[target] > floor[room]:
                    wrong.append(f"csrc/{path} includes {name}, which stands above it")
                if room in HEAP_ROOMS and target not in (*HEAP_ROOMS, "env"):
                    wrong.append(f"csrc/{path} includes {name}: an allocator sees the env alone")
                if room == target == "designs":
                    wrong.append(f"csrc/{path} includes {name}: no design includes another")
            elif room in HEAP_ROOMS and name not in FREESTANDING:
                wrong.append(f"csrc/{path} includes <{name}>: an allocator asks the env")
    return wrong


def test_includes_go_downwards() -> None:
    sources = c_sources()
    assert {"designs/buddy.c", "machine/mmu.c", "env/env.h"} <= set(sources)
    assert upward_includes(sources) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("machine/planted.c", '#include "../heap/heap.h"'),
        ("parts/planted.h", '#include "../designs/planted.h"'),
        ("designs/planted.c", '#include "../machine/machine.h"'),
        ("designs/planted.c", '#include "buddy.c"'),
        ("parts/planted.h", "#include <stdlib.h>"),
        ("sources/planted.c", "#include <sys/mman.h>"),
        ("cellar/planted.c", ""),
    ],
)
def test_an_upward_include_is_found(path: str, line: str) -> None:
    assert upward_includes({**c_sources(), path: line})


@pytest.fixture(scope="module")
def cc() -> str:
    found = shutil.which("cc")
    if found is None or shutil.which("nm") is None:
        pytest.skip("needs cc and nm to look into object files")
    return found


def symbols(cc: str, sources: list[Path], into: Path) -> tuple[set[str], set[str]]:
    """Compile and return the symbols (defined, called but not defined)."""
    defined: set[str] = set()
    undefined: set[str] = set()
    for source in sources:
        made = into / f"{source.parent.name}-{source.stem}.o"
        command = [
            cc,
            "-std=gnu11",
            "-O2",
            "-I",
            str(ROOT / "csrc" / "heap"),
            "-c",
            str(source),
            "-o",
            str(made),
        ]
        subprocess.run(command, check=True, env=host_environment())
        listing = subprocess.run(
            ["nm", str(made)], check=True, capture_output=True, text=True, env=host_environment()
        ).stdout
        for line in listing.splitlines():
            kind, name = line.split()[-2:]
            (undefined if kind == "U" else defined).add(name)
    return defined, undefined - defined


def sources_of(*rooms: str) -> list[Path]:
    """The C sources of these rooms."""
    return sorted(source for room in rooms for source in (ROOT / "csrc" / room).glob("*.c"))


Symbols = tuple[set[str], set[str]]


@pytest.fixture(scope="module")
def compiled(cc: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Symbols, Symbols]:
    """The symbols of the env, and of the allocators."""
    into = tmp_path_factory.mktemp("objects")
    return symbols(cc, [ROOT / "csrc/env/model.c"], into), symbols(cc, sources_of(*HEAP_ROOMS), into)


def calls_past_the_env(env: Symbols, *heap: Symbols) -> set[str]:
    """The symbols that `heap` needs and neither it nor the env nor the compiler's runtime gives."""
    # the env's inline functions, and the MMU's fast path under them, call a few of the machine's
    inlined = "".join(
        path.read_text() for path in [*(ROOT / "csrc/env").glob("*.h"), ROOT / "csrc/machine/mmu.h"]
    )
    given = env[0].union(RUNTIME, re.findall(r"\bhl_\w+", inlined), *(defined for defined, _ in heap))
    needed = set().union(*(undefined for _, undefined in heap))
    return {name for name in needed - given if name != "_GLOBAL_OFFSET_TABLE_"}


def test_the_allocators_call_nothing_but_the_env(compiled: tuple[Symbols, Symbols]) -> None:
    assert calls_past_the_env(*compiled) == set()


def test_a_call_past_the_env_is_found(cc: str, compiled: tuple[Symbols, Symbols], tmp_path: Path) -> None:
    planted = tmp_path / "planted.c"
    planted.write_text(
        '#include "heap.h"\n'
        "void *malloc(unsigned long);\n"
        "void *planted(hl_heap *h);\n"
        "void *planted(hl_heap *h) { hl_flush_space(h->env->space); return malloc(heap_load(h, 8)); }\n"
    )
    assert calls_past_the_env(*compiled, symbols(cc, [planted], tmp_path)) == {"malloc", "hl_flush_space"}


# ---- inside heaplab/allocators ----


def upward_in_allocators(modules: dict[str, tuple[str, bool]]) -> list[str]:
    """What breaks the order inside heaplab/allocators, one sentence each."""
    prefix = "heaplab.allocators."

    def room(module: str) -> str:
        return module.removeprefix(prefix).partition(".")[0]

    wrong = []
    for module, (source, is_package) in modules.items():
        if not module.startswith(prefix):
            continue
        here = room(module)
        if here not in ALLOCATOR_ROOMS:
            wrong.append(f"{module} is in no room of docs/design.md")
            continue
        for line, target in imports_of(module, source, is_package, set(modules)):
            if not target.startswith(prefix):
                continue
            there = room(target)
            if ALLOCATOR_ROOMS.index(there) > ALLOCATOR_ROOMS.index(here):
                wrong.append(f"{module}:{line} imports {target}, which stands above it")
            if here == there == "designs":
                wrong.append(f"{module}:{line} imports {target}: no design imports another")
    return wrong


def test_imports_inside_the_allocators_go_downwards() -> None:
    assert {"base", "parts", "sources", "families", "designs", "registry"} <= set(ALLOCATOR_ROOMS)
    assert upward_in_allocators(modules_of_package()) == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("heaplab.allocators.parts.planted", "from heaplab.allocators.designs.buddy import Buddy"),
        ("heaplab.allocators.sources.planted", "from heaplab.allocators.families import tagged"),
        ("heaplab.allocators.designs.planted", "from heaplab.allocators.designs.buddy import Buddy"),
        ("heaplab.allocators.base", "from heaplab.allocators.stated import stated"),
        ("heaplab.allocators.parts.planted", "from heaplab.allocators.design import Design"),
        ("heaplab.allocators.base2", "import heaplab"),
    ],
)
def test_an_upward_import_inside_the_allocators_is_found(module: str, line: str) -> None:
    assert upward_in_allocators({**modules_of_package(), module: (line, False)})
