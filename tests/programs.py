"""Programs of this computer that tests run: compilers, shells, tools of procps."""

import os


def host_environment() -> dict[str, str]:
    """Return this process's environment for a program that is not ours.

    `make sanitize` preloads the sanitizers into Python, for they have to come before the extension that was built
    with them.  Children inherit that, and a program that was not built with them may not even start: those of
    procps die while /proc is another.
    """
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
