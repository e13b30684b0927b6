"""Completion in bash, zsh and fish: `_HEAPLAB_COMPLETE=bash_source heaplab` prints the script for bash.

What can stand for a parameter follows from its metavar: TRACE a bundled trace or a file; SPEC a spec (with
SPEC,... also after a comma), FILE and DIR what they say.  The scripts are heaplab's own: click's script for
fish takes a comma for the end of a word, and bash takes colons and equals signs so; a spec has all three.

The answer is a line for each word that may stand there: what it is, the word, and for people what it means,
between tabs.  word: it is whole; part: more may follow without a space; file, dir: the shell knows better.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem, ShellComplete, get_completion_class, split_arg_string

from heaplab.cli._commands import Grammar, grammar, rebuilt

VARIABLE = "_HEAPLAB_COMPLETE"
#: how files end that are allocators, and that a SPEC may name
_ALLOCATORS = (".py", ".c", ".so")
_OURS = "heaplab:"

_BASH = """\
%(complete_func)s() {
    local kind word meaning
    COMPREPLY=()
    while IFS=$'\\t' read -r kind word meaning; do
        case $kind in
            word) COMPREPLY+=("$word") ;;
            part) COMPREPLY+=("$word"); compopt -o nospace ;;
            file) compopt -o default ;;
            dir) compopt -o dirnames ;;
        esac
    done < <(env COMP_LINE="${COMP_LINE:0:COMP_POINT}" COMP_WORDBREAKS="$COMP_WORDBREAKS" \\
        %(complete_var)s=bash_complete "$1")
}
complete -o nosort -F %(complete_func)s %(prog_name)s
"""

_ZSH = """\
#compdef %(prog_name)s
%(complete_func)s() {
    local line kind word meaning
    local -a words_ parts meant shown
    (( ! $+commands[%(prog_name)s] )) && return 1
    for line in "${(@f)$(env COMP_WORDS="${words[*]}" COMP_CWORD=$((CURRENT-1)) \\
        %(complete_var)s=zsh_complete %(prog_name)s)}"; do
        IFS=$'\\t' read -r kind word meaning <<< "$line"
        case $kind in
            word) if [[ -n $meaning ]]; then meant+=("$word"); shown+=("$word  $meaning")
                  else words_+=("$word"); fi ;;
            part) parts+=("$word") ;;
            file) _path_files -f ;;
            dir) _path_files -/ ;;
        esac
    done
    (( $#meant )) && compadd -U -V unsorted -l -d shown -a meant
    (( $#words_ )) && compadd -U -V unsorted -a words_
    (( $#parts )) && compadd -U -V unsorted -S '' -a parts
}
if [[ $zsh_eval_context[-1] == loadautofunc ]]; then
    %(complete_func)s "$@"
else
    compdef %(complete_func)s %(prog_name)s
fi
"""

_FISH = """\
function %(complete_func)s
    for line in (env %(complete_var)s=fish_complete COMP_WORDS=(commandline -cp) \\
        COMP_CWORD=(commandline -t) %(prog_name)s)
        set -l parts (string split \\t -- $line)
        switch $parts[1]
            case file
                __fish_complete_path $parts[2]
            case dir
                __fish_complete_directories $parts[2]
            case '*'
                printf '%%s\\t%%s\\n' $parts[2] $parts[3]
        end
    end
end
complete --no-files --command %(prog_name)s --arguments "(%(complete_func)s)"
"""

_SCRIPTS = {"bash": _BASH, "zsh": _ZSH, "fish": _FISH}


def answer(main: click.Group, asked: str) -> int:
    """Print what a shell asks for: SHELL_source, its script; SHELL_complete, words.  Return the status."""
    shell, _, what = asked.partition("_")
    if shell not in _SCRIPTS or what not in ("source", "complete"):
        return 1
    if what == "source":
        name = {"complete_func": "_heaplab_completion", "complete_var": VARIABLE, "prog_name": "heaplab"}
        click.echo(_SCRIPTS[shell] % name, nl=False)
        return 0
    words, last = _words(shell)
    found = complete(grammar(main), words, last)
    if shell == "bash":
        found = [(kind, _behind_breaks(word, last), meaning) for kind, word, meaning in found]
    for line in found:
        click.echo("\t".join(line))
    return 0


def _words(shell: str) -> tuple[list[str], str]:
    """The words behind `heaplab` that are whole, and the one that is not."""
    if shell == "bash":
        # COMP_WORDS are broken at : and =
        line = os.environ["COMP_LINE"]
        words = split_arg_string(line)
        return (words[1:], "") if line[-1:].isspace() else (words[1:-1], words[-1])
    asks = get_completion_class(shell)
    assert asks is not None
    return asks(click.Group(), {}, "heaplab", VARIABLE).get_completion_args()


def _behind_breaks(word: str, typed: str) -> str:
    """What bash inserts: its word begins behind the last : or = that was typed."""
    breaks = [mark for mark in ":=" if mark in os.environ.get("COMP_WORDBREAKS", ":=")]
    shift = max((typed.rfind(mark) + 1 for mark in breaks), default=0)
    return re.sub(r"([\s'\"$\\])", r"\\\1", word[shift:])


def complete(plain: Grammar, words: list[str], last: str) -> list[tuple[str, str, str]]:
    """Return what `last` may become behind `words`: (kind, word, meaning) each."""

    def values(param: dict[str, Any], incomplete: str) -> list[CompletionItem[str]]:
        return list(_values(plain, param, incomplete))

    shell = ShellComplete(rebuilt(plain, values), {}, "heaplab", VARIABLE)
    before = last.partition("=")[0] + "=" if re.match(r"--[\w-]+=", last) else ""
    return [
        ({"plain": "word"}.get(item.type, item.type), before + item.value, item.help or "")
        for item in shell.get_completions(words, last)
    ]


def _values(plain: Grammar, param: dict[str, Any], text: str) -> Iterator[CompletionItem[str]]:
    """What may stand for a parameter and begins with `text`."""
    metavar = param["metavar"]
    if param["choices"]:
        yield from _beginning(param["choices"], text)
    elif "SPEC" in metavar:
        yield from _specs(plain["designs"], text, several="," in metavar)
    elif "TRACE" in metavar:
        yield from _beginning(plain["traces"], text)
        yield from _files(text)
    elif param["name"] == "native":
        yield from _natives(plain, text)
    elif "FILE" in metavar or metavar.endswith(".html") or metavar == "PROGRAM":
        yield CompletionItem(text, type="file")
    elif "DIR" in metavar:
        yield CompletionItem(text, type="dir")


def _beginning(words: list[str], text: str, before: str = "") -> Iterator[CompletionItem[str]]:
    return (CompletionItem(before + word) for word in words if word.startswith(text))


def _specs(
    designs: dict[str, dict[str, list[str]]], text: str, *, several: bool, before: str = ""
) -> Iterator[CompletionItem[str]]:
    """Specs: a design's name, then :option=, then a value; or a file that is an allocator.

    several: a list of them, of which the last one is completed.  before: stands in front of what is returned.
    """
    if several:
        done, comma, text = text.rpartition(",")
        before += done + comma
    *given, last = text.split(":")
    if not given:
        yield from _beginning(list(designs), last, before)
        for item in _files(last, _ALLOCATORS):
            yield CompletionItem(before + item.value, type=item.type)
        return
    options = designs.get(given[0], {})
    option, equals, value = last.partition("=")
    before += ":".join(given) + ":"
    if equals:
        yield from _beginning(options.get(option, []), value, f"{before}{option}=")
        return
    taken = {pair.partition("=")[0] for pair in given[1:]}
    for name in options:
        if name.startswith(option) and name not in taken:
            yield CompletionItem(f"{before}{name}=", type="part")


def _natives(plain: Grammar, text: str) -> Iterator[CompletionItem[str]]:
    """Real allocators by name, heaplab:SPEC, and libraries, after the last comma."""
    done, comma, last = text.rpartition(",")
    if last.startswith(_OURS):
        yield from _specs(
            plain["designs"], last.removeprefix(_OURS), several=False, before=done + comma + _OURS
        )
        return
    yield from _beginning(plain["native"], last, done + comma)
    if _OURS.startswith(last):
        yield CompletionItem(done + comma + _OURS, type="part")
    for item in _files(last, (".so",)):
        yield CompletionItem(done + comma + item.value, type=item.type)


def _files(text: str, endings: tuple[str, ...] = ("",)) -> Iterator[CompletionItem[str]]:
    """Files with one of the endings, and folders once a name was begun; hidden ones if a dot was typed."""
    folder, slash, begun = text.rpartition("/")
    try:
        entries = sorted(Path(folder + slash or ".").expanduser().iterdir())
    except OSError:
        return
    for entry in entries:
        name = entry.name
        if not name.startswith(begun) or (name.startswith(".") and not begun):
            continue
        if entry.is_dir():
            if text:
                yield CompletionItem(f"{folder}{slash}{name}/", type="part")
        elif name.endswith(endings):
            yield CompletionItem(f"{folder}{slash}{name}")
