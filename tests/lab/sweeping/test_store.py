"""The store of a sweep: what was kept stays, whatever happens to the process and to the disk."""

import errno
import json
import os
import resource
import signal

import duckdb
import pandas as pd
import polars
import pyarrow.parquet as pq
import pytest

from heaplab.errors import UsageError
from heaplab.lab.sweeping.store import CELLS, JOURNAL, Row, Store, read_store, rows_of, table_of


def row(number, **parameters):
    figures = {
        "trace": f"trace-{number % 3}",
        "allocator": "buddy",
        "language": "c",
        "seed": number,
        "outcome": "finished",
        "reason": "",
        "peak_heap_bytes": 4096 * number,
        "mems_mean": number / 3,
        "native_ns_per_op": None,
    }
    return Row(f"key-{number}", parameters, figures, "code")


def in_child(deed):
    """Do something in a process of its own; return the status that it ended with."""
    child = os.fork()
    if not child:
        try:
            deed()
        finally:
            os._exit(9)
    return os.waitpid(child, 0)[1]


def test_rows_come_back_as_they_were(tmp_path):
    rows = [row(1, fit="first", mean=32), row(2), row(3, fit="best", mean=0.5)]
    assert rows_of(table_of(rows, keys=True))[1] == rows[1]
    with Store(tmp_path / "cells") as store:
        store.add(*rows)
        assert read_store(tmp_path / "cells") == rows
    assert os.listdir(tmp_path / "cells") == [CELLS]
    back = read_store(tmp_path / "cells")
    assert [each.figures for each in back] == [each.figures for each in rows]
    assert [dict(each.parameters) for each in back] == [dict(each.parameters) for each in rows]


def test_pandas_polars_and_duckdb_read_it(tmp_path):
    with Store(tmp_path / "cells") as store:
        store.add(*(row(number, fit="first") for number in range(10)))
    folder = tmp_path / "cells"
    with_pandas = pd.read_parquet(folder)
    assert with_pandas.shape == polars.read_parquet(folder).shape == (10, 12)
    assert polars.read_parquet(folder / "*.parquet")["peak_heap_bytes"].to_list() == [
        4096 * number for number in range(10)
    ]
    [(count, peak)] = duckdb.sql(
        f"select count(*), max(peak_heap_bytes) from read_parquet('{folder}/*.parquet') where fit = 'first'"
    ).fetchall()
    assert (count, peak) == (10, with_pandas.peak_heap_bytes.max())


def test_thousands_of_cells_are_one_file_and_the_journal_stays_short(tmp_path):
    with Store(tmp_path) as store:
        for first in range(0, 3000, 100):
            store.add(*(row(first + number) for number in range(100)))
            assert len((tmp_path / JOURNAL).read_bytes().splitlines()) <= 1001
    assert os.listdir(tmp_path) == [CELLS]
    assert len(read_store(tmp_path)) == 3000


def test_a_killed_process_loses_nothing_that_was_kept(tmp_path):
    def write():
        store = Store(tmp_path).__enter__()
        store.add(row(1))
        store.add(row(2))
        os.write(store._journal, b'["key-3", "code", {}, {"trace": "half a li')
        os.kill(os.getpid(), signal.SIGKILL)

    assert in_child(write) == signal.SIGKILL
    assert read_store(tmp_path) == [row(1), row(2)]
    with Store(tmp_path) as store:
        assert list(store.rows) == ["key-1", "key-2"]
        store.add(row(3))
    assert [each.key for each in read_store(tmp_path)] == ["key-1", "key-2", "key-3"]


def test_of_equal_keys_the_last_is_kept(tmp_path):
    with Store(tmp_path) as store:
        store.add(row(1))
        store.add(row(1, fit="best"))
    assert read_store(tmp_path)[0].parameters == {"fit": "best"}


def test_a_full_disk_is_one_sentence_and_what_was_kept_stays(tmp_path):
    told = tmp_path / "told"
    folder = tmp_path / "cells"

    def fill():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4000, 4000))
        try:
            with Store(folder) as store:
                for number in range(100):
                    store.add(row(number))
        except UsageError as error:
            told.write_text(str(error))
            os._exit(0)

    assert in_child(fill) == 0
    sentence = told.read_text()
    kept = read_store(folder)
    assert sentence == (
        f"{folder}: {os.strerror(errno.EFBIG)}: {len(kept)} finished cells stay there; make room, and the "
        "same command goes on from them"
    )
    assert kept == [row(number) for number in range(len(kept))]
    assert 5 < len(kept) < 30
    with Store(folder) as store:
        store.add(row(99))
    assert len(read_store(folder)) == len(kept) + 1


def test_a_store_of_another_version_is_not_touched(tmp_path):
    with Store(tmp_path) as store:
        store.add(row(1))
    table = pq.read_table(tmp_path / CELLS)
    said = json.loads(table.schema.metadata[b"heaplab"])
    other = table.replace_schema_metadata({b"heaplab": json.dumps({**said, "store": 99}).encode()})
    pq.write_table(other, tmp_path / CELLS)
    before = (tmp_path / CELLS).read_bytes()
    for deed in (lambda: read_store(tmp_path), lambda: Store(tmp_path).__enter__()):
        with pytest.raises(
            UsageError, match=r"version 99, and this heaplab writes 1: name another directory"
        ):
            deed()
    assert (tmp_path / CELLS).read_bytes() == before
    assert os.listdir(tmp_path) == [CELLS]


def test_two_sweeps_do_not_write_at_once(tmp_path):
    with Store(tmp_path), pytest.raises(UsageError, match="another sweep is writing there: wait for it"):
        Store(tmp_path).__enter__()
    with Store(tmp_path) as store:  # it is free again
        store.add(row(1))
        assert read_store(tmp_path) == [row(1)]  # and reading needs no lock


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("thesis.txt", b"", r"has other files \(thesis.txt\): name a new directory, or an empty one"),
        (CELLS, b"no Parquet", "is no table of a sweep's cells: move it away"),
        (JOURNAL, b"no JSON\n", "is no journal of a sweep: move it away"),
    ],
)
def test_what_is_no_store_is_refused_and_left_alone(tmp_path, name, content, sentence):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UsageError, match=sentence):
        Store(tmp_path).__enter__()
    assert (tmp_path / name).read_bytes() == content
    assert os.listdir(tmp_path) == [name]


def test_where_nobody_may_write_and_where_nothing_is(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: cannot be a store: there is a file of that name"):
        Store(tmp_path / "file").__enter__()
    with pytest.raises(UsageError, match="is no store of cells"):
        read_store(tmp_path / "nowhere")
