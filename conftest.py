"""What the examples in docstrings may use beside what they import."""

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture(autouse=True)
def _directory_for_examples(doctest_namespace: dict[str, Any], tmp_path: Path) -> None:
    """`tmp`, an empty directory."""
    doctest_namespace["tmp"] = tmp_path
