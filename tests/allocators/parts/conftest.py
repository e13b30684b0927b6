"""Bitmap and page map of C on an array of words, with the face of their twins on a dictionary."""

import ctypes
import os
import shutil
import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace

import pytest

from heaplab.allocators.parts.bitmap import Bitmaps
from heaplab.allocators.parts.pagemap import PageMap
from heaplab.errors import HeapCorruption, Rule
from tests.programs import host_environment

HERE = Path(__file__).parent
CSRC = HERE.parents[2] / "csrc"
WORDS = 1 << 16


class Array(ctypes.Structure):
    """The `array` of parts_on_array.c."""

    _fields_ = (
        ("words", ctypes.POINTER(ctypes.c_uint64)),
        *((name, ctypes.c_uint64) for name in ("n", "page", "loads", "stores", "failed")),
    )


@pytest.fixture(scope="session")
def library():
    """Compile the parts, with the sanitizers under `make sanitize`; skip the tests without a compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not CSRC.is_dir():
        pytest.skip("no C compiler here, or no C sources")
    with TemporaryDirectory() as directory:
        target = Path(directory) / "parts.so"
        environment = '-DHEAPLAB_ENV="array_env.h"'
        command = [
            compiler,
            "-std=gnu11",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Werror",
            "-shared",
            "-fPIC",
            environment,
        ]
        if "libasan" in os.environ.get("LD_PRELOAD", ""):
            command += ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
        paths = [f"-I{HERE}", f"-I{CSRC}", str(HERE / "parts_on_array.c"), "-o", str(target)]
        subprocess.run([*command, *paths], check=True, env=host_environment())
        return ctypes.CDLL(str(target))


class OnArray:
    """Both parts of C."""

    def __init__(self, loaded, page=4096):
        self._loaded = loaded
        self.words = (ctypes.c_uint64 * WORDS)()
        self._array = Array(ctypes.cast(self.words, ctypes.POINTER(ctypes.c_uint64)), WORDS, page)

    def call(self, name, *arguments):
        function = getattr(self._loaded, name)
        function.restype = ctypes.c_uint64
        result = function(ctypes.byref(self._array), *map(ctypes.c_uint64, arguments))
        if self._array.failed:
            raise HeapCorruption(0, Rule.BROKEN_INDEX)
        return result

    def poke(self, address, value):
        self.words[address // 8] = value

    def peek(self, address):
        return self.words[address // 8]

    @property
    def mems(self):
        return self._array.loads, self._array.stores

    def run(self, *arguments):
        both = self.call("run", *arguments)
        return both & 0xFFFFFFFF, both >> 32

    def find(self, *arguments):
        found = self.call("find", *arguments)
        return -1 if found == (1 << 64) - 1 else found

    def lookup(self, p):
        found = self.call("map_lookup", p)
        return found - 1 if found else None


class OnDictionary:
    """Both parts of Python."""

    def __init__(self, page=4096):
        self._words = dict.fromkeys(range(0, 8 * WORDS, 8), 0)
        self._loads = self._stores = 0
        memory = SimpleNamespace(load64=self._load, store64=self._store)
        self.bitmaps, self.map = Bitmaps(memory), PageMap(memory, 0, page)

    def _load(self, address):
        self._loads += 1
        return self._words[address]

    def _store(self, address, value):
        self._stores += 1
        self._words[address] = value

    def call(self, name, *arguments):
        if not name.startswith("map_"):
            return getattr(self.bitmaps, name)(*arguments)
        if name == "map_begin":
            return self.map.begin(*arguments)
        table = self.map.table()
        result = getattr(self.map, name.removeprefix("map_"))(table, *arguments)
        if name in ("map_insert", "map_remove"):
            self.map.count(1 if name == "map_insert" else -1)
        return result

    def poke(self, address, value):
        self._words[address] = value

    def peek(self, address):
        return self._words[address]

    @property
    def mems(self):
        return self._loads, self._stores

    def run(self, *arguments):
        return self.bitmaps.run(*arguments)

    def find(self, *arguments):
        return self.bitmaps.find(*arguments)

    def lookup(self, p):
        return self.map.lookup(p)


@pytest.fixture
def new_world(request):
    """`new_world(language, page=4096)`: both parts, on a dictionary in Python and on an array in C."""

    def new(language, page=4096):
        if language == "python":
            return OnDictionary(page)
        return OnArray(request.getfixturevalue("library"), page)

    return new
