"""Real programs on every design: what they print, write and answer is what it is on the C library's malloc.

    python experiments/real_programs.py [--allocators SPEC,...] [--only PROGRAM,...] [--quick]

Each program runs once without a design and once on each, in an empty folder of its own.  Compared are its
exit status, what it prints, and the files that it writes; of CPython's own tests the verdict of each test.  A
program that is not installed is named.  Exit status 1 when something differs.  All of it takes half an hour.
"""

import argparse
import difflib
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

from heaplab.allocators import names
from heaplab.native import build
from heaplab.native.preloading import with_preload

CSRC = Path(__file__).resolve().parents[1] / "csrc"
#: seconds until a program is said to hang
PATIENCE = 1200


@dataclass(frozen=True)
class Program:
    """A program with its work: `command` is for the shell, in an empty folder."""

    name: str
    command: str
    needs: tuple[str, ...]
    """Programs that the command calls."""
    writes: tuple[str, ...] = ()
    """Files that are compared."""
    given: dict[str, str] = field(default_factory=dict)
    """Files that are there when it begins, text by name."""
    quick: bool = True
    """Done in about two seconds."""
    prints: bool = True
    """What it prints is the same each time."""


@dataclass(frozen=True)
class Outcome:
    """What came of a run."""

    status: int
    lines: list[str]
    """Printed and written, files by their text or digest."""


# ---- CPython's own tests ----

#: runs the tests of a module, or of the modules of a package, and writes their verdicts into a file
VERDICTS = """
import importlib, os, pkgutil, sys, unittest

class Verdicts(unittest.TestResult):
    def startTest(self, test):
        super().startTest(test)
        self.verdict = "ok"

    def stopTest(self, test):
        super().stopTest(test)
        print(self.verdict, test.id(), file=out)

    def addError(self, test, error):
        super().addError(test, error)
        self.verdict = "error"
        if not isinstance(test, unittest.TestCase):
            print("error", test.id(), file=out)

    def addFailure(self, test, error):
        super().addFailure(test, error)
        self.verdict = "fail"

    def addSubTest(self, test, subtest, error):
        super().addSubTest(test, subtest, error)
        if error:
            self.verdict = "fail"

    def addSkip(self, test, reason):
        super().addSkip(test, reason)
        self.verdict = "skipped"

out = open("verdicts", "w")
name = sys.argv.pop(1)
module = importlib.import_module(name)
names = [name]
if hasattr(module, "__path__") and name != "test.test_json":
    found = pkgutil.iter_modules(module.__path__)
    names = sorted(name + "." + each.name for each in found if each.name != "__main__")
result = Verdicts()
unittest.defaultTestLoader.loadTestsFromNames(names).run(result)
for test, text in result.errors + result.failures:
    print(test, text, file=sys.stderr)
print("tests:", result.testsRun, file=out, flush=True)
"""


@cache
def pythons() -> list[str]:
    """Interpreters of this computer: that which runs this, those on PATH, and those installed beside them."""
    base = Path(getattr(sys, "_base_executable", sys.executable)).resolve()
    found = [
        base,
        *(Path(which) for each in ("python3", "python3.13", "python3.12") if (which := shutil.which(each))),
    ]
    found += sorted(base.parents[2].glob("*/bin/python3"))
    return list(dict.fromkeys(str(each) for each in found))


@cache
def python_with(module: str) -> str | None:
    """An interpreter that has the tests of `module`; the path of the file or package tells."""
    asks = (
        "import importlib.util as u, sys;"
        f"sys.exit(sys.version_info < (3, 9) or u.find_spec({module!r}) is None)"
    )
    for each in pythons():
        if not subprocess.run([each, "-c", asks], capture_output=True, check=False).returncode:
            return each
    return None


def cpython(module: str, *, quick: bool = False) -> Program:
    """The tests of CPython's `module`; every object comes from malloc."""
    python = python_with(module) or f"a python with {module}"
    return Program(
        module.removeprefix("test."),
        f"PYTHONMALLOC=malloc exec '{python}' verdicts.py {module} >/dev/null",
        (python,),
        writes=("verdicts",),
        given={"verdicts.py": VERDICTS},
        quick=quick,
        prints=False,
    )


