"""Files that appear whole or not at all."""

import errno
import os

import pytest

from heaplab.errors import UsageError
from heaplab.files import naming, replacing


def test_a_file_appears_when_all_is_written(tmp_path):
    path = tmp_path / "x"
    with replacing(path) as file:
        file.write(b"new")
        assert not path.exists()
    assert path.read_bytes() == b"new"
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("failure", [KeyboardInterrupt(), ValueError(), OSError(errno.ENOSPC, "full")])
def test_a_failure_leaves_all_as_it_was(tmp_path, failure):
    path = tmp_path / "x"
    path.write_bytes(b"old")
    with pytest.raises(type(failure)), replacing(path) as file:  # noqa: PT012
        file.write(b"new")
        raise failure
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["x"]
    if isinstance(failure, OSError):
        assert failure.filename == str(path)


def test_an_error_names_the_file_that_was_asked_for(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, replacing(tmp_path / "none" / "x"):
        pass
    assert caught.value.filename == str(tmp_path / "none" / "x")


def test_an_error_about_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as caught, naming("x"):
        (tmp_path / "y").open()
    assert caught.value.filename == str(tmp_path / "y")


def test_a_link_is_followed_and_what_is_no_file_is_refused(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with replacing(tmp_path / "link") as file:
        file.write(b"through")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"through"
    os.mkfifo(tmp_path / "fifo")
    for name in ("fifo", "."):
        with (
            pytest.raises(UsageError, match="is not a regular file: name one to write"),
            replacing(tmp_path / name),
        ):
            pass
