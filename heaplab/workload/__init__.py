"""Workloads: made-up programs, named by all the parameters that they are drawn from; and learned from traces.

    from heaplab import workload

    busy = workload.Workload(sizes=workload.Lognormal(48, 1.0), lifetimes=workload.Exponential(1000), seed=3)
    busy.trace()                    a Trace, for everything that takes one; open_trace(str(busy)) is the same
    like = workload.fit("gcc")      sizes, lifetimes and phases of a trace
    like.likeness                   how far its own trace is from the original

Workload, and all that it is composed of, are `heaplab.traces.workload`.
"""

from heaplab.traces import workload as parts
from heaplab.traces.workload import *  # noqa: F403 - its __all__ is the list of the names
from heaplab.workload.fitting import Fit, fit
from heaplab.workload.likeness import Likeness, Measure, likeness

__all__ = ["Fit", "Likeness", "Measure", "fit", "likeness"]
__all__ += parts.__all__