# ---- other programs ----

A_CPP_FILE = r"""
#include <algorithm>
#include <functional>
#include <iostream>
#include <map>
#include <regex>
#include <string>
#include <unordered_map>
#include <variant>
#include <vector>

template <typename Key, typename Value> class Registry {
    std::map<Key, std::vector<Value>> entries;
    std::unordered_map<Value, std::function<Key(const Value &)>> makers;

  public:
    void add(const Key &key, Value value) { entries[key].push_back(std::move(value)); }
    template <typename Visit> void each(Visit visit) const
    {
        for (const auto &[key, values] : entries)
            std::for_each(values.begin(), values.end(), [&](const Value &value) { visit(key, value); });
    }
};

int main()
{
    Registry<std::string, std::string> registry;
    std::regex word("([a-z]+)=([0-9]+)");
    std::string text = "one=1 two=2 three=3";
    for (std::sregex_iterator it(text.begin(), text.end(), word), end; it != end; ++it)
        registry.add((*it)[1], (*it)[2]);
    std::variant<int, std::string> last = 0;
    registry.each([&](auto &key, auto &value) { last = key + value; });
    std::visit([](auto &what) { std::cout << what << '\n'; }, last);
}
"""

A_REPOSITORY = r"""
set -e
export GIT_CONFIG_NOSYSTEM=1 GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@b
export GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@b
git init -q -b main origin
cd origin
for i in $(seq 25); do
    mkdir -p part$((i % 5))
    seq $i $((i * 13)) | sed "s/7/line $i/" > part$((i % 5))/file$((i % 9)).txt
    git add .
    when="$((1600000000 + i * 1000)) +0000"
    GIT_AUTHOR_DATE=$when GIT_COMMITTER_DATE=$when git commit -q -m "change $i"
done
cd ..
git clone -q origin copy
cd copy
git log --stat -p | cksum
git -c gc.auto=0 -c pack.threads=2 gc -q --aggressive
git grep -n 'line 3' | cksum
git blame part1/file1.txt | cksum
git diff --stat HEAD~20
git fsck --full --strict
git rev-parse HEAD
"""

SQL = r"""
PRAGMA journal_mode = WAL;
CREATE TABLE city(id INTEGER PRIMARY KEY, name TEXT, size INTEGER, note BLOB);
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 30000)
  INSERT INTO city SELECT i, printf('city%05d', i * 7919 % 30000), i * i % 1013, zeroblob(i % 97) FROM n;
CREATE INDEX by_size ON city(size, name);
SELECT size, count(*), group_concat(name, '+') FROM city WHERE size < 40 GROUP BY size ORDER BY size;
UPDATE city SET note = zeroblob(id % 5) WHERE id % 3 = 0;
DELETE FROM city WHERE id % 7 = 0;
SELECT a.name, b.name FROM city a JOIN city b ON a.size = b.size AND a.id < b.id
  WHERE a.id < 60 ORDER BY 1, 2 LIMIT 50;
SELECT sum(length(name)), sum(length(note)), json_group_array(size) FROM city WHERE id < 300;
VACUUM;
PRAGMA integrity_check;
"""

PERL = r"""
use strict; use warnings;
my (%seen, @kept);
for my $i (1 .. 120000) {
    my $word = join '', map { chr(97 + ($i * $_ * 31) % 26) } 1 .. 3 + $i % 5;
    push @{ $seen{$word} }, $i;
    push @kept, $word =~ s/[aeiou]/<$&>/gr if $i % 11 == 0;
}
printf "%d words, %d kept\n", scalar keys %seen, scalar @kept;
print join(',', (sort { @{ $seen{$b} } <=> @{ $seen{$a} } || $a cmp $b } keys %seen)[0 .. 20]), "\n";
for my $n (1 .. 8) {
    my $pid = fork // die;
    if (!$pid) { my %mine = map { $_ => "x" x $_ } 1 .. 500 * $n; exit keys(%mine) % 200 }
    waitpid $pid, 0;
    print $? >> 8, "\n";
}
"""

