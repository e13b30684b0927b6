"""What LD_PRELOAD can name."""

from pathlib import Path

import pytest

from heaplab.native.preloading import preloadable


@pytest.mark.parametrize("name", ["plain/x.so", "a folder/x.so", "plain/my x.so", "plain/my:x.so"])
def test_every_library_gets_a_path_without_spaces_and_colons(tmp_path: Path, name: str) -> None:
    library = tmp_path / name
    library.parent.mkdir()
    library.write_bytes(b"x")
    with preloadable(library) as named:
        assert not set(" :") & set(str(named))
        assert named.read_bytes() == b"x"
