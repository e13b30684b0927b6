"""`from heaplab import ...`: every name is there, and nothing is imported before it is asked for."""

import subprocess
import sys
import types
from pathlib import Path

import pytest

import heaplab


@pytest.mark.parametrize("name", sorted({*heaplab.__all__} - {"__version__"}))
def test_what_is_offered_is_there(name: str) -> None:
    found = getattr(heaplab, name)
    assert found.__doc__
    if isinstance(found, types.ModuleType):
        assert found.__name__ == f"heaplab.{name}"
    else:
        assert found.__module__.startswith("heaplab.")


def test_dir_lists_them() -> None:
    assert {*heaplab.__all__} <= {*dir(heaplab)}
    assert "Kernel" in heaplab.__doc__


def test_another_name_is_an_error_as_of_any_module() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'kernal'"):
        heaplab.kernal  # noqa: B018
    with pytest.raises(ImportError):
        exec("from heaplab import kernal")


def test_importing_heaplab_imports_no_room() -> None:
    code = "import sys, heaplab; dir(heaplab); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = {
        name for name in done.stdout.split() if name.partition(".")[0] in ("heaplab", "numpy", "matplotlib")
    }
    assert loaded == {"heaplab"}


def test_an_editor_is_told_of_each_name() -> None:
    """Type checkers see what the imports under TYPE_CHECKING say, which must be what is imported."""
    namespace: dict[str, object] = {}
    source = Path(heaplab.__file__).read_text()
    block = source.partition("if TYPE_CHECKING:\n")[2].partition("\n\n")[0]
    exec("\n".join(line.strip() for line in block.splitlines()), namespace)
    typed = {name: value for name, value in namespace.items() if name != "__builtins__"}
    assert typed == {name: getattr(heaplab, name) for name in heaplab.__all__ if name != "__version__"}
