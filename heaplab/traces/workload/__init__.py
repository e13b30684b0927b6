"""Workloads: made-up traces, named by all the parameters that they are drawn from.

Workload        sizes, lifetimes, arrival, phases, kinds, threads ..., and the trace that they make
distributions   what is drawn: Constant, Uniform, Normal, Exponential, Hyperexponential, Lognormal, Powers,
                Empirical, Mixture; NEVER; distribution("lognormal,48,1") reads a text
BySize, Joint   lifetimes that depend on the size
Phase, Kind, Realloc, Threads, Snapshots
                what a workload is composed of besides
learn           the workload of a trace
"""

from heaplab.traces.workload.distributions import (
    NEVER,
    Constant,
    Distribution,
    Empirical,
    Exponential,
    Hyperexponential,
    Lognormal,
    Mixture,
    Normal,
    Powers,
    Uniform,
    distribution,
)
from heaplab.traces.workload.joint import BySize, Joint
from heaplab.traces.workload.shapes import Kind, Phase, Realloc, Snapshots, Threads
from heaplab.traces.workload.workload import Workload

__all__ = [
    "NEVER",
    "BySize",
    "Constant",
    "Distribution",
    "Empirical",
    "Exponential",
    "Hyperexponential",
    "Joint",
    "Kind",
    "Lognormal",
    "Mixture",
    "Normal",
    "Phase",
    "Powers",
    "Realloc",
    "Snapshots",
    "Threads",
    "Uniform",
    "Workload",
    "distribution",
]
