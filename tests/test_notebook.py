"""docs/seeing.ipynb runs from its first cell to its last, and every cell shows what it is said to show."""

import json
import re
from pathlib import Path

import pytest

NOTEBOOK = Path(__file__).parents[1] / "docs" / "seeing.ipynb"
nbformat = pytest.importorskip("nbformat", reason="nbformat is not installed: it reads notebooks")
nbclient = pytest.importorskip("nbclient", reason="nbclient is not installed: it runs notebooks")
pytest.importorskip("ipykernel", reason="ipykernel is not installed: it runs a notebook's cells")


@pytest.fixture(scope="module")
def shown(tmp_path_factory):
    """By its last line, what each cell shows: MIME types and their data."""
    with pytest.MonkeyPatch.context() as patch:
        home = tmp_path_factory.mktemp("home")
        for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR"):
            patch.setenv(name, str(home / name.lower()))
        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbformat.validate(notebook)
        nbclient.NotebookClient(notebook, timeout=300, kernel_name="python3").execute()
    results = {}
    for cell in notebook.cells:
        if cell.cell_type == "code":
            assert not [out for out in cell.outputs if out.output_type == "error"]
            last = cell.source.splitlines()[-1]
            results[last] = {}
            for out in cell.outputs:
                results[last] |= out.get("data", {"stdout": out.get("text", "")})
    return results


def test_it_is_kept_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    assert all(not cell["outputs"] and cell["execution_count"] is None for cell in cells if "outputs" in cell)


def test_heaps_are_strips(shown):
    assert "<title>rbtree in process 2</title>" in shown["heap"]["text/html"]
    assert "<title>rbtree in process 3</title>" in shown["twin"]["text/html"]
    assert shown["heap"]["text/plain"].startswith("<heap rbtree in python, process 2, root 0x")
    assert "mapped 2 times" in shown["report.address_spaces(kernel, shell, child)"]["image/svg+xml"]
    assert "`-sh(2)\n   `-sh(3)" in shown["print(child)"]["stdout"]


def test_a_film_strip_has_both_designs(shown):
    [svg] = [data["image/svg+xml"] for last, data in shown.items() if last == ")"]
    assert {"freelist:fit=first", "freelist:fit=best"} <= {*re.findall(r"freelist:fit=\w+", svg)}


def test_a_comparison_is_a_table_and_a_run_has_curves(shown):
    assert shown["trace"]["text/html"].count("<polyline") == 1
    assert shown["comparison"]["text/html"].count("<tr>") == 1 + 3
    assert shown["comparison"]["text/plain"] == "<Comparison of 1 trace on 3 allocators: 3 runs>"
    assert shown["comparison.runs[1]"]["text/html"].count("<polyline") == 3
    assert shown["comparison.runs[1].heap_map"]["text/html"].startswith("<div>process 0 after 2,974 events")


def test_the_view_is_a_widget(shown):
    pytest.importorskip("anywidget", reason="anywidget is not installed: it shows the view")
    [data] = [data for last, data in shown.items() if last.startswith("view(")]
    assert "application/vnd.jupyter.widget-view+json" in data
