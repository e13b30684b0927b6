"""Pages that show containers: one HTML file each, which opens anywhere and asks nobody for anything."""

import base64
import re
from collections.abc import Sequence
from html import escape
from importlib.resources import files
from string import Template

#: the files of the JavaScript module, each after those that it imports
PARTS = (
    *("words", "container", "model", "colours", "canvas", "gestures", "raster"),
    *("map", "curves", "strip", "structure", "view", "heaplab"),
)

_PAGE = Template("""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>$title</title>
<style>
body { margin: 0 auto; padding: 10px 14px; max-width: 1600px; font: 14px/1.4 system-ui, sans-serif }
body { color: #1c1f23; background: #ffffff }
h1 { font-size: 18px; margin: 0 0 6px }
@media (prefers-color-scheme: dark) { body { color: #e8eaed; background: #15181c } }
$style
</style>
</head>
<body>
<h1>$title</h1>
<div id="view"><p>This page needs JavaScript to draw the heap.</p></div>
<script type="text/plain" id="containers">$containers</script>
<script type="module">
$module
const place = document.getElementById("view");
const containers = document.getElementById("containers").textContent.split(" ").map(fromBase64);
$mount
</script>
</body>
</html>
""")


def module() -> str:
    """Return the JavaScript module as one text: its parts joined, without their imports of each other.

    It exports `mount`, `mountHeap`, `decode`, `fromBase64`, and a default for anywidget.
    """
    texts = [files("heaplab.pages").joinpath(f"{name}.js").read_text("utf-8") for name in PARTS]
    texts = [re.sub(r"^import .*\n", "", text, flags=re.MULTILINE) for text in texts]
    inner = [re.sub(r"^export ", "", text, flags=re.MULTILINE) for text in texts[:-1]]
    return "\n".join([*inner, texts[-1]])


def style() -> str:
    """Return the style sheet of what the module makes; all its rules are for the class `heaplab`."""
    return files("heaplab.pages").joinpath("heaplab.css").read_text("utf-8")


def script() -> str:
    """Return the module as it stands in a page's own script element, where nothing can be exported.

    The functions `mount(element, bytes, transport, options)`, `mountHeap(element, bytes, options)` and
    `fromBase64(text)` are at hand after it.
    """
    text = re.sub(r"^export default .*\n|^export \{.*\n", "", module(), flags=re.MULTILINE)
    return re.sub(r"^export ", "", text, flags=re.MULTILINE).replace("</", r"<\/")


def page(container: bytes, title: str, *, served: bool = False) -> str:
    """Return an HTML page that shows a run over time; it is one file and makes no request.

    container: of kind "run", as heaplab.views.packing makes it.  title: plain text.
    served: the page comes from `heaplab view --serve`, and asks its server for what the container lacks.

    >>> "<title>gcc &amp; buddy</title>" in page(b"HLV1", "gcc & buddy")
    True
    """
    transport = _SERVER if served else "null"
    return _page([container], title, f"mount(place, containers[0], {transport}, {{ hash: true }});")


def heap_page(containers: Sequence[bytes], title: str) -> str:
    """Return such a page of the heaps of some designs at one moment.

    containers: of kind "moment", of one run each.
    """
    return _page(containers, title, "mountHeap(place, containers);")


def _page(containers: Sequence[bytes], title: str, mount: str) -> str:
    return _PAGE.substitute(
        title=escape(title),
        style=style(),
        containers=" ".join(base64.b64encode(each).decode() for each in containers),
        module=script(),
        mount=mount,
    )


#: the transport to the server that the page came from: a question is a path and its query
_SERVER = """((ask) => ({ window: ask("window"), moment: ask("moment"), block: ask("block") }))(
  (kind) => async (question) => {
    const answer = await fetch(`${kind}?${new URLSearchParams(question)}`);
    if (!answer.ok) throw new Error(await answer.text());
    return new Uint8Array(await answer.arrayBuffer());
  },
)"""
