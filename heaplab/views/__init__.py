"""What can be seen, as frozen data that prints; nothing here draws.

heap_view, moment_view   one heap at one moment
film                     a few requests on several designs, request by request
run_view                 a whole run of a trace on several designs, as columns
"""

from heaplab.views.film import Film, film
from heaplab.views.heap import BlockView, HeapView, PageState, PageView, heap_view, moment_view
from heaplab.views.run import RunView, run_view

__all__ = [
    "BlockView",
    "Film",
    "HeapView",
    "PageState",
    "PageView",
    "RunView",
    "film",
    "heap_view",
    "moment_view",
    "run_view",
]
