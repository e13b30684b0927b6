"""Chromium for tests that look at pages, and the pages that they look at."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from heaplab.lab.moments import Moments
from heaplab.pages.answers import Answers
from heaplab.pages.page import page
from heaplab.traces import Event, Op, Trace
from heaplab.traces.lives import lives
from heaplab.traces.sites import Asked, Sites
from heaplab.views.contents import run_container
from heaplab.views.packing import unpack
from heaplab.views.run import view_of

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
)
#: what opens a page: see Opened.__call__
OpenPage = Callable[..., Any]


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser: started once, for all tests of a worker."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright to drive a browser")
    found = shutil.which("chromium")
    if found is None:
        pytest.skip("needs Debian's chromium to look at pages")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(FLAGS))
        yield browser
        browser.close()


class Opened:
    """Opens pages from files, offline, and hears what they complain of or ask for."""

    def __init__(self, browser: Any, folder: Path) -> None:
        self._browser, self._folder = browser, folder
        self._contexts: list[Any] = []
        self._wrong: list[str] = []

    def __call__(
        self, html: str = "", *, url: str = "", width: int = 1280, height: int = 800, scheme: str = "light"
    ) -> Any:
        """Return playwright's page of this text; or of a server's address, which it may then ask."""
        context = self._browser.new_context(
            viewport={"width": width, "height": height}, color_scheme=scheme, offline=not url
        )
        self._contexts.append(context)
        page = context.new_page()
        page.on("console", lambda message: self._wrong.append(f"console: {message.text}"))
        page.on("pageerror", lambda error: self._wrong.append(f"error: {error}"))
        allowed = (url or "file:", "data:", "blob:")
        page.on("request", lambda request: self._asked(request.url, allowed))
        if not url:
            file = self._folder / f"page{len(self._contexts)}.html"
            file.write_text(html)
            url = file.as_uri()
        page.goto(url)
        return page

    def _asked(self, url: str, allowed: tuple[str, ...]) -> None:
        if not url.startswith(allowed):
            self._wrong.append(f"request: {url}")

    def complaints(self) -> list[str]:
        """What was wrong since the last time."""
        wrong, self._wrong = self._wrong, []
        return wrong

    def close(self) -> None:
        for context in self._contexts:
            context.close()


@pytest.fixture(scope="session")
def pages(chromium: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Opened]:
    opened = Opened(chromium, tmp_path_factory.mktemp("pages"))
    yield opened
    opened.close()


@pytest.fixture
def open_page(pages: Opened) -> Iterator[OpenPage]:
    """Open pages; at the end none has complained."""
    yield pages
    assert pages.complaints() == []


def a_trace() -> Trace:
    """Blocks of many sizes, one large enough for a mapping, a chain of reallocs, and a child of a fork."""
    events = [Event(Op.MALLOC, slot, 20 + 37 * slot % 700) for slot in range(24)]
    events += [Event(Op.FREE, slot) for slot in range(0, 24, 3)]
    events += [Event(Op.REALLOC, 4, 900), Event(Op.REALLOC, 4, 5000), Event(Op.MALLOC, 24, 300_000)]
    events += [Event(Op.MALLOC, slot, 64, thread=1) for slot in range(0, 24, 3)]
    events += [Event(Op.FORK, 1), Event(Op.FREE, 7, process=1), Event(Op.MALLOC, 7, 48, process=1)]
    events += [Event(Op.FREE, slot) for slot in (1, 2, 24, 5, 20)]
    events += [Event(Op.EXIT, process=1), Event(Op.MALLOC, 1, 128)]
    return Trace.of(events, "made-up")


def its_sites(trace: Trace) -> Sites:
    """Who asked for its blocks: a function for even slots, another for odd ones; nobody knows of slot 3."""
    born = lives(trace)
    stack = np.where(born.slot == 3, 0, 1 + born.slot % 2)
    own = [~born.copied & (born.process == number) for number in range(2)]
    asked = {number: Asked.of(stack[here], born.size[here]) for number, here in enumerate(own)}
    return Sites(((), ("main", "table"), ("main", "table", "a", "b", "rows", "_Znwm")), asked)


@pytest.fixture(scope="session")
def containers() -> tuple[bytes, list[bytes]]:
    """That trace on two designs: the run with every moment recorded, and the moment 30 of each."""
    with ExitStack() as stack:
        runs = [stack.enter_context(Moments(a_trace(), spec)) for spec in ("buddy", "rbtree")]
        seen = view_of(runs, sites=its_sites(runs[0].trace))
        answers = Answers(seen, runs)
        return run_container(seen), [answers.moment(run=run, moment=30) for run in range(2)]


@pytest.fixture(scope="session")
def container(containers: tuple[bytes, list[bytes]]) -> bytes:
    return containers[0]


@pytest.fixture(scope="session")
def moments(containers: tuple[bytes, list[bytes]]) -> list[bytes]:
    return containers[1]


@pytest.fixture(scope="session")
def told(container: bytes) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its manifest and its columns."""
    return unpack(container)


@pytest.fixture(scope="session")
def viewed(pages: Opened, container: bytes) -> Any:
    """The page of the container, opened once."""
    return drawn(pages(page(container, "made-up")))


@pytest.fixture
def view(open_page: OpenPage, viewed: Any) -> Any:
    """That page as it is when it has just been opened, drawn."""
    viewed.mouse.move(1, 1)
    viewed.evaluate(
        """() => {
            const view = document.querySelector('.heaplab').heaplab;
            view.choose({ moment: view.data.interesting, row: -1 });
            view.paint('size');
            view.look(view.home());
        }"""
    )
    return drawn(viewed)


def drawn(shown: Any) -> Any:
    """Wait until all of a page's view is drawn, and return the page."""
    shown.evaluate("new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")
    deadline = time.monotonic() + 30
    # asked again and again from here: a page may forbid eval, which wait_for_function needs
    while not shown.evaluate("Boolean(document.querySelector('.heaplab')?.heaplab?.settled)"):
        assert time.monotonic() < deadline, "the view is not drawn after 30 seconds"
        shown.wait_for_timeout(20)
    return shown
