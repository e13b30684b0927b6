/* The machine: physical memory, page tables, TLB, and the counters.
 *
 *   virtual address (4096-byte pages: 48 bits, as on x86-64)
 *   +--------+--------+--------+--------+--------------+
 *   | index3 | index2 | index1 | index0 |    offset    |
 *   +--------+--------+--------+--------+--------------+
 *       9        9        9        9          12            bits
 *
 * Every table is one frame of page_size/8 entries of 8 bytes.  With smaller pages the tables shrink
 * with them, so a whole machine fits into a few dozen frames: with 256-byte pages an index has 5 bits
 * and an address 28.  There are always four levels.
 *
 *   entry:  63   51          12  9  6 5   2 1 0
 *          | NX |  frame number |X|D|A|..|U|W|P|      (Intel SDM vol. 3, table 4-20)
 *
 * The frame number stands at bit 12 whatever the page size.  The MMU ignores bits 9 to 11; X, bit 9, is the
 * kernel's: the frame was made for this entry and never shared since (Linux keeps that per page,
 * PG_anon_exclusive; a frame that has it has one entry, so either place says the same).
 *
 * Spaces that were forked by hl_fork_tables share leaf tables.  A shared table is never changed: the entries
 * above it lack W, so that a write through any of them faults, and whoever would change an entry first gets a
 * copy of the table (hl_own_range).  The last one that has it gets W back instead.  Counts are of entries in
 * tables, whoever shares the table: a frame that one shared table maps has mapcount 1.
 *
 * Mechanism only: what may be mapped where is the kernel's business, and so is flushing.  An entry
 * changed without a flush stays stale in the TLB, as on hardware.
 */
#ifndef HL_MACHINE_H
#define HL_MACHINE_H

#include <stddef.h>
#include <stdint.h>

#define HL_LEVELS 4
#define HL_NO_FRAME UINT64_MAX

/* The usual machine: what a machine is if nobody says otherwise.  Code that has to be fast is compiled twice, once
 * with HL_USUAL defined: then it serves the usual machine alone, and these are constants in it (mmu.h). */
#define HL_USUAL_PAGE 4096
#define HL_USUAL_TLB 2048

#define HL_PTE_P (1ull << 0)
#define HL_PTE_W (1ull << 1)
#define HL_PTE_U (1ull << 2)
#define HL_PTE_A (1ull << 5)
#define HL_PTE_D (1ull << 6)
#define HL_PTE_EXCLUSIVE (1ull << 9)
#define HL_PTE_NX (1ull << 63)
#define HL_PTE_FRAME_SHIFT 12
#define HL_PTE_FRAME_MASK (((1ull << 40) - 1) << HL_PTE_FRAME_SHIFT)

/* The page-fault error code the CPU hands to the kernel (Intel SDM vol. 3, 4.7). */
#define HL_FAULT_PROTECTION 1u /* clear: no entry; set: the entry forbids the access */
#define HL_FAULT_WRITE 2u
#define HL_FAULT_USER 4u

/* What a frame is used for. */
enum { HL_FREE = 0, HL_TABLE, HL_ZERO, HL_ANON, HL_FILE, HL_KINDS };

#define HL_LINE 64 /* bytes of a cache line */

/* What is to be known of a frame that no entry tells. */
enum {
    HL_DIRTY = 1,    /* written by the kernel, or, of a FILE frame, through an entry that is gone (PG_dirty) */
    HL_LAZYFREE = 2, /* nobody will miss it, unless an entry is dirty (anonymous, and no PG_swapbacked) */
};

/* What hl_load64 gives when the access failed; the context's `failed` tells it from data. */
#define HL_BAD_LOAD 0xBADC0DEDBADC0DEDull

/* Why an access failed: what the context's `failed` says. */
enum {
    HL_REFUSED = 1,     /* whoever answers the traps refused it */
    HL_OUT_OF_FUEL = 2, /* the budget of references is spent: the access was not made */
    HL_UNREADABLE = 3,  /* looking: no read is allowed at fault_address */
    HL_LOOKS_ONLY = 4,  /* looking: a store at fault_address was not made */
};