NODE = r"""
const { Worker, isMainThread, parentPort, workerData } = require('worker_threads');
const { createHash } = require('crypto');
const { execFileSync } = require('child_process');
const zlib = require('zlib');
function work(seed) {
  const words = new Map();
  for (let i = 0; i < 40000; i++) words.set('w' + (i * seed) % 5003, 'v'.repeat(i % 50) + i);
  const text = JSON.stringify([...words].sort());
  const packed = zlib.deflateSync(Buffer.from(text));
  return createHash('sha256').update(zlib.inflateSync(packed)).digest('hex');
}
if (isMainThread) {
  const answers = [3, 5, 7, 11].map(seed => new Promise((done, failed) => {
    const worker = new Worker(__filename, { workerData: seed });
    worker.on('message', done); worker.on('error', failed);
  }));
  Promise.all(answers).then(all => {
    console.log(all.join('\n'));
    console.log(execFileSync('seq', ['5']).toString());
  });
} else parentPort.postMessage(work(workerData));
"""

PIPELINES = r"""
for i in $(seq 100); do
    seq $i 200 | sort -r | sed "s/1/$i-/" | tail -n 2 | tr '\n' ' '
    words[$i]=$(echo "$i $((i * i))")
done
echo "${words[@]}" | wc
f() { local a=$1; [ $a -le 1 ] && { echo 1; return; }; echo $(( $(f $((a - 1))) + $(f $((a - 2))) )); }
f 8
diff <(seq 30) <(seq 2 31)
false | true; echo ${PIPESTATUS[@]}
"""

NUMBERS = "seq 1 7 2000000 | tr 0123456789 3816049725"
THREADED = r"""
import os, threading
def work(seed, out):
    kept = {}
    for i in range(20000):
        kept[i * seed % 997] = [seed] * (i % 40)
    out.append(sum(map(len, kept.values())))
def child():
    out = []
    many = [threading.Thread(target=work, args=(n, out)) for n in (3, 5, 7)]
    for each in many: each.start()
    for each in many: each.join()
    return sum(out) % 251
out = []
many = [threading.Thread(target=work, args=(n, out)) for n in range(2, 8)]
for each in many: each.start()
pids = []
for n in range(10):
    pid = os.fork()
    if not pid: os._exit(child())
    pids.append(pid)
for each in many: each.join()
print(sorted(out), [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in pids])
"""


def programs() -> list[Program]:
    """All of them, quick ones first."""
    sources = " ".join(str(CSRC / each) for each in ("machine/mmu.c", "entry/model.c"))
    flags = f"-std=gnu11 -O2 -I{CSRC} -DHEAPLAB_ENV='\"model.h\"'"
    python = pythons()[0]
    return [
        Program("gcc", f"gcc {flags} -c {sources}", ("gcc",), writes=("mmu.o", "model.o")),
        Program("g++", "g++ -O1 -c a.cc", ("g++",), writes=("a.o",), given={"a.cc": A_CPP_FILE}, quick=False),
        Program("bash", "bash pipelines", ("bash", "seq", "sed"), given={"pipelines": PIPELINES}),
        Program("git", "bash repository", ("bash", "git", "seq"), given={"repository": A_REPOSITORY}),
        Program("sqlite3", "sqlite3 db <sql; sqlite3 db .dump", ("sqlite3",), given={"sql": SQL}),
        Program("perl", "perl script", ("perl",), given={"script": PERL}),
        Program(
            "jq", "seq 30000 | jq -s 'group_by(. % 97) | map({n: length, s: map(tostring)})'", ("jq", "seq")
        ),
        Program(
            "sort",
            f"{NUMBERS} | sort --parallel=4 -S 2M -T . | cksum",
            ("sort", "seq"),
        ),
        Program(
            "xz", f"{NUMBERS} | xz -T2 --block-size=512KiB >x; xz -dc -T2 x | cksum", ("xz",), writes=("x",)
        ),
        Program("node", "node script.js", ("node",), given={"script.js": NODE}, quick=False),
        Program(
            "python",
            f"PYTHONMALLOC=malloc exec '{python}' -W ignore threaded.py",
            (python,),
            given={"threaded.py": THREADED},
        ),
        cpython("test.test_json"),
        cpython("test.test_dict", quick=True),
        cpython("test.test_threading"),
        cpython("test.test_subprocess"),
        cpython("test.test_multiprocessing_fork"),
    ]


