#define SEAM_TRAP_RAISED ...

typedef struct {
    uint64_t address;
    uint64_t size;
    uint64_t usable;
    int state;
} hl_block;

#define HL_BLOCK_FREE ...
#define HL_BLOCK_ALLOCATED ...
#define HL_BLOCK_LARGE ...

#define HL_DOUBLE_FREE ...
#define HL_FOREIGN_POINTER ...
#define HL_BROKEN_HEADER ...
#define HL_BROKEN_FOOTER ...
#define HL_BROKEN_LINK ...
#define HL_BROKEN_INDEX ...
#define HL_BROKEN_ROOT ...
#define HL_UNCOALESCED ...

typedef struct {
    hl_context *seam;
    uint64_t root;
    uint64_t mmap_threshold;
    uint64_t trim_threshold;
    uint64_t top_pad;
    uint64_t option[4];
    uint64_t corrupt_address;
    int corrupt_rule;
    ...;
} hl_heap;

int hl_heap_design(hl_heap *h, const char *name);
int hl_heap_create(hl_heap *h);
int hl_heap_attach(hl_heap *h);
uint64_t hl_heap_malloc(hl_heap *h, uint64_t size);
int hl_heap_free(hl_heap *h, uint64_t p);
uint64_t hl_heap_calloc(hl_heap *h, uint64_t n, uint64_t size);
uint64_t hl_heap_realloc(hl_heap *h, uint64_t p, uint64_t size);
uint64_t hl_heap_aligned_alloc(hl_heap *h, uint64_t alignment, uint64_t size);
uint64_t hl_heap_usable_size(hl_heap *h, uint64_t p);
int64_t hl_heap_walk(hl_heap *h, uint64_t *cursor, hl_block *out, uint64_t capacity);
int hl_heap_check(hl_heap *h);
