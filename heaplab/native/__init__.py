"""The real operating system: recording what programs ask of malloc.

record      run a program under the preloaded recorder, and write its trace
Recording   what came of it
library     the recorder's shared library
"""

from heaplab.native.recorder import Recording, library, record

__all__ = ["Recording", "library", "record"]
