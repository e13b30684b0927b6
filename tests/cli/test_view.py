"""`heaplab view`: a page of a run, in a file or from a server, and what cannot be."""

import base64
import re
import signal
import subprocess
import sys
from http.client import HTTPConnection

import pytest
from click.testing import CliRunner

from heaplab.cli import main
from heaplab.lab.moments import Moments
from heaplab.pages.answers import Answers
from heaplab.traces import Provenance, TraceWriter, open_trace, synthetic
from heaplab.views.packing import unpack
from heaplab.views.run import view_of


def view(*args):
    return CliRunner().invoke(main, ["view", *map(str, args)])


def container_of(page):
    [text] = re.findall(r">\s*(SExW[A-Za-z0-9+/=]+)\s*<", page)  # HLV, in base64
    return unpack(base64.b64decode(text))


@pytest.fixture(scope="module")
def trace(tmp_path_factory):
    """A trace file of 1500 events."""
    path = tmp_path_factory.mktemp("traces") / "small.hlt"
    with TraceWriter.create(path, Provenance("small")) as writer:
        for block in synthetic(1500, seed=1, slots=100):
            writer.write(block)
    return path


def test_a_page_is_written_and_said(trace, tmp_path):
    page = tmp_path / "page.html"
    result = view(trace, "--allocators", "buddy,freelist:fit=best", "-o", page, "--at", 700)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.startswith("small: 1,500 events")
    assert result.stdout.endswith(f"page: {page} ({page.stat().st_size:,} bytes)\n")
    told, columns = container_of(page.read_text())
    assert [run["allocator"] for run in told["runs"]] == ["buddy", "freelist:fit=best"]
    assert told["exact"] == [0, 1500]
    assert 701 in columns["key.moment"]
    assert "<title>small on buddy and freelist:fit=best</title>" in page.read_text()


def test_a_bundled_trace_on_two_designs_is_below_5_mb_and_to_the_byte(tmp_path):
    page = tmp_path / "lua.html"
    assert view("lua", "-o", page, "-q").exit_code == 0
    assert page.stat().st_size < 5_000_000
    told, columns = container_of(page.read_text())
    header = open_trace("lua").header
    assert told["exact"] == [0, header.events]
    assert columns["event.live"].max() == header.peak_live


STOPS = """
from heaplab.allocators.designs.buddy import Buddy

class Stops(Buddy):
    def malloc(self, size):
        return 0 if size == 7 else super().malloc(size)
"""


def test_a_run_that_fails_is_shown_up_to_there_with_the_reason(tmp_path):
    trace, design, page = tmp_path / "four.rep", tmp_path / "stops.py", tmp_path / "page.html"
    trace.write_text("200\n4\n4\n1\na 0 50\na 1 60\na 2 7\na 3 80\n")
    design.write_text(STOPS)
    result = view(trace, "--allocators", f"{design},buddy", "-o", page)
    assert result.exit_code == 0
    assert "failed after 2 events: event 2 (malloc 2 7): the allocator gave no memory" in result.stdout
    told, columns = container_of(page.read_text())
    assert [run["outcome"] for run in told["runs"]] == ["failed", "finished"]
    assert (columns["r0.address"] != 0).tolist() == [True, True, False, False]


@pytest.mark.parametrize(
    ("arguments", "why"),
    [
        (["lua"], "say where the page is to go: -o PAGE.html writes it, --serve shows it"),
        (["nosuch", "-o", "x.html"], "nosuch: there is no such file"),
        (["lua", "-o", "x.html", "--allocators", "nosuch"], "there is no allocator 'nosuch'"),
        (["lua", "-o", "x.html", "--allocators", ","], "names no allocator"),
        (["lua", "-o", "x.html", "--allocators", "buddy,slab,spans,rbtree"], "these are 4: name at most 3"),
        (["lua", "-o", "x.html", "--at", "69655"], "--at 69655: lua has events 0 to 69654"),
        (["lua", "-o", "x.html", "--at", "-1"], "--at -1: lua has events 0 to 69654"),
        (["lua", "-o", "x.html", "--ram", "much"], "much"),
        (["lua", "-o", "."], "-o .: this is a directory: name a file"),
        (["lua", "-o", "no/where.html"], "there is no directory"),
        (["lua", "--serve", "--port", "70000"], "70000"),
    ],
)
def test_a_mistake_is_one_line_and_2(arguments, why, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = view(*arguments)
    assert (result.exit_code, result.stdout) == (2, "")
    assert why in result.stderr
    assert result.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


MM = """
#include "mm.h"
#include "memlib.h"
team_t team = {"a", "b", "c", "", ""};
int mm_init(void) { return 0; }
void *mm_malloc(size_t size) { return mem_sbrk((size + 31) & ~15ul); }
void mm_free(void *p) { (void)p; }
void *mm_realloc(void *p, size_t size) { (void)p; return mm_malloc(size); }
"""


def test_an_allocator_from_outside_is_refused_with_the_reason(tmp_path):
    source = tmp_path / "mm.c"
    source.write_text(MM)
    result = view("lua", "-o", tmp_path / "x.html", "--allocators", source)
    assert result.exit_code == 2
    assert "an allocator from outside is played as machine code, and no page shows its heap" in result.stderr


def test_a_page_is_served_until_ctrl_c(trace):
    command = [sys.executable, "-m", "heaplab", "view", trace, "--allocators", "buddy", "--serve"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            for line in process.stdout:
                if found := re.fullmatch(r"open http://127\.0\.0\.1:(\d+)/ in a browser; .*\n", line):
                    break
            talk = HTTPConnection("127.0.0.1", int(found[1]), timeout=20)
            bodies = []
            for path in ("/", "/container", "/moment?run=0&moment=900", "/module"):
                talk.request("GET", path)
                answer = talk.getresponse()
                assert answer.status == 200
                bodies.append(answer.read())
            process.send_signal(signal.SIGINT)
            _, told = process.communicate(timeout=30)
        finally:
            process.kill()
    assert (process.returncode, told) == (0, "")
    page, container, moment, module = bodies
    assert unpack(container)[0] == container_of(page.decode())[0]
    assert b"export" in module
    opened = open_trace(trace)
    with Moments(opened, "buddy") as moments:
        assert moment == Answers(view_of([moments]), [moments]).moment(run=0, moment=900)
