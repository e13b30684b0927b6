"""What the examples in docstrings may use beside what they import."""

import pytest


@pytest.fixture(autouse=True)
def _directory_for_examples(request: pytest.FixtureRequest) -> None:
    """`tmp`, an empty directory; other tests than examples do not pay for one."""
    if isinstance(request.node, pytest.DoctestItem):
        request.getfixturevalue("doctest_namespace")["tmp"] = request.getfixturevalue("tmp_path")
