"""Sweeps: grids of traces, allocators, parameters and seeds, run once and kept.

grid        cells, from texts that parameters fill
identity    what a cell's result depends on, as a key
store       where finished cells are kept
sweep       the cells that are missing are run, in worker processes
cluster     or on a cluster of Dask's
statistics  means with intervals, paired differences
diff        what became better or worse
tune        parameters searched for a goal
"""
