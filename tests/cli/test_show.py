"""`heaplab show`: text for a pipe, a picture on demand, one sentence for a mistake."""

from pathlib import Path

import pytest
from click.testing import CliRunner

from heaplab.cli import main


def show(*args: str, text: str | None = None) -> tuple[int, str]:
    """Run the command; its status, and what it printed."""
    result = CliRunner().invoke(main, ["show", *args], input=text)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result.exit_code, result.output


def test_it_shows_both_orders() -> None:
    status, said = show("freelist:fit=first,freelist:fit=best", "a0 400; a1 100; f0; a2 280")
    assert status == 0
    assert said.count("malloc 2 280") == 2
    assert "[2: 288] (128) [1: 112]" in said
    assert "free structure" not in said.splitlines()[0]
    assert max(map(len, said.splitlines())) <= 80


def test_requests_can_come_from_standard_input() -> None:
    assert show("buddy", "-", text="a0 10\nf0\n")[0] == 0


def test_a_film_strip_is_drawn(tmp_path: Path) -> None:
    drawn = tmp_path / "strip.svg"
    status, said = show("freelist", "a0 400; f0", "-o", str(drawn))
    assert status == 0
    assert said.endswith(f"drawn: {drawn}\n")
    assert "malloc 0 400" in drawn.read_text()


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (["nosuch", "a0 1"], "nosuch"),
        (["freelist", "b0 1"], "'b0 1'"),
        (["freelist", ""], "no request"),
        (["freelist", "f0"], "block 0"),
        (["freelist", "a0 1", "-o", "x.pdf"], "x.pdf"),
    ],
)
def test_a_mistake_is_one_sentence(args: list[str], says: str) -> None:
    result = CliRunner().invoke(main, ["show", *args], standalone_mode=True)
    assert result.exit_code == 2
    assert says in result.output + (result.stderr if result.stderr_bytes else "")
