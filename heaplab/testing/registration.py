"""What Hypothesis calls when it is imported, where heaplab is installed (entry point `hypothesis`).

Whatever imports Hypothesis may be in the middle of importing heaplab.testing.  So the strategies themselves
are imported when one is first asked for.
"""

from importlib import import_module
from typing import Any

from hypothesis import strategies as st


def register() -> None:
    """Tell Hypothesis the strategies of `Trace` and `Step`.

    Where heaplab itself cannot be imported, as when its C core was not built, nobody can ask for the two:
    then nothing is told, and Hypothesis goes on without them.
    """
    try:
        from heaplab.testing.steps import Step  # noqa: PLC0415
        from heaplab.traces import Trace  # noqa: PLC0415
    except ImportError:
        return
    st.register_type_strategy(Trace, lambda _: _strategies().traces())
    st.register_type_strategy(Step, lambda _: _strategies().step())


def _strategies() -> Any:
    return import_module("heaplab.testing.strategies")
