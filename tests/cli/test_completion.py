"""Completion, asked for as shells ask: by environment variables, and in bash by its own script."""

import os
import shutil
import subprocess
import sys

import pytest

from heaplab.allocators import names, parse
from heaplab.cli import main
from heaplab.cli._commands import grammar
from heaplab.cli._completion import complete
from heaplab.traces import corpus


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """Where what is compiled is kept."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def plain(home):
    """What the command line consists of."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(home))
        return grammar(main)


@pytest.fixture
def words(plain, tmp_path, monkeypatch):
    """Return what the last word of a line may become, in a folder with some files."""
    monkeypatch.chdir(tmp_path)
    for name in ("mm.c", "mine.py", "lib.so", "notes.txt", "luck.hlt", ".hidden.c"):
        (tmp_path / name).touch()
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "deep.c").touch()

    def words(line):
        *before, last = line.split(" ")
        return [word for _, word, _ in complete(plain, before, last)]

    return words


def test_commands_and_options(words):
    assert words("") == main.list_commands(None)
    assert words("tra") == ["trace"]
    assert words("trace ") == ["convert", "cut", "info", "list", "merge"]
    assert words("native r") == ["run"]
    assert words("compare --al") == ["--allocators"]
    assert {"--help", "--seed", "--kinds"} <= {*words("fuzz -")}
    assert words("record --no") == ["--note", "--no-wait"]
    assert words("compare --language ") == ["python", "c"]


@pytest.mark.parametrize(
    "line", ["compare ", "compare gcc ", "shrink ", "trace info ", "trace cut -o x.hlt "]
)
def test_traces_are_bundled_ones_and_files(words, line):
    assert words(line + "lu") == ["lua", "luck.hlt"]
    assert {*corpus.names(), "luck.hlt", "notes.txt"} <= {*words(line)}
    assert words(line + "m") == ["mine.py", "mm.c", "more/"]
    assert words(line + "more/") == ["more/deep.c"]
    assert ".hidden.c" in words(line + ".")


@pytest.mark.parametrize(
    "line",
    [
        "compare lua --allocators ",
        "shrink lua --allocators ",
        "check ",
        "fuzz ",
        "native build ",
        "native run ",
    ],
)
def test_a_spec_grows_by_name_option_and_choice(words, line):
    assert {*names("c"), *names("python"), "mm.c", "mine.py", "lib.so"} == {*words(line)}
    assert words(line + "free") == ["freelist"]
    assert words(line + "freelist:") == [
        f"freelist:{option.name}=" for option in parse("freelist", "c").design.OPTIONS
    ]
    assert words(line + "freelist:fit=") == [
        f"freelist:fit={fit}" for fit in ("first", "next", "best", "worst")
    ]
    assert words(line + "freelist:fit=best:o") == ["freelist:fit=best:order="]
    assert "freelist:fit=best:fit=" not in words(line + "freelist:fit=best:")
    assert words(line + "mm.c:") == words(line + "no-such:x") == []
    assert words(line + "mo") == ["more/"]


def test_after_a_comma_comes_the_next_spec(words):
    assert words("compare --allocators buddy,rb") == ["buddy,rbtree"]
    assert words("compare --allocators buddy:seal=off,freelist:fit=w") == [
        "buddy:seal=off,freelist:fit=worst"
    ]
    assert words("compare --allocators=buddy,rb") == ["--allocators=buddy,rbtree"]
    assert words("shrink lua --allocators buddy,rb") == [], "it takes one"


def test_real_allocators(words):
    assert words("compare --native je") == ["jemalloc"]
    assert words("compare --native glibc,heaplab:bu") == ["glibc,heaplab:buddy"]
    assert words("compare --native glibc,h") == ["glibc,heaplab:"]
    assert words("compare --native l") == ["lib.so"]


def test_other_files_are_left_to_the_shell(plain):
    assert complete(plain, ["compare", "--json"], "x") == [("file", "x", "")]
    assert complete(plain, ["grade", "--traces"], "") == [("dir", "", "")]
    assert complete(plain, ["native", "run", "buddy"], "ls") == [("file", "ls", "")]


