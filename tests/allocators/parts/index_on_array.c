/* An index on an array of words, against a plain list of its blocks: random operations, each followed by a check.
 *
 *   cc -DHEAPLAB_ENV='"array_env.h"' -DINDEX='"parts/rbtree.h"' index_on_array.c -o tried
 *   ./tried SEED STEPS FIT ORDER
 *
 * Says what differs, and ends with 1; or says nothing, and ends with 0.
 */
#include <stdio.h>
#include <stdlib.h>

#include INDEX

#include "parts/seal.h"

enum { PLACES = 300, PLACE = 1024, ROOT = 256, FIRST = 4096 + BLOCK_HEADER };
enum { N_WORDS = 1 << 17 };

static uint64_t words[N_WORDS], seed;
static env world = {.words = words, .n = N_WORDS, .page = 256, .brk = FIRST + PLACES * PLACE};
static hl_heap heap = {.env = &world, .root = ROOT, .checks = HEAP_CHECKS_ALL, .seal = HEAP_SEAL_PUBLIC};

/* What the index holds: a block in each place, or none. */
static struct known {
    uint64_t block, size;
} known[PLACES];
static unsigned count;

static const char *doing;

_Noreturn static void differ(const char *what, uint64_t is, uint64_t wanted)
{
    printf("%s: %s is %llu, not %llu\n", doing, what, (unsigned long long)is, (unsigned long long)wanted);
    exit(1);
}

_Noreturn void heap_corrupt(hl_heap *h, uint64_t address, int rule)
{
    (void)h;
    printf("%s: corrupt at %llu, rule %d\n", doing, (unsigned long long)address, rule);
    exit(1);
}

static uint64_t below(uint64_t n)
{
    seed = seed * 6364136223846793005ull + 1442695040888963407ull;
    return (seed >> 33) % n;
}

/* ---- the list of blocks ---- */

static void know(unsigned place, uint64_t block, uint64_t size)
{
    known[place] = (struct known){block, size};
    words[block / 8] = block_header(&heap, block, size, BLOCK_PREV_ALLOCATED);
}

/* A place with a block, or one without. */
static unsigned some_place(int taken)
{
    unsigned place = (unsigned)below(PLACES);
    while ((known[place].block != 0) != taken)
        place = (place + 1) % PLACES;
    return place;
}

static void check_all(void)
{
    survey s = {.first = ROOT, .end = world.brk};
    for (unsigned place = 0; place < PLACES; place++)
        if (known[place].block) {
            survey_walked(&s, known[place].block);
            index_check_links(&heap, &s, known[place].block);
        }
    index_check(&heap, &s);
    survey_close(&heap, &s);
}

/* Whether the block that a search found may be the answer; 0 if there is one and none was found. */
static void check_found(uint64_t need, uint64_t found, uint64_t word)
{
    uint64_t least = UINT64_MAX, most = 0, at_least = 0, at_most = 0, size = 0;
    for (unsigned place = 0; place < PLACES; place++) {
        struct known k = known[place];
        if (k.block && k.size >= need) {
            if (k.size < least)
                least = k.size, at_least = k.block;
            if (k.size > most)
                most = k.size, at_most = k.block;
        }
        if (k.block == found && found)
            size = k.size;
    }
    if (!at_most != !found)
        differ("the block found", found, at_most);
    if (!found)
        return;
    if (block_size(word) != size || size < need)
        differ("the size found", block_size(word), size);
#if defined HL_RBTREE_H
    (void)at_most, (void)most;
    if (found != at_least)
        differ("the best fit", found, at_least);
#elif defined HL_BINHEAP_H
    (void)least, (void)at_least;
    if (found != at_most)
        differ("the largest", found, at_most);
#else
    (void)at_least;
    if (heap.option[LIST_FIT] == BEST_FIT && size != least)
        differ("the best fit", size, least);
    if (heap.option[LIST_FIT] == WORST_FIT && size != most)
        differ("the worst fit", size, most);
#endif
}

/* ---- the operations ---- */

static void try_insert(void)
{
    doing = "insert";
    if (count == PLACES)
        return;
    unsigned place = some_place(0);
    uint64_t block = FIRST + place * PLACE + PLACE / 2, size = 16 * (3 + below(20));
    if (!index_reserve(&heap, 2 * INDEX_MIN_BLOCK * (count + 1)))
        differ("room for one more", 0, 1);
    index_insert(&heap, block, size);
    know(place, block, size);
    count++;
}

static void try_remove(void)
{
    doing = "remove";
    unsigned place = some_place(1);
    index_remove(&heap, known[place].block, known[place].size, NULL);
    known[place].block = 0;
    count--;
}

/* What free does: the block begins there or further down, and has more bytes. */
static void try_grow(void)
{
    doing = "grow";
    unsigned place = some_place(1);
    struct known k = known[place];
    uint64_t by = 16 * below(8), down = below(2) ? 16 * below(4) : 0, base = FIRST + place * PLACE;
    if (k.block - down < base || k.block + k.size + by > base + PLACE)
        return;
    index_grow(&heap, k.block, k.size, k.block - down, k.size + down + by);
    know(place, k.block - down, k.size + down + by);
}

/* What malloc does: it searches, and takes the block, or the first bytes of it. */
static void try_find(void)
{
    doing = "find";
    index_found where;
    uint64_t need = 16 * (2 + below(26)), word = 0, block = index_find(&heap, need, &word, &where);
    check_found(need, block, word);
    if (!block || below(3) == 0)
        return;
    unsigned place = (unsigned)((block - FIRST) / PLACE);
    uint64_t size = known[place].size, rest = size - need;
    if (rest >= INDEX_MIN_BLOCK) {
        doing = "shrink";
        index_shrink(&heap, block, size, block + need, rest, &where);
        know(place, block + need, rest);
    } else {
        doing = "remove what was found";
        index_remove(&heap, block, size, &where);
        known[place].block = 0;
        count--;
    }
}

/* An index without its own verbs makes them of remove and insert, as families/tagged.h does. */
#if !defined INDEX_SHRINKS || !defined INDEX_GROWS
#error "this index has no shrink or no grow of its own: give them here as families/tagged.h does"
#endif

int main(int argc, char **argv)
{
    seed = argc > 1 ? strtoull(argv[1], NULL, 10) : 1;
    unsigned long steps = argc > 2 ? strtoul(argv[2], NULL, 10) : 10000;
    for (int i = 3; i < argc; i++)
        heap.option[i - 3] = strtoull(argv[i], NULL, 10);
    doing = "an access behind the array";
    if (setjmp(world.corrupt))
        differ("an address", 1, 0);
    seal_begin(&heap);
    if (!index_init(&heap, 2 * INDEX_MIN_BLOCK))
        differ("the first room", 0, 1);
    for (unsigned long step = 0; step < steps; step++) {
        uint64_t kind = below(100), most = step / 1000 % 2 ? 25 : 50; /* it grows, it shrinks */
        if (!count || kind < most)
            try_insert();
        else if (kind < 55)
            try_remove();
        else if (kind < 75)
            try_grow();
        else
            try_find();
        check_all();
    }
    return 0;
}
