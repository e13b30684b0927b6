"""Made-up histories, and what they are in the words of every format's tools."""

import random
import re
from collections import Counter
from typing import NamedTuple


class Did(NamedTuple):
    """A call of the history.  align: 0 but for aligned blocks.  old: of a realloc, the address before."""

    op: str
    thread: int
    address: int
    size: int = 0
    align: int = 0
    old: int = 0


def history(seed, *, ops=("malloc", "calloc", "aligned", "realloc", "free", "null", "failed"), threads=3):
    """Calls of a program that reuses addresses soon."""
    draw = random.Random(seed)
    free = [0x7F0000001000 + 0x40 * number for number in range(60)]
    live = []
    for _ in range(2000):
        op, thread = draw.choice(ops), draw.randrange(threads)
        size = draw.choice([0, 1, 24, 24, draw.randrange(1, 5000)])
        if op in ("malloc", "calloc", "aligned") and free:
            address = free.pop(draw.randrange(len(free)))
            live.append(address)
            yield Did(op, thread, address, size, 1 << draw.randrange(4, 13) if op == "aligned" else 0)
        elif op == "realloc" and live and free:
            place = draw.randrange(len(live))
            old, new = live[place], draw.choice([live[place], free[-1]])
            if new != old:
                free[-1] = old
            live[place] = new
            yield Did(op, thread, new, size + 1, old=old)
        elif op == "free" and live:
            address = live.pop(draw.randrange(len(live)))
            free.append(address)
            yield Did(op, thread, address)
        elif op == "null":
            yield Did("free", thread, 0)
        elif op == "failed":
            yield Did("malloc", thread, 0, 1 << 62)


def counted(calls):
    """Events by op, the peak of the live bytes, and the last number of live blocks: by a dictionary."""
    live, events, peak = {}, Counter(), 0
    for did in calls:
        if did.op == "free":
            live.pop(did.address, None)
        elif did.address:
            live.pop(did.old, None)
            live[did.address] = did.size
        else:
            continue
        events[did.op] += 1
        peak = max(peak, sum(live.values()))
    return events, peak, len(live)


# ---- the formats, in the words of their tools ----


def memory_replay(calls):
    for did in calls:
        arguments = {
            "malloc": f"{did.size}",
            "calloc": f"1 {did.size}",
            "aligned": f"{did.align} {did.size}",
            "realloc": f"{did.old:#x} {did.size}",
            "free": "",
        }[did.op]
        yield f"{100 + did.thread}: {did.op.replace('aligned', 'memalign')} {did.address:#x} {arguments}"


def mtrace(calls):
    yield "= Start"
    for did in calls:
        where = "@ /tmp/my prog:(main+0x1d)[0x5599]"
        shown = f"{did.address:#x}" if did.address else "(nil)"
        if did.op == "free":
            if did.address:
                yield f"{where} - {shown}"
        elif did.op == "realloc":
            yield f"{where} < {did.old:#x}"
            yield f"{where} > {shown} {did.size:#x}"
        else:
            yield f"{where} + {shown} {did.size:#x}"
    yield "= End"


def valgrind(calls):
    yield "==77== Command: ./prog"
    for did in calls:
        result = "" if did.op == "free" else f" = {did.address:#X}".replace("X", "x")
        arguments = {
            "malloc": f"malloc({did.size})",
            "calloc": f"calloc(1,{did.size})",
            "aligned": f"memalign(al {did.align}, size {did.size})",
            "realloc": f"realloc({did.old:#x},{did.size})",
            "free": f"free({did.address:#x})",
        }[did.op]
        yield f"--77-- {arguments}{result}"
        yield "the program's own words: malloc(3) = 0x1"


def ltrace(calls):
    opened = None
    for did in calls:
        who = f"[pid {500 + did.thread}] prog->"
        pointer = hex(did.address) if did.address else "0"
        arguments = {
            "malloc": f"malloc({did.size}",
            "calloc": f"calloc(1, {did.size}",
            "aligned": f"aligned_alloc({did.align}, {did.size}, 0, 6",
            "realloc": f"realloc({did.old:#x}, {did.size}",
            "free": f"free({pointer}",
        }[did.op]
        result = "<void>" if did.op == "free" else pointer
        if opened:
            yield opened
            opened = None
        if did.op == "free" and did.address:  # it has done its work before it is said to return
            yield f"{who}{arguments} <unfinished ...>"
            opened = f"[pid {500 + did.thread}] <... free resumed> ) = <void>"
        else:
            yield f"{who}{arguments})        = {result}"
            yield f'{who}puts("free(0x10) = <void>")     = 3'


