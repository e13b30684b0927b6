"""Record the bundled traces anew: `python experiments/record_corpus.py [--only NAME] [DIRECTORY]`.

Every job is a real program at work on inputs made up here from a seed, so anybody can record the corpus
again; the traces differ a little from one version of a program to the next, those of threads from run to run.
Needs, beside heaplab: python3, gcc, git, perl, sqlite3, gawk, jq, lua5.4, dot (graphviz), node, bash,
redis-server (with redis-cli and redis-benchmark).

Times are kept in steps of 10 us: finer ones would be most of a file, and the order is exact anyway.
"""

import argparse
import json
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

from heaplab.native import record
from heaplab.traces import Provenance, corpus

TICK = 10_000
LEVEL = 19
SCRIPTS = Path(__file__).parent / "corpus_jobs"


# ---- Inputs, made in the current directory ----------------------------------------------------------------


def text(chance: random.Random) -> None:
    """text.txt: lines of made-up words, as unevenly frequent as real ones."""
    words = [
        "".join(chance.choices("etaoinshrdlu", k=2 + int(chance.expovariate(0.25)))) for _ in range(4000)
    ]
    weights = [1 / (rank + 1) for rank in range(len(words))]
    lines = (" ".join(chance.choices(words, weights, k=chance.randint(4, 14))) for _ in range(3000))
    Path("text.txt").write_text("\n".join(lines))


def records(chance: random.Random) -> None:
    """records.json: people, with lists inside."""
    people = [
        {
            "id": number,
            "name": f"name {chance.randrange(10_000)}",
            "city": f"city {chance.randrange(60)}",
            "scores": [round(chance.gauss(50, 20), 2) for _ in range(chance.randint(1, 12))],
            "tags": chance.sample(
                ["red", "green", "blue", "round", "square", "old", "new"], chance.randint(1, 4)
            ),
        }
        for number in range(4000)
    ]
    Path("records.json").write_text(json.dumps(people))


def c_source(chance: random.Random) -> None:
    """shapes.c: structures, and functions with loops over them."""
    parts = ["#include <math.h>\n#include <stdlib.h>\n#include <string.h>\n"]
    for number in range(20):
        fields = chance.randint(2, 9)
        parts.append(
            f"struct shape{number} {{\n    double at[{fields}];\n    int kind;\n    char *name;\n"
            f"    struct shape{number} *next;\n}};\n"
            f"double area{number}(const struct shape{number} *s, int n) {{\n    double sum = 0;\n"
            f"    for (; s && n-- > 0; s = s->next)\n        for (int i = 0; i < {fields}; i++)\n"
            "            sum += s->kind == i ? sqrt(fabs(s->at[i]))\n"
            f"                                : s->at[({fields} - i) % {fields}] * i;\n"
            "    return sum;\n}\n"
            f"struct shape{number} *add{number}(struct shape{number} *next, const char *name) {{\n"
            f"    struct shape{number} *s = calloc(1, sizeof *s);\n"
            "    if (s == NULL || (s->name = malloc(strlen(name) + 1)) == NULL)\n        abort();\n"
            "    strcpy(s->name, name);\n    for (char *c = s->name; *c; c++)\n"
            f"        s->kind += *c >= 'a' ? *c - 'a' : {chance.randrange(100)};\n"
            "    s->next = next;\n    return s;\n}\n"
        )
    Path("shapes.c").write_text("".join(parts))


def graph(chance: random.Random) -> None:
    """graph.dot: a directed graph, mostly a tree."""
    edges = [f"  n{chance.randrange(max(0, node - 8), node)} -> n{node};" for node in range(1, 140)]
    edges += [f"  n{chance.randrange(140)} -> n{chance.randrange(140)};" for _ in range(40)]
    Path("graph.dot").write_text("digraph {\n" + "\n".join(edges) + "\n}\n")


def repository(chance: random.Random) -> None:
    """A git repository: 120 commits of edits to 40 files."""
    text(chance)
    lines = Path("text.txt").read_text().splitlines()
    stream = []
    files = {f"part{number}.txt": chance.sample(lines, 60) for number in range(40)}
    for commit in range(120):
        changes = []
        for name in chance.sample(sorted(files), 40 if commit == 0 else 5):
            content = files[name]
            content[chance.randrange(len(content))] = chance.choice(lines)
            content.insert(chance.randrange(len(content)), chance.choice(lines))
            data = "\n".join(content) + "\n"
            changes.append(f"M 644 inline {name}\ndata {len(data)}\n{data}")
        message = f"Edit number {commit}\n"
        stream.append(
            f"commit refs/heads/main\ncommitter A <a@example.org> {1_700_000_000 + commit * 3600} +0000\n"
            f"data {len(message)}\n{message}{''.join(changes)}\n"
        )
    subprocess.run(["git", "init", "-q", "-b", "main", "."], check=True)
    subprocess.run(["git", "fast-import", "--quiet"], input="".join(stream).encode(), check=True)


