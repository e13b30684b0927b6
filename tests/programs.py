"""Programs of this computer that tests run: compilers, shells, tools of procps."""

import os


def host_environment() -> dict[str, str]:
    """Return this process's environment for a program that is not ours.

    `make sanitize` preloads the sanitizers into Python, since they have to come before the extension that was
    built with them.  Children inherit that.  Other programs may not even start then: the sanitizer fails in
    those of procps while another directory is mounted as /proc.
    """
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
