"""The real operating system: recording what programs ask of malloc, serving them, real allocators.

record      run a program under the preloaded recorder, and write its trace
Recording   what came of it
library     the recorder's shared library
build       a design as a library to be preloaded: the malloc of real programs
play        a trace on a real allocator: memory, time, latency
Played      what came of it
find_peer   a real allocator by name, as a Peer
"""

from heaplab.native.building import build
from heaplab.native.peers import Peer, find_peer
from heaplab.native.playing import Played, play
from heaplab.native.recorder import Recording, library, record

__all__ = ["Peer", "Played", "Recording", "build", "find_peer", "library", "play", "record"]
