"""`heaplab compare` from Python: three programs, four designs, the tables, and a page with figures."""

from heaplab import compare, report

TRACES = ["sqlite", "perl", "lua"]
ALLOCATORS = ["freelist:fit=first:order=address", "freelist:fit=best", "buddy", "rbtree"]

comparison = compare(TRACES, ALLOCATORS)
report.show(comparison)
print("figures:", report.write_page(comparison, "compare-report.html"))
