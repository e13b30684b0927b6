"""A comparison as one page that opens anywhere.

whole     the page: its frame, the verdict, tables, a section for each trace
curves    memory and fragmentation over a trace, as data
heaps     where the heaps' bytes are, and their maps
html      pieces that these share
page.js, page.css    what makes it answer, and how it looks
"""

from heaplab.report.onepage.whole import page_text, write_page

__all__ = ["page_text", "write_page"]
