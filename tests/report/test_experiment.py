"""The harness of the scripts in experiments/: claims, tables, the command line."""

import json

import pytest
from click.testing import CliRunner

from heaplab.cli._experiments import command
from heaplab.errors import HeaplabError
from heaplab.report import style
from heaplab.report.experiment import Claim, Experiment, Findings, Parameter, Table


def experiment(*claims: Claim) -> Experiment:
    def measure(*, live, sizes, seed, tick):
        tick(1, 1)
        return Findings([Table("Sums", ["sum", "seed"], [[float(live + sum(sizes)), seed]])], claims)

    def draw(findings):
        figure = style.figure(3.3, 2.4)
        figure.subplots().plot([1, 2])
        return figure

    parameters = (
        Parameter("live", 2000, 20, "Blocks.", least=1),
        Parameter("sizes", (1, 2), (1,), "Bytes.", least=1),
    )
    return Experiment("How many?", "Nobody", parameters, measure, draw)


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def invoke(*args, claims=()):
    return CliRunner().invoke(command(experiment(*claims), "many"), args, catch_exceptions=False)


HOLDS = Claim.near("ratio", 1.5, 1.45, within=0.1)
DIFFERS = Claim.near("ratio", 1.5, 3, within=0.1)
KNOWN = Claim.near("ratio", 1.5, 3, within=0.1, disagrees="other sizes")
MENDED = Claim.near("ratio", 1.5, 1.5, within=0.1, disagrees="other sizes")


@pytest.mark.parametrize(
    ("claim", "expected", "words"),
    [
        (HOLDS, True, "ours agrees"),
        (DIFFERS, False, "ours disagrees"),
        (KNOWN, True, "ours disagrees: other sizes"),
        (MENDED, False, "ours agrees, though the script expected otherwise"),
    ],
)
def test_a_claim_comes_out_as_its_script_says(claim, expected, words):
    assert claim.expected is expected
    assert str(claim).endswith(f"; {words}.")


def test_a_claim_says_how_far_ours_is():
    assert "published 1.5, ours 1.45 (-3.3 %)" in str(HOLDS)
    assert Claim.between("share", 0.25, 0.5, 0.6).distance == "+20.0 %"
    assert Claim.near("share", 0, 0.1, within=0.1).distance == "+0.1"


def test_both_sizes_have_their_parameters():
    assert experiment().settings() == {"live": 2000, "sizes": (1, 2), "seed": 1}
    assert experiment().settings(small=True, live=7)["live"] == 7
    with pytest.raises(HeaplabError, match="no parameter spam"):
        experiment().settings(spam=1)


def test_the_answer_says_all():
    done = invoke("--small", "--sizes", "3,4", "--seed", "5", "--no-figure", claims=[HOLDS, KNOWN])
    assert done.exit_code == 0
    for text in ("How many?", "live=20, sizes=3,4, seed=5", " 27     5", "disagrees: other", "1 as ours"):
        assert text in done.stdout


def test_a_claim_that_comes_out_otherwise_is_told_by_the_status():
    assert invoke("--small", "--no-figure", claims=[DIFFERS]).exit_code == 1


def test_figure_and_json_go_where_they_are_told(tmp_path):
    files = ["--json", str(tmp_path / "x.json"), "--figure", str(tmp_path / "x.svg")]
    assert invoke("--small", *files, claims=[HOLDS]).exit_code == 0
    assert json.loads((tmp_path / "x.json").read_text())["claims"][0]["holds"] is True
    assert (tmp_path / "x.svg").read_text().startswith("<?xml")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["--live", "0"], "give at least 1"),
        (["--sizes", "1,x"], "is not INTEGER"),
        (["--figure", "x.pdf"], "end with .svg or .png"),
        (["--figure", "x.svg", "--no-figure"], "one of them"),
        (["--json", "/nowhere/x"], "no directory"),
    ],
)
def test_mistakes_are_one_sentence(args, words):
    done = invoke(*args)
    assert done.exit_code == 2
    assert words in done.stderr
    assert len(done.stderr.splitlines()) == 1


def test_a_row_that_is_too_short_is_refused():
    with pytest.raises(HeaplabError, match="2 columns, and a row of 1"):
        Table("x", ["a", "b"], [["c"]])