# ---- running and comparing ----


def missing(program: Program) -> list[str]:
    """What the program needs and this computer does not have."""
    return [each for each in program.needs if shutil.which(each) is None]


def run(program: Program, library: Path | None) -> Outcome:
    """Run the program, on the library unless it is None."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in program.given.items():
            Path(folder, name).write_text(text)
        env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
        env |= {"HOME": folder, "TMPDIR": folder, "LC_ALL": "C", "PYTHONHASHSEED": "0"}
        with Path(folder, "output").open("w+", errors="replace") as output:
            running = subprocess.Popen(
                ["sh", "-c", program.command],
                cwd=folder,
                env=env if library is None else with_preload(env, library),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                process_group=0,
            )
            try:
                status = running.wait(PATIENCE)
            except subprocess.TimeoutExpired:
                os.killpg(running.pid, signal.SIGKILL)
                running.wait()
                raise
            output.seek(0)
            printed = output.read().splitlines()
        lines = printed if program.prints else [line for line in printed if line.startswith("heaplab: ")]
        return Outcome(
            status, lines + [line for each in program.writes for line in text_of(Path(folder, each))]
        )


def text_of(file: Path) -> list[str]:
    """The lines of a text, or one with a digest."""
    if not file.exists():
        return [f"{file.name}: not written"]
    content = file.read_bytes()
    try:
        return content.decode("ascii").splitlines()
    except UnicodeDecodeError:
        return [f"{file.name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}"]


def difference(plain: Outcome, other: Outcome) -> str:
    """The first lines that differ; empty when nothing does."""
    statuses = f"exit status {other.status}, not {plain.status}" if plain.status != other.status else ""
    delta = list(difflib.unified_diff(plain.lines, other.lines, lineterm="", n=0))[2:]
    return "\n".join(filter(None, [statuses, *(line[:200] for line in delta[:12])]))


def compare(
    chosen: Sequence[Program], libraries: dict[str, Path], tell: Callable[[str], None]
) -> dict[str, dict[str, str]]:
    """For each program and design: same, differs, or what is not installed."""
    table: dict[str, dict[str, str]] = {}
    for program in chosen:
        if absent := missing(program):
            table[program.name] = dict.fromkeys(libraries, "not installed")
            tell(f"{program.name}: {', '.join(absent)} is not installed")
            continue
        plain = run(program, None)
        table[program.name] = row = {}
        for spec, library in libraries.items():
            try:
                found = difference(plain, run(program, library))
            except subprocess.TimeoutExpired:
                found = f"no end after {PATIENCE} s"
            row[spec] = "differs" if found else "same"
            if found:
                tell(f"{program.name} on {spec}:\n{found}")
        tell(f"{program.name}: {', '.join(f'{spec} {word}' for spec, word in row.items())}")
    return table


def main() -> int:
    """Print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--allocators", default=",".join(names("c")), help="specs, separated by commas")
    parser.add_argument("--only", default="", help="names of programs, separated by commas")
    parser.add_argument("--quick", action="store_true", help="the programs that take two seconds at most")
    asked = parser.parse_args()
    only = set(filter(None, asked.only.split(",")))
    chosen = [
        each for each in programs() if (not only or each.name in only) and (each.quick or not asked.quick)
    ]
    specs = asked.allocators.split(",")
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        libraries = {spec: build(spec, output=Path(folder, f"{n}.so")) for n, spec in enumerate(specs)}
        table = compare(chosen, libraries, lambda line: print(line, file=sys.stderr, flush=True))
    print(f"{'':<24}" + "".join(f"{spec:>15}" for spec in specs))
    for name, row in table.items():
        print(f"{name:<24}" + "".join(f"{row[spec]:>15}" for spec in specs))
    return int(any("differs" in row.values() for row in table.values()))


if __name__ == "__main__":
    sys.exit(main())
