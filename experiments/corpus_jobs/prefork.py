"""A server's pattern: load a table, fork workers that share it, and let each answer questions."""

import json
import os
from pathlib import Path

table = {record["id"]: record for record in json.loads(Path("records.json").read_text())}
ids = sorted(table)
workers = 4
for worker in range(workers):
    if os.fork() == 0:
        answers = []
        for key in ids[worker::workers]:
            record = table[key]
            record["visits"] = record.get("visits", 0) + worker  # dirties a page of the shared heap
            answers.append(f"{record['name']}:{sum(record['scores']):.2f}:{','.join(record['tags'])}")
        os._exit(len("".join(answers)) % 100)
print([os.waitstatus_to_exitcode(os.wait()[1]) >= 0 for _ in range(workers)])