/* A budget without end. */
#define HL_NO_LIMIT UINT64_MAX

/* What on_look gives instead of a frame. */
#define HL_LOOK_UNREADABLE HL_NO_FRAME
#define HL_LOOK_PAGE (UINT64_MAX - 1)   /* the page's bytes were written to `page` */
#define HL_LOOK_RAISED (UINT64_MAX - 2) /* it failed: the load is refused */

struct hl_context;

/* Answers a page fault: 0 = try the access again, anything else = the access fails. */
typedef int (*hl_fault_fn)(void *handle, uint64_t va, unsigned error_code);
/* Answers a system call: the result, or a negative errno. */
typedef int64_t (*hl_syscall_fn)(void *handle, int nr, uint64_t a0, uint64_t a1, uint64_t a2,
                                 uint64_t a3, uint64_t a4, uint64_t a5);
/* Says what a read at `va`, where no entry is, would show: a frame, or HL_LOOK_*.  `page` has room for the bytes of
 * one page.  Nothing may change. */
typedef uint64_t (*hl_look_fn)(void *handle, uint64_t va, uint8_t *page);

typedef struct hl_tlb_entry {
    uint64_t read_tag;  /* asid << 48 | page address, or ~0: no entry */
    uint64_t write_tag; /* the same, only while the page may be written and is marked dirty */
    uintptr_t host;     /* what to add to an address of the page for its place in the host's memory */
    uint64_t reserved;  /* keeps an entry half a cache line */
} hl_tlb_entry;

typedef struct hl_machine {
    /* fixed at birth */
    uint64_t page_size;
    unsigned page_shift;
    unsigned index_bits;
    unsigned va_bits;
    uint64_t frame_count;
    uint64_t tlb_size; /* entries, a power of two; direct-mapped by page number */
    int poison;        /* write junk into freed frames */

    /* physical memory: frame f lies at ram + f * page_size */
    uint8_t *ram;
    uint32_t *refcount; /* owners: one a mapping, one a page cache; of a table: entries above it, or a root */
    uint32_t *mapcount; /* page-table entries that point to the frame; of a table: entries present in it */
    uint8_t *kind;      /* HL_FREE ... */
    uint8_t *flags;     /* HL_DIRTY ... */
    uint64_t *origin;   /* of an ANON frame: a number that the frame and all its copies have in common */
    uint16_t (*held)[HL_KINDS]; /* of a leaf table: entries present in it, by the kind of their frame */
    uint32_t *free_stack;
    uint64_t free_stacked; /* frames on the stack */
    uint64_t fresh;        /* frames from here on were never used, and are zero */
    uint64_t origins;      /* so many numbers were given out */
    uint64_t used[HL_KINDS];
    uint64_t peak_anon; /* the most anonymous frames ever in use at once */

    hl_tlb_entry *tlb;
    struct hl_space **spaces; /* by asid; NULL where the asid is free */
    uint64_t next_asid;

    hl_fault_fn on_fault;
    hl_syscall_fn on_syscall;
    hl_look_fn on_look;
} hl_machine;

/* An address space as the MMU sees it: the root table (CR3) and the tag of its TLB entries (PCID). */
typedef struct hl_space {
    hl_machine *machine;
    uint64_t root; /* frame */
    uint64_t asid;
    uint64_t cached;        /* TLB entries: a flush looks no further than for so many */
    uint64_t rss[HL_KINDS]; /* pages mapped, by the kind of their frame */
    uint64_t peak_rss;      /* the most pages of ANON and FILE ever mapped at once */
    uint64_t tables;        /* table frames, the root included */
    uint64_t vm_pages;      /* pages of all VMAs; kept by the kernel */
    uint64_t heap_pages;    /* of these, what brk and anonymous mmap gave; kept by the kernel */
    uint64_t brk;           /* the program break; kept by the kernel, read by sbrk as libc reads its own */
    uint64_t secret;        /* the random bytes that the kernel hands a new program (AT_RANDOM) */
    /* The demand window [demand_start, demand_end).  Here the MMU answers a first write to a page by itself: it makes
     * an entry with these flags and a zeroed ANON frame, or a copy of an ANON frame that the page shares.  The kernel
     * opens the window.  It closes the window (start = end) before its own answer to a write would be another one. */
    uint64_t demand_start, demand_end, demand_flags;
    struct hl_look *looks;  /* contexts that look into the space, to be told when it goes */
} hl_space;