def tree(chance: random.Random) -> None:
    """A git repository: 5000 small files in one commit."""
    text(chance)
    lines = Path("text.txt").read_text().splitlines()
    files = []
    for number in range(5000):
        data = "\n".join(chance.choices(lines, k=chance.randint(3, 30))) + "\n"
        files.append(f"M 644 inline part{number % 50}/file{number}.txt\ndata {len(data)}\n{data}")
    commit = "commit refs/heads/main\ncommitter A <a@example.org> 1700000000 +0000\ndata 4\nAll\n"
    subprocess.run(["git", "init", "-q", "-b", "main", "."], check=True)
    stream = commit + "".join(files) + "\n"
    subprocess.run(["git", "fast-import", "--quiet"], input=stream.encode(), check=True)


def nothing(chance: random.Random) -> None:
    """The script is all there is."""


# ---- The jobs ---------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A program at work.

    command: as a shell takes it, environment variables in front.  prepare: makes the inputs.
    version: the command that tells the version, in its first line.  program: if not the command's first word.
    """

    name: str
    command: str
    prepare: Callable[[random.Random], None]
    version: str
    note: str
    program: str = ""


JOBS = [
    Job(
        "bash",
        "bash menu.sh",
        nothing,
        "bash --version",
        "a shell script: command substitution and pipes, a fork or two for each",
    ),
    Job(
        "cpython",
        "PYTHONMALLOC=malloc python3 -S index.py",
        text,
        "python3 --version",
        "an inverted index over a text, queries, and JSON there and back; pymalloc off",
    ),
    Job(
        "cpython-prefork",
        "PYTHONMALLOC=malloc python3 -S prefork.py",
        records,
        "python3 --version",
        "a table is loaded, then four forked workers read and update it; pymalloc off",
    ),
    Job("dot", "dot -Tsvg -o graph.svg graph.dot", graph, "dot -V", "layout of a directed graph as SVG"),
    Job("gawk", "gawk -f report.awk text.txt", text, "gawk --version", "word statistics of a text"),
    Job(
        "gcc",
        "gcc -O2 -c shapes.c",
        c_source,
        "gcc --version",
        "the driver, the C compiler and the assembler",
    ),
    Job(
        "git", "git log -p --stat", repository, "git --version", "the history of a repository with its diffs"
    ),
    Job(
        "git-grep",
        "git grep --threads=4 -n -e ne --and -e th main",
        tree,
        "git --version",
        "5000 files searched by four threads for one that lists them and prints",
    ),
    Job("jq", "jq -f report.jq records.json", records, "jq --version", "records grouped and reshaped"),
    Job(
        "lua",
        "lua5.4 life.lua",
        nothing,
        "lua5.4 -v",
        "Conway's Life, the cells a table with strings as keys",
    ),
    Job(
        "node",
        "node server.js",
        text,
        "node --version",
        "buffers compressed and inflated on a pool of threads",
    ),
    Job("perl", "perl words.pl", text, "perl -e 'print $^V'", "word pairs and anagrams of a text"),
    Job(
        "redis",
        "sh serve.sh",
        nothing,
        "redis-cli --version",
        "a server whose four threads read requests that its main thread carries out; 40 clients at once",
        program="redis-server",
    ),
    Job(
        "sqlite",
        "sqlite3 :memory: '.read orders.sql'",
        nothing,
        "sqlite3 --version",
        "inserts, indexes, joins and updates in memory",
    ),
]


@contextmanager
def at_work(job: Job) -> Iterator[tuple[list[str], dict[str, str]]]:
    """Give the words of the job's command and its environment, in a directory with its inputs."""
    words = shlex.split(job.command)
    settings = {}
    while "=" in words[0]:
        key, value = words.pop(0).split("=", 1)
        settings[key] = value
    with tempfile.TemporaryDirectory() as place, chdir(place):
        for script in SCRIPTS.iterdir():
            shutil.copy(script, place)
        job.prepare(random.Random(job.name))
        fixed = {"HOME": place, "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "0"}
        yield words, {"PATH": os.environ["PATH"], **fixed, **settings}


def record_job(job: Job, output: Path) -> None:
    """Run `job` in a directory of its own and write its trace."""
    with at_work(job) as (words, env):
        told = subprocess.run(
            shlex.split(job.version),
            env=env,
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        version = version_in(told.stdout)
        provenance = Provenance(
            job.name, job.program or words[0], version, job.command, note=job.note, tick=TICK
        )
        recording = record(words, output, provenance, env=env, stdout=subprocess.DEVNULL, level=LEVEL)
    if recording.status != 0:
        sys.exit(f"{job.command} ended with status {recording.status}")
    header = recording.header
    print(
        f"{job.name:<16}{header.events:>10,} events {output.stat().st_size / header.events:.2f} bytes each, "
        f"{recording.strangers} strangers, {recording.lost_frees} lost frees",
        file=sys.stderr,
    )


def version_in(told: str) -> str:
    """The version number in what a program tells of itself."""
    words = told.split("\n", 1)[0].replace(",", " ").replace("jq-", "").split()
    return next(word for word in words if word.lstrip("v(")[:1].isdigit()).strip("v()")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("directory", nargs="?", type=Path, default=corpus.directory())
    parser.add_argument("--only", action="append", choices=[job.name for job in JOBS])
    args = parser.parse_args()
    for job in JOBS:
        if args.only is None or job.name in args.only:
            record_job(job, args.directory.resolve() / f"{job.name}.hlt")


if __name__ == "__main__":
    main()
