"""What random program errors do to each design: a table, and the smallest attack for each bad outcome.

    python experiments/attacks.py --designs buddy,rbtree --kinds links,metadata --attacks 20000

An attack is a short history, a mistake of the program's (heaplab/testing/attacks/draw.py has the kinds) and
what the program does next.  named, harmless and refused are sound answers; anything else is a weakness.
"""

import argparse
import sys

from heaplab.allocators import LANGUAGES, names
from heaplab.testing.attacks import KINDS, cell, table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--designs", default=",".join(names()), help="specs, separated by commas")
    parser.add_argument("--languages", default=",".join(LANGUAGES))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--attacks", type=int, default=20_000, help="of each kind on each design")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--examples", type=int, default=1, help="of each bad outcome of a cell")
    options = parser.parse_args()
    cells = []
    for design in options.designs.split(","):
        for language in options.languages.split(","):
            for kind in options.kinds.split(","):
                print(f"{design} {language} {kind} ...", file=sys.stderr)
                cells.append(cell(design, language, kind, options.attacks, options.seed, options.examples))
    print(table(cells))
    for result in cells:
        for outcome, attacks in result.examples.items():
            for attack in attacks:
                print(f"\n{result.design} ({result.language}), {result.kind}: {outcome}\n{attack}")


if __name__ == "__main__":
    main()