/* What of a CPU belongs to one task: its address space, who answers its traps, and its counters.
 *
 * References (loads and stores of 1 to 8 bytes) are counted down from a budget, so that one decrement both counts
 * and limits them.  `left` stays at 0 once the budget is spent.  Stores are counted besides; loads are the rest:
 *
 *   references = granted - left - charged        loads = references - stores
 */
typedef struct hl_context {
    hl_machine *machine;
    hl_space *space;
    void *handle;      /* handed to on_fault and on_syscall */
    void *escape;      /* jmp_buf to take when an access of C heap code fails, or NULL */
    /* what the MMU's fast path needs, here so that it need not be worked out from the machine each time */
    const uint8_t *tlb;  /* the machine's, or one without entries: then every access takes the slow path */
    unsigned slot_shift; /* brings an address's page number to where a TLB entry's offset has its */
    uint64_t slot_mask;
    uint64_t page_mask; /* clears the offset within a page */
    uint64_t asid_tag;  /* asid << 48 */
    int64_t left;       /* references until the budget is spent */
    uint64_t stores;
    uint64_t granted;  /* all that `left` was ever given */
    uint64_t charged;  /* taken from `left` for what is no reference */
    uint64_t budget;   /* the references of the budget at hand, or HL_NO_LIMIT */
    uint64_t bulk;     /* bytes moved by copy, fill, read and write */
    uint64_t tlb_misses;
    uint64_t faults;   /* all of them, whether the kernel could help or not */
    uint64_t minor_faults; /* of these, what was answered without reading a disk; kept by the kernel, and here
                            * within the demand window */
    int failed;        /* not 0: the last access failed, HL_REFUSED ...; cleared by whoever reports it */
    int err;           /* the C library's errno, for the allocators of both languages */
    uint32_t thread;   /* which thread of the process runs, for allocators that ask; nothing here reads it */
    uint64_t fault_address; /* of the last access that failed, but for want of fuel */
    struct hl_observer *observer; /* the order of references, or NULL: nobody ever asked for it */
    int observing;
    struct hl_look *look; /* NULL: the context of a task */
} hl_context;

static inline int hl_is_usual(const hl_machine *m)
{
    return m->page_size == HL_USUAL_PAGE && m->tlb_size == HL_USUAL_TLB;
}

/* ---- frames.c ---- */

/* A machine of `frame_count` frames of `page_size` bytes (a power of two, 64 to 4096) and a TLB of
 * `tlb_size` entries (a power of two).  NULL with errno EINVAL or ENOMEM.  Host memory is committed as
 * frames are first used. */
hl_machine *hl_machine_new(uint64_t frame_count, uint64_t page_size, uint64_t tlb_size, int poison);
void hl_machine_delete(hl_machine *m);

uint64_t hl_frames_free(const hl_machine *m);
/* A frame with refcount 1 and mapcount 0, zeroed when `zero`; HL_NO_FRAME when there is none.  O(1) */
uint64_t hl_frame_alloc(hl_machine *m, int kind, int zero);
void hl_frame_get(hl_machine *m, uint64_t frame);
/* Gives one reference back; the last one frees the frame. */
void hl_frame_put(hl_machine *m, uint64_t frame);

/* ---- pagetable.c ---- */

/* A space with an empty root table; NULL when there is no frame or no asid. */
hl_space *hl_space_new(hl_machine *m);
/* Drops what is still mapped, all tables and the space's TLB entries. */
void hl_space_delete(hl_space *s);

/* The leaf entry of `va`, 0 when there is none; without W and X where a shared table stands in the way. */
uint64_t hl_pte(const hl_space *s, uint64_t va);
/* The entries on the way to `va`, root first; returns how many there are (1 to 4).
 * tables[i] is the frame of the table read at step i, entries[i] what stood there. */
