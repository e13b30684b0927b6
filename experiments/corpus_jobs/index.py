"""An inverted index over text, queried; and the same as JSON, there and back."""

import json
import re
from collections import defaultdict
from pathlib import Path

index = defaultdict(list)
lines = Path("text.txt").read_text().splitlines()
for number, line in enumerate(lines):
    for place, word in enumerate(re.findall(r"[a-z]+", line)):
        index[word].append((number, place))

hits = 0
for line in lines[::20]:
    words = line.split()[:3]
    found = set.intersection(*({number for number, _ in index[word]} for word in words))
    hits += len(found)

text = json.dumps({word: places for word, places in index.items() if len(places) < 30})
print(len(index), hits, len(json.loads(text)))
