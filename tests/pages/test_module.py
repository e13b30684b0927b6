"""The JavaScript module as text, and the widget that carries it; what a browser makes of it: test_view.py."""

import re
from collections.abc import Callable
from importlib.resources import files
from typing import Any

import pytest

from heaplab.errors import UsageError
from heaplab.pages.page import PARTS, heap_page, module, page, style


def test_every_file_is_in_the_module_after_those_it_imports() -> None:
    folder = files("heaplab.pages")
    assert sorted(PARTS) == sorted(
        file.name.removesuffix(".js") for file in folder.iterdir() if file.name.endswith(".js")
    )
    for place, name in enumerate(PARTS):
        text = folder.joinpath(f"{name}.js").read_text("utf-8")
        imported = re.findall(r'^import .* from "\./(\w+)\.js";$', text, re.MULTILINE)
        assert set(imported) <= set(PARTS[:place]), name


def test_no_name_stands_twice_in_the_module() -> None:
    names = re.findall(r"^(?:export )?(?:async )?(?:function|class|const|let) (\w+)", module(), re.MULTILINE)
    assert len(names) == len(set(names))
    assert not re.search(r"^import ", module(), re.MULTILINE)


def test_a_page_is_one_file() -> None:
    for html in (
        page(b"bytes", "a <b>"),
        page(b"bytes", "a <b>", served=True),
        heap_page([b"1", b"2"], "a <b>"),
    ):
        assert "a &lt;b&gt;" in html
        assert not re.search(r"""(?:src|href)=["'](?!data:)|@import|url\(""", html)
        assert html.count("</script>") == 2
        assert set(re.findall(r"https?://[^\"' ]+", html)) <= {"http://www.w3.org/2000/svg"}


def test_the_style_sheet_touches_nothing_else() -> None:
    rules = re.findall(r"^\s*([^{}@/]+)\{", re.sub(r"/\*.*?\*/", "", style(), flags=re.DOTALL), re.MULTILINE)
    selectors = [each.strip() for rule in rules for each in rule.split(",")]
    assert selectors
    assert [each for each in selectors if not each.startswith(".heaplab")] == []


class _Transport:
    def window(self, **question: Any) -> bytes:
        raise UsageError("from=9: there are 5 events")

    def moment(self, **question: Any) -> bytes:
        return repr(question).encode()

    def block(self, **question: Any) -> bytes:
        return b""


def test_a_widget_answers_by_its_transport(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anywidget", reason="needs anywidget for a widget")
    from heaplab.pages import widget  # noqa: PLC0415 - only where anywidget is

    shown = widget.HeapWidget(b"HLV1", _Transport(), moment=3)
    assert (shown.container, shown.options, shown.asks) == (b"HLV1", {"moment": 3}, True)
    sent: list[Any] = []
    monkeypatch.setattr(shown, "send", lambda *message: sent.append(message))
    answer: Callable[..., None] = shown._handle_custom_msg
    answer({"id": 1, "kind": "moment", "question": {"run": 0, "moment": 2}}, [])
    answer({"id": 2, "kind": "window", "question": {"from": 9}}, [])
    assert sent == [
        ({"id": 1}, [b"{'run': 0, 'moment': 2}"]),
        ({"id": 2, "error": "from=9: there are 5 events"},),
    ]
    assert not widget.HeapWidget(b"HLV1").asks
