"""`python -m heaplab`: the command line."""

from heaplab.cli import main

main()