int hl_walk(const hl_space *s, uint64_t va, uint64_t *tables, uint64_t *entries);

/* Maps `frame` at `va`, taking over one reference of the caller's.  What was mapped there is dropped.
 * 0, or -1 when there is no frame for a table (nothing changed; the reference stays the caller's). */
int hl_map(hl_space *s, uint64_t va, uint64_t frame, uint64_t flags);
/* Maps a new zeroed frame; the frame, or HL_NO_FRAME. */
uint64_t hl_map_zeroed(hl_space *s, uint64_t va, int kind, uint64_t flags);
/* Maps a new ANON frame with the bytes of what is mapped at `va`, which is dropped: the copy of
 * copy-on-write.  The frame, or HL_NO_FRAME (nothing changed). */
uint64_t hl_map_copy(hl_space *s, uint64_t va, uint64_t flags);
/* Changes bits of the leaf entry: 1; 0 when there is none, or no frame for a table to change it in. */
int hl_pte_update(hl_space *s, uint64_t va, uint64_t clear, uint64_t set);

/* Makes the tables above va's leaf table, as a page fault does before it knows more: 0, or -1 when there was no
 * frame for one. */
int hl_make_upper_tables(hl_space *s, uint64_t va);
/* Makes the leaf tables over [start, end) the space's own: 0, or -1 when there was no frame for one. */
int hl_own_range(hl_space *s, uint64_t start, uint64_t end);
/* Over every leaf entry present in [start, end); each -1, with nothing changed, when there was no frame to
 * make a table the space's own: */
int64_t hl_unmap_range(hl_space *s, uint64_t start, uint64_t end);   /* drop; returns how many */
/* Change bits of those that have all bits of `having`; returns how many. */
int64_t hl_protect_range(hl_space *s, uint64_t start, uint64_t end, uint64_t having, uint64_t clear,
                         uint64_t set);
/* Copies the entries to the child's tables, one for each of the parent's, and takes references.  With `cow`
 * both sides lose W and X.  The child's entries are not accessed, and not dirty unless `cow` (Linux,
 * copy_present_ptes).
 * Returns how many, or -1 when a table could not be had (the child is left with a part). */
int64_t hl_fork_range(hl_space *parent, hl_space *child, uint64_t start, uint64_t end, int cow);
/* Copies the pages themselves: the child gets an ANON frame for each of the parent's, the other kinds as
 * above.  Neither loses a right.  Returns how many, or -1 when a frame could not be had. */
int64_t hl_fork_copies(hl_space *parent, hl_space *child, uint64_t start, uint64_t end);
/* Shares the leaf tables all of whose entries lie in [start, end), and copies the entries of the others
 * with `cow`.  Returns how many pages the child got, or -1 when a table could not be had. */
int64_t hl_fork_tables(hl_space *parent, hl_space *child, uint64_t start, uint64_t end);
/* Moves the entries of [old, old+length) to `new_start`, tables made as needed: mremap.  Returns how
 * many, or -1 when a table could not be had (nothing moved that is not whole). */
int64_t hl_move_range(hl_space *s, uint64_t old_start, uint64_t length, uint64_t new_start);
/* Writes, for each page of [start, start + count pages), its entry or 0. */
void hl_read_ptes(const hl_space *s, uint64_t start, uint64_t count, uint64_t *out);
/* The address of the first page in [va, end) that has an entry, or `end`. */
uint64_t hl_next_mapped(const hl_space *s, uint64_t va, uint64_t end);
/* Frees the tables that serve only addresses in [floor, ceiling), looking at those that serve
 * [start, end): Linux's free_pgtables.  Their entries must be gone. */
void hl_free_tables(hl_space *s, uint64_t start, uint64_t end, uint64_t floor, uint64_t ceiling);

/* ---- mmu.c ---- */

/* Of a task that runs in `s`; its traps carry `handle`.  Without a limit of references. */
hl_context *hl_context_new(hl_space *s, void *handle);
void hl_context_delete(hl_context *c);
void hl_context_switch(hl_context *c, hl_space *s);

