"""`python -m heaplab`: the command line.

For `-m` Python puts the working directory in front of its import path.  It is taken away again before
anything else is imported, so that a numpy.py which lies there is nobody's numpy.
"""

import sys

if not sys.flags.safe_path:
    del sys.path[0]

from heaplab.cli import main

main()
