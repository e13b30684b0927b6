"""What the command line consists of, as plain data that is kept, so that a shell completes without imports.

The commands import what they work with, which takes half a second.  A shell that completes a word needs names
alone.  So the first completion imports everything, and writes down the commands, their parameters, the
designs and the bundled traces (`Grammar`) where heaplab keeps what it compiled; the next ones read that.
"""

import json
import sys
import sysconfig
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from heaplab import __version__
from heaplab.compiling import cache
from heaplab.errors import HeaplabError, UsageError
from heaplab.files import replacing

Grammar = dict[str, Any]


def grammar(main: click.Group) -> Grammar:
    """Return what the command line `main` consists of, from the file where it is kept or from the commands.

    main: the command line, see `_described`.  designs: by name, their options with the values that can
    be named.  traces: bundled ones.  native: real allocators that are known by name.
    """
    key = _key()
    try:
        file = cache() / "completion.json"
    except UsageError:  # no home directory
        return _made(main, key)
    with suppress(OSError, ValueError):
        kept: Grammar = json.loads(file.read_text())
        if kept["key"] == key:
            return kept
    made = _made(main, key)
    with suppress(OSError):  # nowhere to write: the next completion takes as long
        file.parent.mkdir(parents=True, exist_ok=True)
        with replacing(file) as out:
            out.write(json.dumps(made).encode())
    return made


def _key() -> list[Any]:
    """What the grammar depends on: heaplab's commands and designs, and packages that may offer designs."""
    package = Path(__file__).parents[1]
    folders = ("cli", "allocators/designs", "traces/corpus", "_core")
    files = sorted(file for folder in folders for file in (package / folder).iterdir() if file.is_file())
    stats = [[file.name, stat.st_mtime_ns, stat.st_size] for file in files for stat in (file.stat(),)]
    click_spec = find_spec("click")
    installed = Path(sysconfig.get_path("purelib")).stat().st_mtime_ns
    return [__version__, sys.version, click_spec and click_spec.origin, installed, stats]


def _made(main: click.Group, key: list[Any]) -> Grammar:
    from heaplab.allocators import LANGUAGES, names, parse  # noqa: PLC0415 - the half second
    from heaplab.native.peers import NAMES  # noqa: PLC0415
    from heaplab.traces import corpus  # noqa: PLC0415

    designs: dict[str, dict[str, list[str]]] = {}
    for language in LANGUAGES:
        for name in names(language):
            options = parse(name, language).design.OPTIONS
            designs[name] = {each.name: list(each.choices) or [each.default] for each in options}
    return {
        "key": key,
        "main": _described(main),
        "designs": designs,
        "traces": corpus.names(),
        "native": list(NAMES),
    }


def _described(command: click.Command) -> dict[str, Any]:
    """A command as plain data: its help in a line, settings, parameters, and commands below it, by name."""
    context = click.Context(command)
    below = {}
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            with suppress(
                ImportError, HeaplabError
            ):  # it lacks what an extra brings: it cannot be run either
                found = command.get_command(context, name)
                if found is not None and not found.hidden:
                    below[name] = _described(found)
    return {
        "help": command.get_short_help_str(80),
        "settings": command.context_settings,
        "params": [_parameter(each) for each in command.params],
        "commands": below,
    }


def _parameter(param: click.Parameter) -> dict[str, Any]:
    choices = param.type.choices if isinstance(param.type, click.Choice) else ()
    plain: dict[str, Any] = {
        "name": param.name,
        "nargs": param.nargs,
        "metavar": param.metavar or (param.name or "").upper(),
        "choices": [str(choice) for choice in choices],
    }
    if isinstance(param, click.Option):
        opts, others = list(param.opts), list(param.secondary_opts)
        plain |= {
            "opts": [f"{opts[0]}/{others[0]}", *opts[1:]] if others else opts,
            "flag": param.is_flag,
            "multiple": param.multiple,
            "help": " ".join((param.help or "").split()),
        }
    return plain


#: what can stand for a parameter: of its plain data, and the text so far, the words that begin so
Values = Callable[[dict[str, Any], str], list[Any]]


def rebuilt(grammar: Grammar, values: Values) -> click.Group:
    """Return the command line that a grammar describes; its commands do nothing, and complete by `values`."""
    return _group("heaplab", grammar["main"], values)


def _group(name: str, plain: dict[str, Any], values: Values) -> click.Group:
    commands = {below: _command(below, each, values) for below, each in plain["commands"].items()}
    settings, params = plain["settings"], _params(plain, values)
    return click.Group(name, commands=commands, context_settings=settings, params=params, help=plain["help"])


def _command(name: str, plain: dict[str, Any], values: Values) -> click.Command:
    if plain["commands"]:
        return _group(name, plain, values)
    params = _params(plain, values)
    return click.Command(name, context_settings=plain["settings"], params=params, help=plain["help"])


def _params(plain: dict[str, Any], values: Values) -> list[click.Parameter]:
    return [_param(each, values) for each in plain["params"]]


def _param(plain: dict[str, Any], values: Values) -> click.Parameter:
    def complete(_context: click.Context, _param: click.Parameter, incomplete: str) -> list[Any]:
        return values(plain, incomplete)

    if "opts" not in plain:
        return click.Argument([plain["name"]], nargs=plain["nargs"], required=False, shell_complete=complete)
    if plain["flag"]:
        return click.Option([*plain["opts"], plain["name"]], is_flag=True, help=plain["help"])
    return click.Option(
        [*plain["opts"], plain["name"]],
        nargs=plain["nargs"],
        multiple=plain["multiple"],
        help=plain["help"],
        shell_complete=complete,
    )
