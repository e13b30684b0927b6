"""What can be seen, as frozen data that prints; nothing here draws.

heap_view, moment_view   one heap at one moment
film                     a few requests on several designs, request by request
"""

from heaplab.views.film import Film, film
from heaplab.views.heap import BlockView, HeapView, PageState, PageView, heap_view, moment_view

__all__ = [
    "BlockView",
    "Film",
    "HeapView",
    "PageState",
    "PageView",
    "film",
    "heap_view",
    "moment_view",
]
