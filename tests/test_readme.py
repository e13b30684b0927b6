"""README and pages keep their word: examples run, what they name is there, pictures show what stands."""

import doctest
import re
import runpy
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest

ROOT = Path(__file__).resolve().parents[1]
DRAW = SimpleNamespace(**runpy.run_path(str(ROOT / "experiments" / "draw_kernel.py")))
README = (ROOT / "README.md").read_text()
IMAGES = ROOT / "docs" / "img"
REDRAW = "run experiments/draw_kernel.py and look at it"
SAVED = re.compile(r'\.save\("([\w-]+\.svg)"\)')
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_examples_run_and_draw_the_pictures(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Sessions that save pictures are run as the script runs them, which draws these and nothing else."""
    saved = sorted(SAVED.findall(page.read_text()))
    if saved:
        DRAW.draw(page, tmp_path)
    else:
        (tmp_path / "experiments").symlink_to(ROOT / "experiments")
        monkeypatch.chdir(tmp_path)
        failed, _ = doctest.testfile(
            str(page), module_relative=False, optionflags=doctest.NORMALIZE_WHITESPACE
        )
        assert not failed
        (tmp_path / "experiments").unlink()
    assert [path.name for path in sorted(tmp_path.glob("*.svg"))] == saved
    assert not saved or sorted(path.name for path in tmp_path.iterdir()) == saved
    for picture in tmp_path.glob("*.svg"):
        stored = IMAGES / picture.name
        assert described(picture) == described(stored), f"{picture.name} is out of date: {REDRAW}"
        assert drawn_alike(picture, stored), f"{picture.name} is drawn otherwise now: {REDRAW}"


def test_the_script_draws_every_picture_of_the_pages() -> None:
    drawn = [name for page in DRAW.pages() for name in SAVED.findall(page.read_text())]
    assert sorted(drawn) == sorted(path.name for path in IMAGES.glob("*.svg"))


def described(picture: Path) -> str:
    """What a picture says of itself: all that it shows, as text."""
    found = ElementTree.parse(picture).getroot().find(".//{http://purl.org/dc/elements/1.1/}description")
    assert found is not None
    return found.text or ""


def drawn_alike(one: Path, other: Path) -> bool:
    """Whether two pictures differ by no more than a point anywhere; true of two versions of matplotlib."""
    texts = one.read_text(), other.read_text()
    versions = [re.findall(r"Matplotlib v[\d.]+", text) for text in texts]
    if versions[0] != versions[1]:
        return True
    number = r"(?<![\w#.-])-?\d+(?:\.\d+)?(?![\w.])"
    numbers = [[float(each) for each in re.findall(number, text)] for text in texts]
    return re.sub(number, "", texts[0]) == re.sub(number, "", texts[1]) and all(
        abs(here - there) <= 1 for here, there in zip(*numbers, strict=True)
    )


def test_every_picture_stands_where_the_session_draws_it() -> None:
    shown: list[str] = []
    for page in PAGES:
        text = page.read_text()
        saved = [(match.start(), match[1]) for match in SAVED.finditer(text)]
        embedded = [(match.start(), match[1]) for match in re.finditer(r"\]\(img/([\w-]+\.svg)\)", text)]
        assert [name for _, name in saved] == [name for _, name in embedded], page.name
        order = sorted([*saved, *embedded])
        assert [name for _, name in order] == [name for _, name in saved for _ in range(2)], page.name
        shown += [name for _, name in embedded]
    assert sorted(shown) == sorted(path.name for path in IMAGES.glob("*.svg"))
    assert all(path.stat().st_size < 60_000 for path in IMAGES.glob("*.svg"))


def test_the_readme_has_an_example() -> None:
    assert ">>> heap.attach(child).free(p)" in README


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_is_linked_is_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)#]+)\)", page.read_text()):
        if "://" not in target:
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


def test_the_two_commands_are_targets_of_the_makefile() -> None:
    makefile = (ROOT / "Makefile").read_text()
    for target in re.findall(r"^    make (\w+)", README, re.MULTILINE):
        assert re.search(rf"^{target}:", makefile, re.MULTILINE)