def asked(home, shell, **variables):
    """What `heaplab` prints when a shell asks it, and the modules that it imports."""
    asks = {"XDG_CACHE_HOME": str(home), "_HEAPLAB_COMPLETE": f"{shell}_complete", **variables}
    command = [sys.executable, "-X", "importtime", "-m", "heaplab"]
    done = subprocess.run(command, env={**os.environ, **asks}, capture_output=True, text=True, check=True)
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    return [line.split("\t") for line in done.stdout.splitlines()], imported


@pytest.mark.usefixtures("plain")
def test_it_imports_no_room_and_answers_each_shell(home):
    line, specs = "heaplab compare --allocators", "buddy,freelist:fit=b"
    zsh, imported = asked(home, "zsh", COMP_WORDS=f"{line} {specs}", COMP_CWORD="3")
    assert zsh == [["word", "buddy,freelist:fit=best", ""]]
    assert "heaplab.cli._completion" in imported
    assert not {"numpy", "rich", "elftools", "heaplab._core", "heaplab.lab", "heaplab.cli.compare"} & imported
    fish, _ = asked(home, "fish", COMP_WORDS=f"{line} {specs}", COMP_CWORD=specs)
    assert fish == zsh
    bash, _ = asked(home, "bash", COMP_LINE=f"{line} {specs}")
    assert bash == [["word", "best", ""]], "bash breaks words at : and ="


def test_another_commands_or_designs_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    made = grammar(main)
    kept = tmp_path / "heaplab" / "completion.json"
    assert grammar(main) == made
    kept.write_text(
        kept.read_text().replace('"key": ["', '"key": ["older than ').replace("rbtree", "rebtree")
    )
    assert grammar(main)["designs"].keys() == made["designs"].keys()
    kept.write_text("{")
    assert grammar(main)["traces"] == corpus.names()


#: `heaplab` and `env` as functions, so that no installed heaplab is run
BASH = """
heaplab() { "$PYTHON" -m heaplab "$@"; }
env() { while [[ $1 == *=* ]]; do local -x "$1"; shift; done; "$@"; }
eval "$(_HEAPLAB_COMPLETE=bash_source heaplab)"
complete -p heaplab
compopt() { options+=" $*"; }
try() {
    COMP_LINE=$1 COMP_POINT=${#1} options=
    _heaplab_completion heaplab
    echo "${COMPREPLY[*]}$options"
}
try "heaplab compare lua --allocators freelist:fit=w"
try "heaplab compare lua --allocators freelist:ord"
try "heaplab compare git-"
try "heaplab compare --json "
"""


@pytest.mark.usefixtures("plain")
def test_bash_completes_by_its_script(home, tmp_path):
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    environment = {**os.environ, "XDG_CACHE_HOME": str(home), "PYTHON": sys.executable}
    done = subprocess.run(
        [bash, "-c", BASH], capture_output=True, text=True, env=environment, cwd=tmp_path, check=True
    )
    assert done.stdout.splitlines() == [
        "complete -o nosort -F _heaplab_completion heaplab",
        "worst",
        "order= -o nospace",
        "git-grep",
        " -o default",
    ]


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_another_shell_takes_its_script(shell):
    found = shutil.which(shell)
    if found is None:
        pytest.skip(f"there is no {shell} to read its script")
    environment = {**os.environ, "_HEAPLAB_COMPLETE": f"{shell}_source"}
    command = [sys.executable, "-m", "heaplab"]
    script = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    assert "_heaplab_completion" in script
    subprocess.run([found, "-n", "-c", script], check=True)


def test_an_unknown_shell_is_refused():
    environment = {**os.environ, "_HEAPLAB_COMPLETE": "csh_source"}
    assert subprocess.run([sys.executable, "-m", "heaplab"], env=environment, check=False).returncode == 1
