"""Pictures as files: equal from run to run, and telling their content as text."""

from xml.etree import ElementTree

import matplotlib
import pytest

from heaplab.errors import UsageError
from heaplab.kernel import Kernel
from heaplab.report import process_tree


@pytest.fixture
def picture():
    kernel = Kernel(ram="1 MiB", seed=1)
    shell = kernel.init.fork()
    shell.name = "<&$_sh$"
    shell.fork().exit(1)
    return process_tree(kernel)


def test_svg_is_equal_from_run_to_run_whatever_the_users_style(picture, tmp_path):
    picture.save(tmp_path / "one.svg")
    with matplotlib.rc_context({"font.size": 20, "svg.fonttype": "path", "lines.linewidth": 9}):
        picture.save(str(tmp_path / "two.svg"))
    assert (tmp_path / "one.svg").read_bytes() == (tmp_path / "two.svg").read_bytes()
    assert picture._repr_svg_().encode() == (tmp_path / "one.svg").read_bytes()


def test_svg_tells_its_content_and_keeps_text_as_text(picture, tmp_path):
    picture.save(tmp_path / "tree.svg")
    root = ElementTree.parse(tmp_path / "tree.svg").getroot()
    description = root.find(".//{http://purl.org/dc/elements/1.1/}description")
    assert description is not None
    assert description.text == str(picture)
    texts = ["".join(each.itertext()) for each in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<&$_sh$" in texts
    assert "Z: zombie, exit code 1" in texts


def test_png(picture, tmp_path):
    picture.save(tmp_path / "tree.PNG")
    assert (tmp_path / "tree.PNG").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("name", ["tree", "tree.jpeg", "tree.svg.txt"])
def test_another_ending_is_refused(picture, tmp_path, name):
    with pytest.raises(UsageError, match=r"\.svg or \.png"):
        picture.save(tmp_path / name)
    assert not list(tmp_path.iterdir())
