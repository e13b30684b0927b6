"""Steps as a C program that calls malloc and its family as they are written.

    cc -fno-builtin small.c -o small && heaplab native run SPEC -- ./small

Every payload is written, and compared when its block is freed or moved and at the end.  The program says what
broke and ends with 1; a heap that notices by itself ends it first.
"""

from collections.abc import Iterator

from heaplab.testing.failure import Failure
from heaplab.testing.steps import (
    HUGE,
    Aligned,
    Calloc,
    Exec,
    Exit,
    Fork,
    Free,
    Malloc,
    Realloc,
    Step,
    ThreadExit,
    requested,
)
from heaplab.traces import NULL_ID

_HEAD = """\
#define _GNU_SOURCE
#include <errno.h>
#include <malloc.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define HELPER static __attribute__((unused))

/* of a heap of heaplab's: the number of the thread that calls from now on, and its end */
extern void heaplab_thread(unsigned number) __attribute__((weak));
extern void heaplab_thread_exit(void) __attribute__((weak));

static struct block {
    unsigned char *at;
    size_t size;
    unsigned char stamp;
} blocks[%(slots)d];
static int me; /* the number of this process */

HELPER void broken(int step, const char *what)
{
    fprintf(stderr, "step %%d (process %%d): %%s\\n", step, me, what);
    exit(1);
}

HELPER void verify(int step, struct block *b)
{
    for (size_t n = 0; n < b->size; n++)
        if (b->at[n] != (unsigned char)(b->stamp + n))
            broken(step, "a block has lost what was written to it");
}

/* A block is there: it overlaps no other, and is written. */
HELPER void born(int step, int slot, void *p, size_t size, size_t alignment)
{
    struct block *b = &blocks[slot];
    if (p == NULL)
        broken(step, "the allocator gave no memory");
    if ((uintptr_t)p %% alignment)
        broken(step, "the block is misaligned");
    b->at = p, b->size = size, b->stamp = (unsigned char)(17 * step);
    size_t usable = malloc_usable_size(p); /* 0 of a block: the allocator has no such function */
    if (usable && usable < size)
        broken(step, "malloc_usable_size is less than was asked for");
    for (struct block *o = blocks; o < blocks + %(slots)d; o++)
        if (o != b && o->at && o->at < b->at + size && b->at < o->at + o->size)
            broken(step, "the block overlaps another");
    for (size_t n = 0; n < size; n++)
        b->at[n] = (unsigned char)(b->stamp + n);
}

HELPER void moved(int step, int slot, void *p, size_t size)
{
    struct block *b = &blocks[slot];
    size_t kept = b->size < size ? b->size : size;
    if (p == NULL)
        broken(step, "the allocator gave no memory");
    b->at = p, b->size = kept;
    verify(step, b);
    born(step, slot, p, size, 16);
}

HELPER void gone(int step, int slot)
{
    verify(step, &blocks[slot]);
    void *p = blocks[slot].at;
    blocks[slot].at = NULL;
    free(p);
}

/* No machine has so much memory. */
HELPER void refused(int step, const void *p)
{
    if (p != NULL)
        broken(step, "so much memory cannot be given");
    if (errno != ENOMEM)
        broken(step, "errno is not ENOMEM");
}

HELPER void cleared(int step, const unsigned char *p, size_t size)
{
    for (size_t n = 0; p != NULL && n < size; n++)
        if (p[n])
            broken(step, "calloc's block is not zero");
}

/* The process ends: what it still has is compared, and its children have to have ended well. */
HELPER int over(int step)
{
    for (int slot = 0; slot < %(slots)d; slot++)
        if (blocks[slot].at)
            verify(step, &blocks[slot]);
    int status, failed = 0;
    while (wait(&status) > 0)
        failed |= status != 0;
    return failed;
}
"""


def as_c(failure: Failure, spec: str) -> str:
    """Return a C program that does the failure's steps; instead of an exec it forgets all blocks.

    >>> from heaplab.testing.steps import Malloc, Free
    >>> text = as_c(Failure((Malloc(0, 600), Free(0)), "", "free 0: lost"), "freelist")
    >>> [line.strip() for line in text.splitlines() if "(1, " in line or "(2" in line]
    ['born(1, 0, malloc(600u), 600u, 16);', 'gone(2, 0);', 'return over(2);']
    """
    steps = failure.steps
    slots = 1 + max((getattr(step, "slot", 0) for step in steps if not _frees_null(step)), default=0)
    several = any(isinstance(step, Fork) for step in steps)
    threads = any(step.thread for step in steps)
    lines = [
        f"/* {_comment(failure.sentence)}",
        " *",
        f" * Found on {_comment(spec)}, with these steps.  To run them on it:",
        f" * cc -fno-builtin FILE.c && heaplab native run {_comment(spec)} -- ./a.out",
        " */",
        _HEAD % {"slots": slots},
        "int main(void)",
        "{",
    ]
    for number, step in enumerate(steps, 1):
        lines.append(f"    /* {step} */")
        if several:
            lines.append(f"    if (me == {step.process}) {{")
        indent = " " * (8 if several else 4)
        if threads:
            lines += [f"{indent}if (heaplab_thread)", f"{indent}    heaplab_thread({step.thread});"]
        lines += [indent + line for line in _statements(number, step)]
        if several:
            lines.append("    }")
    lines.append(f"    return over({len(steps)});")
    return "\n".join([*lines, "}", ""])


def _comment(text: str) -> str:
    return text.replace("*/", "* /")


def _frees_null(step: Step) -> bool:
    return isinstance(step, Free) and step.slot == NULL_ID


def _request(step: Step) -> str:
    match step:
        case Malloc(_, size):
            return f"malloc({size}u)"
        case Calloc(_, n, size):
            return f"calloc({n}u, {size}u)"
        case Aligned(_, alignment, size):
            return f"aligned_alloc({alignment}u, {size}u)"
        case Realloc(slot, size):
            return f"realloc(blocks[{slot}].at, {size}u)"
    raise AssertionError(f"{step} asks for nothing")


def _statements(number: int, step: Step) -> Iterator[str]:
    size = requested(step)
    if size >= HUGE[0]:
        yield "errno = 0;"
        yield f"refused({number}, {_request(step)});"
        return
    match step:
        case Malloc(slot):
            yield f"born({number}, {slot}, {_request(step)}, {size}u, 16);"
        case Calloc(slot):
            yield f"void *p{number} = {_request(step)};"
            yield f"cleared({number}, p{number}, {size}u);"
            yield f"born({number}, {slot}, p{number}, {size}u, 16);"
        case Aligned(slot, alignment):
            yield f"born({number}, {slot}, {_request(step)}, {size}u, {max(16, alignment)}u);"
        case Realloc(slot):
            yield f"verify({number}, &blocks[{slot}]);"
            yield f"moved({number}, {slot}, {_request(step)}, {size}u);"
        case Free(slot):
            yield "free(NULL);" if slot == NULL_ID else f"gone({number}, {slot});"
        case Fork(child):
            yield "if (fork() == 0)"
            yield f"    me = {child};"
        case ThreadExit():
            yield "if (heaplab_thread_exit)"
            yield "    heaplab_thread_exit();"
        case Exec():
            yield "memset(blocks, 0, sizeof blocks);"
        case Exit():
            yield f"exit(over({number}));"
