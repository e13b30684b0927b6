"""What every picture has to be: legible."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle
from matplotlib.transforms import Bbox

from heaplab.report import Picture

_SLACK = 1.5  # pixels at 130 dpi: what a text's box has around the ink


def _legible(picture: Picture[Any]) -> None:
    figure = picture.figure()
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    axes = figure.axes[0]
    texts = [(text.get_text(), text.get_window_extent(renderer)) for text in axes.texts]
    width, height = canvas.get_width_height()
    for text, box in texts:
        assert -_SLACK <= box.x0 <= box.x1 <= width + _SLACK, f"{text!r} leaves the sheet"
        assert -_SLACK <= box.y0 <= box.y1 <= height + _SLACK, f"{text!r} leaves the sheet"
    for (one, here), (other, there) in combinations(texts, 2):
        common = Bbox.intersection(here, there)
        if common is not None:
            assert common.width < _SLACK or common.height < _SLACK, f"{one!r} covers {other!r}"
    boxes = [patch.get_window_extent(renderer) for patch in axes.patches if isinstance(patch, Rectangle)]
    for text, box in texts:
        middle = (box.x0 + box.x1) / 2, (box.y0 + box.y1) / 2
        for around in boxes:
            if around.contains(*middle):
                inside = around.x0 - _SLACK <= box.x0 <= box.x1 <= around.x1 + _SLACK
                assert inside, f"{text!r} leaves its box"


@pytest.fixture
def legible() -> Callable[[Picture[Any]], None]:
    """Assert that no text of a picture covers another, leaves its box, or the sheet."""
    return _legible
