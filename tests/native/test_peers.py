"""Real allocators by name, and what is said of those that are none."""

from pathlib import Path

import pytest

from heaplab._core import lib
from heaplab.errors import UsageError
from heaplab.native import peers
from heaplab.native.peers import find_peer, find_peers, parse_peers


def test_glibc_needs_no_library() -> None:
    assert (find_peer("glibc").library, str(find_peer("glibc"))) == (None, "glibc")


@pytest.mark.parametrize("name", peers.DEBIAN)
def test_a_library_by_name(name: str) -> None:
    [*found], [*left_out] = find_peers([name])
    if left_out:
        pytest.skip(left_out[0])
    assert found[0].library.name == peers.DEBIAN[name][0]


def test_what_is_not_installed_is_left_out_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(peers.DEBIAN, "jemalloc", ("libabsent.so.2", "libjemalloc2"))
    found, left_out = find_peers(["glibc", "jemalloc"])
    assert [str(peer) for peer in found] == ["glibc"]
    assert left_out == [
        "left out: jemalloc: libabsent.so.2 is not installed: Debian's package libjemalloc2 has it"
    ]


def test_a_design_of_ours_is_built() -> None:
    peer = find_peer("heaplab:buddy:checks=none")
    assert (str(peer), peer.library.name) == ("heaplab:buddy:checks=none", "libheaplab-buddy.so")


def test_a_library_by_its_path_may_lack_some_functions(planted) -> None:
    assert find_peer(planted("NONE")).aligned == lib.HL_BY_MEMALIGN
    assert find_peer(planted("NONE", "-DWITHOUT_ALIGNED")).aligned == lib.HL_BY_NONE


@pytest.mark.parametrize(
    ("name", "sentence"),
    [
        ("jemaloc", r"no native allocator 'jemaloc': did you mean jemalloc\?"),
        ("zzz", "there are glibc, jemalloc, mimalloc, tcmalloc, PATH.so and heaplab:SPEC"),
        ("{tmp}/absent.so", "{tmp}/absent.so: there is no such file"),
        ("{tmp}", "{tmp}: there is no such file"),
        ("{tmp}/text.so", "{tmp}/text.so: is no shared library of this computer's"),
        ("/bin/true", "/bin/true: (does not export malloc|is no shared library)"),
        ("heaplab:budy", "there is no allocator 'budy' in c: did you mean 'buddy'"),
    ],
)
def test_a_mistake_is_one_sentence(tmp_path: Path, name: str, sentence: str) -> None:
    (tmp_path / "text.so").write_text("no ELF")
    with pytest.raises(UsageError, match=sentence.format(tmp=tmp_path)) as caught:
        find_peers([name.format(tmp=tmp_path)])
    assert "\n" not in str(caught.value)


def test_a_list_without_names() -> None:
    with pytest.raises(UsageError, match="names no native allocator"):
        parse_peers(" ,")