def logalloc(calls):
    for did in calls:
        arguments = {
            "malloc": f"malloc({did.size})",
            "calloc": f"calloc(1,{did.size})",
            "aligned": f"posix_memalign({did.align},{did.size})",
            "realloc": f"realloc({did.old:#x},{did.size})",
            "free": f"free({did.address:#x})",
        }[did.op]
        yield f"9 {did.thread} {arguments}" + ("" if did.op == "free" else f"={did.address:#x}")
        yield f"9 {did.thread} jemalloc_stats()"


def munged(calls):
    numbers = {0: 0}
    for line, did in zip(list(logalloc(calls))[::2], calls, strict=True):
        for address in (did.old, did.address):
            numbers.setdefault(address, len(numbers))
        yield re.sub(r"0x[0-9a-f]+", lambda found: f"#{numbers[int(found[0], 16)]}", line)


def utrace(calls):
    yield "<jemalloc>:utrace: 9 malloc_init()"
    for did in calls:
        if did.op == "realloc":
            yield f"<jemalloc>:utrace: 9 {did.address:#x} = realloc({did.old:#x}, {did.size})"
        elif did.op == "free":
            yield f"<jemalloc>:utrace: 9 free({did.address:#x})"
        else:
            yield f"<jemalloc>:utrace: 9 {did.address:#x} = malloc({did.size})"


def ostep(calls):
    yield ",".join(numbered(calls, "+{}", "-{}"))


def wee_alloc(calls):
    yield ",\n".join(numbered(calls, "Alloc({})", "Free({})"))


def numbered(calls, allocation, release):
    numbers = {}
    for count, did in enumerate(calls):
        if did.op == "malloc":
            numbers[did.address] = sum(each.op == "malloc" for each in calls[:count])
            yield allocation.format(did.size)
        else:
            yield release.format(numbers[did.address])


def rep(calls):
    for did in calls:
        if did.op == "free":
            yield f"f {did.address or -1}"
        elif did.address and did.op != "realloc":
            yield f"a {did.address} {did.size}"
        elif did.address:
            yield f"r {did.address} {did.size}"


def heaptrack(calls):
    yield "v 10400 3"
    yield "X ./prog"
    infos, made = {}, {}
    for count, did in enumerate(calls):
        yield f"c {count:x}"
        if did.op == "malloc":
            if did.size not in infos:
                infos[did.size] = len(infos)
                yield f"a {did.size:x} 1"
            made[did.address] = infos[did.size]
            yield f"+ {infos[did.size]:x}"
        else:
            yield f"- {made[did.address]:x}"


def varint(number):
    low, high = number & 0x7F, number >> 7
    return bytes([low | 0x80]) + varint(high) if high else bytes([low])


def message(*fields):
    parts = []
    for number, value in fields:
        if isinstance(value, bytes):
            parts.append(varint(number << 3 | 2) + varint(len(value)) + value)
        elif value is not None:
            parts.append(varint(number << 3) + varint(value))
    return b"".join(parts)


def malloc_bench(calls):
    lines = []
    for did in calls:
        name = did.address or None
        op, fields = {
            "malloc": (1, (name, did.size)),
            "free": (2, (name,)),
            "realloc": (3, (name, did.old or None, did.size)),
            "calloc": (4, (name, 1, did.size)),
            "aligned": (1, (name, did.size, did.align)),
        }[did.op]
        lines.append((1, message((op, message(*enumerate(fields, 1))))))
    return message(*lines, (2, 60))


PLAIN = ("malloc", "free")
STAYING = ("malloc", "free", "null")
CASES = {
    # format: how it is written, the calls it can tell, what it tells them as, whether it knows threads
    "memory_replay": (memory_replay, {}, {}, True),
    "glibc mtrace": (mtrace, {}, {"calloc": "malloc", "aligned": "malloc", "null": None}, False),
    "valgrind": (valgrind, {}, {}, False),
    "ltrace": (ltrace, {}, {}, True),
    "Firefox logalloc": (logalloc, {}, {}, True),
    "Firefox logalloc, munged": (munged, {}, {}, True),
    "jemalloc utrace": (utrace, {}, {"calloc": "malloc", "aligned": "malloc"}, False),
    "OSTEP list": (ostep, {"ops": PLAIN}, {}, False),
    "wee_alloc": (wee_alloc, {"ops": PLAIN}, {}, False),
    ".rep": (rep, {"ops": STAYING}, {}, False),
    "malloc-bench": (malloc_bench, {}, {}, False),
    "heaptrack": (heaptrack, {"ops": PLAIN}, {}, False),
}
