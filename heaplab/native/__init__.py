"""The real operating system: recording what programs ask of malloc, and serving them.

record      run a program under the preloaded recorder, and write its trace
Recording   what came of it
library     the recorder's shared library
build       a design as a library to be preloaded: the malloc of real programs
"""

from heaplab.native.building import build
from heaplab.native.recorder import Recording, library, record

__all__ = ["Recording", "build", "library", "record"]
