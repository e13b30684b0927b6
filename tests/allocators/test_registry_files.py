"""Designs from files: what is missing in a class is said, by name."""

import pytest

from heaplab.allocators import parse
from heaplab.errors import UsageError


def test_a_class_that_is_not_finished_is_told_what_it_lacks(tmp_path):
    path = tmp_path / "mine.py"
    path.write_text(
        "from heaplab.allocators.design import Design\n"
        "class Mine(Design):\n"
        "    def _malloc(self, size, alignment): return 0\n"
    )
    with pytest.raises(
        UsageError, match="Mine still has to define _begin, _check, _free, _init, _usable, _walk"
    ):
        parse(str(path))
