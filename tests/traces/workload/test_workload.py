"""Workloads: their traces are valid, and are what the parameters say."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from heaplab.errors import UsageError
from heaplab.traces import Block, Op, open_trace
from heaplab.traces.lives import lives
from heaplab.traces.workload import (
    NEVER,
    BySize,
    Constant,
    Empirical,
    Exponential,
    Hyperexponential,
    Joint,
    Kind,
    Lognormal,
    Mixture,
    Phase,
    Powers,
    Realloc,
    Snapshots,
    Threads,
    Uniform,
    Workload,
)

# ---- any workload at all ----

SIZES = st.sampled_from(
    [Constant(1), Uniform(0, 300), Exponential(64), Lognormal(48, 2.0), Powers(1, 1 << 20)]
)
TIMES = st.sampled_from(
    [
        *(Constant(0), Constant(1), Uniform(0, 50), Exponential(100), Hyperexponential(30, 4), NEVER),
        *(Mixture(((1, NEVER), (3, Exponential(9)))), Empirical((0, 3, 1e6))),
    ]
)
LIVES = st.one_of(TIMES, st.builds(lambda one, two: BySize((64,), (one, two)), TIMES, TIMES))
ARRIVAL = st.sampled_from(["bytes", Constant(1), Exponential(2), Hyperexponential(5, 3), NEVER])
JOINT = st.sampled_from([None, Joint.of([(16, 5, 3), (4096, math.inf, 1)])])
REALLOC = st.one_of(
    st.none(),
    st.builds(
        Realloc,
        st.sampled_from(Realloc.PATTERNS),
        st.sampled_from([0, 0.2, 1]),
        st.integers(1, 5),
        st.sampled_from([0.5, 2.0, 64]),
    ),
)
PHASES = st.lists(
    st.builds(
        lambda shape, share, teeth, sizes, lifetimes, arrival: Phase(
            shape, share, teeth if shape == "sawtooth" else 1, sizes, lifetimes, arrival
        ),
        st.sampled_from(["plateau", "ramp", "peak", "sawtooth", "drain"]),
        st.sampled_from([0.1, 1, 3]),
        st.integers(1, 4),
        st.one_of(st.none(), SIZES),
        st.one_of(st.none(), LIVES),
        st.one_of(st.none(), ARRIVAL),
    ),
    max_size=4,
).map(tuple)
KINDS = st.lists(
    st.builds(
        Kind, st.sampled_from([0.5, 2]), st.one_of(st.none(), SIZES), st.one_of(st.none(), LIVES), REALLOC
    ),
    max_size=3,
).map(tuple)
THREADS = st.one_of(
    st.builds(Threads, st.just("private"), st.integers(1, 5), st.sampled_from([0.0, 0.3, 1.0])),
    st.builds(Threads, st.just("producer"), st.integers(1, 3), st.integers(1, 3)),
    st.builds(Threads, st.just("larson"), st.integers(1, 3), st.integers(1, 200)),
)
FORK = st.one_of(
    st.none(), st.builds(Snapshots, st.integers(50, 900), st.integers(1, 900), st.integers(0, 5))
)
WORKLOADS = st.builds(
    Workload,
    events=st.integers(0, 1500),
    sizes=SIZES,
    lifetimes=LIVES,
    arrival=ARRIVAL,
    deaths=st.sampled_from(["drawn", "lifo", "fifo", "random"]),
    phases=PHASES,
    kinds=KINDS,
    realloc=REALLOC,
    threads=THREADS,
    fork=FORK,
    calloc=st.sampled_from([0, 0.3]),
    aligned=st.sampled_from([0, 0.5]),
    nulls=st.sampled_from([0, 0.2]),
    seed=st.integers(0, 99),
)


@settings(max_examples=40, deadline=None)
@given(WORKLOADS, JOINT)
@example(  # the last realloc is of a block that another one's death has killed
    Workload(
        events=450,
        sizes=Constant(1),
        arrival="bytes",
        deaths="lifo",
        kinds=(Kind(1, None, Uniform(0, 50)),),
        realloc=Realloc("multiply", 0.2, 1, 0.5),
    ),
    None,
)
def test_any_workload_makes_a_valid_trace_and_has_a_text(workload, joint):
    assert str(Workload.parse(str(workload))) == str(workload)
    made = replace(workload, joint=joint).trace()
    whole = Block.join(
        [*made, Block.build(0)]
    )  # a trace checks itself: every event by the ledger, and its counts
    own = whole.process == 0
    counted = own & (whole.op < Op.FORK) & ~((whole.op == Op.FREE) & (whole.id == 0xFFFF_FFFF))
    assert counted.sum() <= workload.events


def columns(workload):
    return Block.join(workload.trace()).columns()


def test_equal_seeds_equal_traces():
    busy = Workload(events=30_000, realloc=Realloc("add", 0.1, 3, 64), threads=Threads("larson", 2, 500))
    one, same, other = columns(busy), columns(busy), columns(replace(busy, seed=1))
    assert all((one[name] == same[name]).all() for name in one)
    assert (one["size"][:9] != other["size"][:9]).any()
    again = Block.join(open_trace(str(replace(busy, seed=1)))).columns()
    assert all((again[name] == other[name]).all() for name in other)


@pytest.mark.parametrize("events", [0, 1, 65_536, 65_537])
def test_any_length(events):
    assert Workload(events=events).trace().header.events == events


# ---- equilibrium ----


def live_blocks(workload):
    """How many blocks are live after each event of the second half."""
    op = columns(workload)["op"]
    change = np.where(op == Op.FREE, -1, np.where(op == Op.REALLOC, 0, 1))
    return np.cumsum(change)[len(op) // 2 :]


@pytest.mark.parametrize(
    "workload",
    [
        *(
            Workload(lifetimes=Exponential(500), deaths=order)
            for order in ("drawn", "lifo", "fifo", "random")
        ),
        Workload(lifetimes=Uniform(0, 600), arrival=Exponential(2)),
        Workload(lifetimes=Exponential(30_000), sizes=Exponential(64), arrival="bytes"),
        Workload(lifetimes=BySize((64,), (Constant(100), Constant(700))), sizes=Uniform(1, 128)),
        Workload(kinds=(Kind(3, None, Constant(10)), Kind(1, None, Exponential(900)))),
    ],
    ids=["drawn", "lifo", "fifo", "random", "arrivals", "bytes", "by size", "kinds"],
)
def test_little_s_law(workload):
    made = replace(workload, events=30_000)
    assert live_blocks(made).mean() == pytest.approx(made.mean_live, rel=0.1)


def test_constant_lifetimes_keep_exactly_so_many_blocks():
    assert set(live_blocks(Workload(events=5000, lifetimes=Constant(100))).tolist()) == {99, 100}


def test_blocks_are_never_freed():
    made = Workload(events=5000, lifetimes=NEVER)
    assert made.mean_live == math.inf
    assert made.trace().header.ops == {"malloc": 5000}


def test_the_sizes_of_a_trace_are_drawn_from_its_distribution():
    made = Workload(events=100_000, sizes=Exponential(64), lifetimes=Constant(3))
    size = columns(made)["size"]
    size = size[size > 0]
    assert size.mean() == pytest.approx(64, rel=0.03)
    assert size.std() / size.mean() == pytest.approx(1, rel=0.03)


def test_lifetimes_depend_on_sizes():
    kept = Workload(
        events=20_000, sizes=Uniform(1, 128), lifetimes=BySize((64,), (Constant(5), Constant(50)))
    )
    found = lives(kept.trace())
    done = found.died < 20_000
    births = np.searchsorted(found.born, found.died) - np.arange(len(found.born)) - 1
    small = found.size <= 64
    assert set(births[done & small].tolist()) <= {4, 5}
    assert set(births[done & ~small].tolist()) <= {49, 50}


def test_what_no_block_is_drawn_from_is_unused_and_not_in_the_text():
    both = Joint.of([(16, 3, 1)])
    made = Workload(joint=both, phases=(Phase(arrival=Constant(2)),))
    assert made.unused == {"sizes", "lifetimes", "arrival"}
    assert replace(made, phases=()).unused == {"sizes", "lifetimes"}
    assert replace(made, fork=Snapshots(100, 10, 1)).unused == {"lifetimes", "arrival"}
    assert replace(made, kinds=(Kind(1), Kind(1, lifetimes=NEVER))).unused == {"lifetimes", "arrival"}
    assert replace(made, phases=(Phase("ramp", sizes=Constant(8)), Phase("drain"))).unused == {"sizes"}
    assert Workload(arrival=NEVER).unused == {"sizes", "lifetimes"}
    assert str(made) == f"workload:events=100000:phases=plateau,1(arrival=constant,2):joint={both}:seed=0"


def test_a_kind_with_lifetimes_of_its_own_leaves_the_joint_table():
    made = Workload(events=9000, joint=Joint.of([(16, 5, 1)]), kinds=(Kind(1, lifetimes=Constant(9)),))
    header = made.trace().header
    assert made.mean_size == pytest.approx(header.requested / header.ops["malloc"], rel=0.1)
    assert made.mean_lifetime == 9


def test_a_joint_table_gives_both():
    both = Joint.of([(16, 3, 3), (4096, math.inf, 1)])
    found = lives(Workload(events=9000, joint=both).trace())
    never = found.died == 9000
    assert (found.size[never] == 4096).mean() > 0.99
    assert set(found.size[~never].tolist()) == {16}
    assert (found.size == 16).mean() == pytest.approx(0.75, abs=0.03)


# ---- who dies ----


def died_in_order(deaths):
    """The ages of blocks, in blocks that came later, when they die."""
    found = lives(Workload(events=20_000, lifetimes=Exponential(200), deaths=deaths).trace())
    order = np.argsort(found.died, kind="stable")
    return order[found.died[order] < 20_000]


def test_fifo_kills_the_oldest_and_lifo_the_youngest():
    assert (np.diff(died_in_order("fifo")) == 1).all()
    live, born = [], 0
    found = lives(Workload(events=3000, lifetimes=Exponential(50), deaths="lifo").trace())
    for event in range(3000):
        row = int(found.row[event]) - 1
        if found.born[row] == event:
            live.append(row)
            born += 1
        else:
            assert row == live.pop()


# ---- phases ----


def course(*phases, **more):
    """Live blocks after each event."""
    op = columns(Workload(events=12_000, lifetimes=Exponential(100), phases=phases, **more))["op"]
    return np.cumsum(np.where(op == Op.FREE, -1, 1))


def test_a_ramp_only_grows_and_a_drain_only_falls():
    live = course(Phase("ramp"), Phase("drain"))
    assert live.max() == live[5999] == 6000
    assert live[-1] == 0
    assert len(live) == 12_000


def test_a_drain_without_blocks_ends_early():
    assert len(course(Phase("ramp", 1), Phase("drain", 3))) == 6000


def test_a_plateau_after_a_ramp_comes_back_to_equilibrium():
    live = course(Phase("ramp", 1), Phase("plateau", 3))
    assert live[3000] > 2500
    assert live[-2000:].mean() == pytest.approx(100, rel=0.2)


def test_a_peak_comes_back_to_where_it_was():
    live = course(Phase("plateau", 1), Phase("peak", 1), Phase("plateau", 1))
    assert live.max() > 1800
    assert live[-1] < 200


def test_sawteeth_fall_at_once():
    live = course(Phase("sawtooth", 1, 4))
    assert len(live) == 12_000
    tops = live.reshape(4, 3000).max(axis=1)
    assert (live.reshape(4, 3000)[:, -1] == 0).all()
    assert (tops > 50).all()


def test_phases_have_sizes_of_their_own():
    made = Workload(events=1000, phases=(Phase(sizes=Constant(8)), Phase(sizes=Constant(9000))))
    size = columns(made)["size"]
    assert set(size[:500].tolist()) == {0, 8}
    assert 9000 in size[500:]
    assert 9000 not in size[:500]


# ---- reallocs, threads, forks ----


def test_reallocs_multiply():
    grown = Workload(
        events=9000, sizes=Constant(10), lifetimes=Constant(500), realloc=Realloc("multiply", 1, 3, 2)
    )
    found = lives(grown.trace())
    assert set(found.size.tolist()) == {10, 20, 40, 80}
    after = found.before > 0
    assert (found.size[after] == 2 * found.size[found.before[after] - 1]).all()


def test_reallocs_add_and_draw():
    base = Workload(events=9000, sizes=Constant(10), lifetimes=Constant(50))
    added = columns(replace(base, realloc=Realloc("add", 0.5, 2, 6)))["size"]
    assert set(added.tolist()) == {0, 10, 16, 22}
    drawn = replace(base, sizes=Uniform(1, 99), realloc=Realloc("draw", 1, 1)).trace().header.ops
    assert drawn["realloc"] == pytest.approx(drawn["malloc"], rel=0.05)


def test_consumers_free_and_never_allocate():
    seen = columns(Workload(events=20_000, threads=Threads("producer", 2, 3)))
    frees = seen["op"] == Op.FREE
    assert set(seen["thread"][frees].tolist()) == {2, 3, 4}
    assert set(seen["thread"][~frees].tolist()) == {0, 1}


def test_threads_free_the_blocks_of_others_as_often_as_said():
    header = Workload(events=50_000, threads=Threads("private", 4, 0.3)).trace().header
    assert header.threads == 4
    assert header.remote_frees == pytest.approx(0.3 * header.ops["free"], rel=0.05)
    assert Workload(events=9000, threads=Threads("private", 4)).trace().header.remote_frees == 0


def test_larson_s_threads_hand_their_blocks_on():
    made = Workload(events=50_000, lifetimes=Exponential(2000), threads=Threads("larson", 4, 500))
    header = made.trace().header
    rounds = (header.ops["malloc"] - 1) // 2000
    assert header.ops["thread_exit"] == 4 * rounds
    assert header.remote_frees / header.ops["free"] > 0.4  # as long as a round, or longer


def test_the_heir_of_a_single_thread_is_another():
    made = Workload(events=20_000, lifetimes=Exponential(2000), threads=Threads("larson", 1, 500))
    header = made.trace().header
    assert header.remote_frees / header.ops["free"] > 0.4


@pytest.mark.parametrize("text", ["like=lua:sizes=constant,4", "joint=x.csv:lifetimes=constant,9"])
def test_what_a_table_says_is_not_said_again(tmp_path, monkeypatch, text):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "x.csv").write_text("size,lifetime\n16,3\n")
    with pytest.raises(UsageError, match="a table has sizes and lifetimes together already"):
        Workload.parse(text)


def test_a_server_forks_and_its_children_end():
    made = Workload(events=10_000, fork=Snapshots(2000, 500, 3))
    header = made.trace().header
    assert (header.processes, header.ops["fork"], header.ops["exit"]) == (5, 4, 4)
    assert header.events == 10_000 + 4 * (2 + 2 * 3)
    whole = Block.join(made.trace())
    assert np.flatnonzero(whole.op == Op.FORK)[0] == 2000


def test_calloc_aligned_and_null():
    ops = Workload(events=20_000, calloc=0.25, aligned=0.5, nulls=0.1).trace().header.ops
    made = ops["malloc"] + ops["calloc"] + ops["aligned"]
    assert ops["calloc"] / made == pytest.approx(0.25, rel=0.1)
    assert ops["aligned"] / made == pytest.approx(0.5, rel=0.1)
    assert sum(ops.values()) == pytest.approx(22_000, rel=0.02)


# ---- texts and files ----


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("sise=3", "a workload has no parameter 'sise': did you mean sizes?"),
        ("events", "'events' in 'workload:events' is no parameter: write key=value, as in events=100000"),
        ("events=many", "events=many: is no whole number: write events=100"),
        ("events=-1", "events=-1: must not be negative"),
        ("seed=-1", "seed=-1: must not be negative"),
        ("seed=1:seed=2", "seed=2: seed is given twice: leave one out"),
        ("sizes=lognormal", "sizes=lognormal: lognormal takes median,spread"),
        ("lifetimes=forever", "lifetimes=forever: there is no distribution 'forever'"),
        (
            "lifetimes=constant,1@x@constant,2",
            "lifetimes=constant,1@x@constant,2: a bound is no number of bytes",
        ),
        ("lifetimes=constant,1@9", "lifetimes by size: needs ascending bounds"),
        ("arrival=constant,0", "arrival=constant,0: time would stand still: write constant,1"),
        ("arrival=byte", "arrival=byte: there is no distribution 'byte'"),
        ("deaths=young", "deaths=young: write one of drawn, lifo, fifo, random"),
        ("phases=hill,1", "phases=hill: there is no such shape: write one of plateau"),
        ("phases=ramp,0", "phases=ramp,0: the share must be above 0: write ramp,0.5"),
        ("phases=ramp,x", "share=x: is no number"),
        ("phases=ramp,1(size=constant,8)", "phases: there is no 'size' in it: did you mean sizes?"),
        ("phases=ramp,1(sizes=constant,8", "phases=ramp,1(sizes=constant,8: write shape,share,teeth"),
        ("kinds=x", "weight=x: is no number"),
        ("kinds=0", "kinds=0: a weight must be above 0"),
        ("realloc=double,1", "realloc=double: there is no such pattern: write one of multiply, add, draw"),
        ("realloc=multiply,2", "realloc=multiply,2,1,2: needs a share from 0 to 1"),
        ("realloc=multiply,a", "realloc=multiply,a: takes up to 3 numbers here: write multiply,0.05,4,2"),
        (
            "threads=larsen,4",
            "threads=larsen: there is no such pattern: write one of private, producer, larson",
        ),
        ("threads=private,0", "threads=private,0,0: needs 1 to 1024 threads"),
        ("threads=private,2,3", "threads=private,2,3: the part freed by others is from 0 to 1"),
        ("fork=0,5", "fork=0,5,0: needs events between forks"),
        ("calloc=2", "calloc=2.0: is a part of all, from 0 to 1: write calloc=0.1"),
        ("calloc=0.8:aligned=0.8", "calloc=0.8: is more than aligned=0.8 leaves: lower one"),
        ("joint=none.csv", "none.csv: cannot be read"),
        ("from=none.toml", "none.toml: cannot be read: No such file or directory"),
        ("like=none", "none: there is no such file"),
    ],
)
def test_a_mistake_names_the_key_and_the_mend(text, message):
    with pytest.raises(UsageError) as caught:
        open_trace(f"workload:{text}")
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


def test_too_much_live_is_one_sentence():
    with pytest.raises(UsageError, match=r"live payload above .*: lower sizes, lifetimes or events"):
        Workload(events=2000, sizes=Constant(1 << 40), lifetimes=NEVER).trace()


def test_too_many_forks_are_one_sentence():
    with pytest.raises(UsageError, match="fork=1,1,0: forks more than 65,535 children: fork less often"):
        Workload(events=70_000, fork=Snapshots(1, 1)).trace()


def test_a_toml_file_says_the_same(tmp_path):
    path = tmp_path / "busy.toml"
    busy = Workload(
        events=3000,
        sizes=Mixture(((1, Constant(8)), (2, Lognormal(48, 1)))),
        phases=(Phase("ramp", 0.5), Phase("sawtooth", 1, 3, sizes=Constant(64))),
        kinds=(Kind(1, realloc=Realloc("draw", 0.5)), Kind(2, lifetimes=BySize((9,), (Constant(1), NEVER)))),
        threads=Threads("larson", 2, 100),
        fork=Snapshots(1000, 10),
        calloc=0.5,
        name='a "busy" one',
    )
    busy.save(path)
    assert Workload.load(path) == busy
    assert open_trace(path).header == busy.trace().header
    assert open_trace(f"workload:from={path}:seed=5").header.provenance().name == 'a "busy" one'


def test_a_toml_file_with_a_table(tmp_path):
    path = tmp_path / "table.toml"
    joint = Joint.of([(16, 3, 3), (4096, math.inf, 1)])
    made = Workload(events=500, phases=(Phase(joint=joint),))
    made.save(path)
    again = Workload.load(path)
    assert str(again) == f"workload:from={path}:events=500:seed=0"
    assert open_trace(str(again)).header.counts() == made.trace().header.counts()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("events = ", "is no TOML"),
        ('sizes = "zipf,3"', "sizes=zipf,3: there is no distribution 'zipf'"),
        ("sizes = 64", "sizes=64: is no text in quotes"),
        ("phases = 3", "phases: is no list of tables: write [[phases]] in front of each"),
        ("[[kinds]]\nsizes = 'constant,3'", "kinds: each needs a weight"),
        ("[joint]\nsizes = [1]", "joint: write lists of sizes, lows"),
        ("[joint]\nsizes = [1]\nlows = ['a']", "joint: its lists hold numbers only"),
        ("[joint]\nsizes = [1]\nlows = [1, 2]", "joint: its columns need as many rows each"),
        ("[joint]\nsizes = [1]\nlows = [-1]", "joint: a number in it is negative"),
    ],
)
def test_a_wrong_toml_file_is_one_sentence(tmp_path, text, message):
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as caught:
        open_trace(path)
    assert str(caught.value).startswith(f"{path}: {message}")
    assert "\n" not in str(caught.value)


def test_a_table_of_ones_own(tmp_path):
    path = tmp_path / "both.csv"
    path.write_text("size,lifetime,weight\n16,3,3\n4096,inf,1\n")
    text = f"workload:events=500:joint={path}"
    made = Workload.parse(text)
    assert made.joint.mean_lifetime == math.inf
    assert f"joint={path}" in str(made)
    assert open_trace(text).header.events == 500
    assert str(Workload.parse(str(made))) == str(made)
    made.save(tmp_path / "both.toml")
    assert Workload.load(tmp_path / "both.toml").trace().header.counts() == made.trace().header.counts()
    own = f"workload:events=500:arrival=constant,1:phases=plateau,1(joint={path};ticks=90)/drain,1:seed=0"
    assert str(Workload.parse(own)) == own
    own = f"workload:events=500:arrival=constant,1:kinds=1(joint={path}):seed=0"
    assert str(Workload.parse(own)) == own
    path.write_text("size,weight\n16,3\n")
    with pytest.raises(UsageError, match="needs columns size and lifetime"):
        Workload.parse(text)
    path.write_text("a,b\n16,3\n")
    with pytest.raises(UsageError, match="line 1 names no column that heaplab knows: name them"):
        Workload.parse(text)
