"""The script that a worker process begins with: `python -P start_worker.py FD`.

It takes the package heaplab from the place where this file lies, as a package, and puts no folder on the
import path for it.  So a worker runs the same heaplab as its parent, and imports everything else from where
the interpreter finds it by itself (its own library, site-packages, PYTHONPATH): never from the directory that
the command was started in, nor from the folder of a checkout.
"""

import importlib.util
import sys
from pathlib import Path


def _import_heaplab() -> None:
    root = Path(__file__).resolve().parents[1]
    spec = importlib.util.spec_from_file_location(root.name, root / "__init__.py")
    assert spec is not None
    assert spec.loader is not None
    package = importlib.util.module_from_spec(spec)
    sys.modules[root.name] = package
    spec.loader.exec_module(package)


if __name__ == "__main__":
    _import_heaplab()
    from heaplab.lab.worker import main

    main()
