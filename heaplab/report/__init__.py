"""Results as something to look at; nothing here simulates.

show(comparison)                 tables on the terminal
to_json, to_csv                  the figures as text
write(comparison, directory)     a page with figures and tables
"""

from heaplab.report.export import to_csv, to_json
from heaplab.report.page import write
from heaplab.report.tables import show

__all__ = ["show", "to_csv", "to_json", "write"]