void hl_flush_page(hl_space *s, uint64_t va);
void hl_flush_space(hl_space *s);
/* The number of TLB entries of a space, counted: s->cached says the same. */
uint64_t hl_tlb_entries(const hl_space *s);
/* The number of TLB entries that the page tables contradict; *va is the lowest such page. */
uint64_t hl_tlb_stale(hl_machine *m, uint64_t *va);

/* The byte at `va` in the host's memory, good up to the page's end; NULL when the access failed. */
uint8_t *hl_translate(hl_context *c, uint64_t va, int write);

/* 1, 2, 4 or 8 bytes, little-endian, aligned or not: one reference.  On failure HL_BAD_LOAD and c->failed set. */
uint64_t hl_load(hl_context *c, uint64_t va, unsigned size);
/* 0, or -1 with c->failed set; then nothing was stored. */
int hl_store(hl_context *c, uint64_t va, uint64_t value, unsigned size);
uint64_t hl_load64(hl_context *c, uint64_t va);
int hl_store64(hl_context *c, uint64_t va, uint64_t value);
/* Stores `new_value` if `old` stands at `va`, as one step: 1, or 0; -1 with c->failed set.  A load, and a store if it
 * stores.  The processor writes in any case (Intel SDM vol. 2, CMPXCHG): a page that may not be written faults, also
 * when nothing is stored, and a page that was never touched faults once. */
int hl_cas64(hl_context *c, uint64_t va, uint64_t old, uint64_t new_value);

/* Bulk: 0, or -1 with c->failed set when a page failed; pages before it are done.  n bytes take 1 + n / 4096 from
 * a budget, so that a loop of them ends too.  hl_copy is memmove. */
int hl_copy(hl_context *c, uint64_t dst, uint64_t src, uint64_t n);
int hl_fill(hl_context *c, uint64_t dst, uint8_t byte, uint64_t n);
int hl_read(hl_context *c, uint64_t va, uint8_t *out, uint64_t n);
int hl_write(hl_context *c, uint64_t va, const uint8_t *in, uint64_t n);

/* Gives the context a budget of so many references from now on, or HL_NO_LIMIT.  The counters go on. */
void hl_set_fuel(hl_context *c, uint64_t references);
/* What is left of it, or HL_NO_LIMIT. */
uint64_t hl_fuel(const hl_context *c);
/* Takes `units` from the budget, if there is one, for work that is no reference: 0, or -1 with c->failed =
 * HL_OUT_OF_FUEL. */
int hl_charge(hl_context *c, uint64_t units);
uint64_t hl_loads(const hl_context *c);

/* ---- observe.c ---- */

/* From now on the references of the context are observed: their order as a hash, from its beginning, and the last
 * `keep` of them.  Every access takes the slow path meanwhile, counts and faults as ever.  0, or -1: the host has no
 * memory. */
int hl_observe(hl_context *c, uint64_t keep);
/* No longer; what was found can still be asked for. */
void hl_observe_stop(hl_context *c);
/* A hash over (address, load or store) of all references observed; equal for equal sequences. */
uint64_t hl_order(const hl_context *c);
/* Writes the addresses of the last n references observed, oldest first, and whether each was a store.  Returns how
 * many there are: n, or those that were kept.  With NULL for both it only counts. */
uint64_t hl_recent(const hl_context *c, uint64_t n, uint64_t *addresses, uint8_t *is_store);

/* How many distinct cache lines of HL_LINE bytes the references observed have touched since hl_lines_forget; 0 while
 * nobody observes.  One that begins in a line and ends in the next has touched both. */
uint64_t hl_lines(const hl_context *c);
void hl_lines_forget(hl_context *c);

/* ---- look.c ---- */

/* A context that looks into the space and changes nothing in it: no count, no TLB entry, no accessed bit, no fault.
 * A load where no entry is gives what on_look says.  Loads fail with HL_UNREADABLE where no read is allowed, and
 * stores with HL_LOOKS_ONLY.  `handle` is handed to on_look and on_syscall.  NULL: the host has no memory.
 * When the space goes, the context stays, and all of it is unreadable.  hl_context_delete ends it. */
hl_context *hl_look_new(hl_space *s, void *handle);

#endif
