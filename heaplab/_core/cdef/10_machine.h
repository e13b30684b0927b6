#define HL_USUAL_PAGE ...
#define HL_USUAL_TLB ...
#define HL_NO_FRAME ...
#define HL_BAD_LOAD ...
#define HL_REFUSED ...
#define HL_OUT_OF_FUEL ...
#define HL_UNREADABLE ...
#define HL_LOOKS_ONLY ...
#define HL_NO_LIMIT ...
#define HL_LOOK_UNREADABLE ...
#define HL_LOOK_PAGE ...
#define HL_LOOK_RAISED ...
#define HL_FREE ...
#define HL_TABLE ...
#define HL_ZERO ...
#define HL_ANON ...
#define HL_FILE ...
#define HL_KINDS ...
#define HL_DIRTY ...
#define HL_LAZYFREE ...

typedef int (*hl_fault_fn)(void *handle, uint64_t va, unsigned error_code);
typedef int64_t (*hl_syscall_fn)(void *handle, int nr, uint64_t a0, uint64_t a1, uint64_t a2,
                                 uint64_t a3, uint64_t a4, uint64_t a5);
typedef uint64_t (*hl_look_fn)(void *handle, uint64_t va, uint8_t *page);

typedef struct {
    uint64_t read_tag;
    uint64_t write_tag;
    ...;
} hl_tlb_entry;

typedef struct {
    uint64_t page_size;
    unsigned page_shift;
    unsigned index_bits;
    unsigned va_bits;
    uint64_t frame_count;
    uint64_t tlb_size;
    uint8_t *ram;
    uint32_t *refcount;
    uint32_t *mapcount;
    uint8_t *kind;
    uint8_t *flags;
    uint64_t *origin;
    uint64_t fresh;
    uint64_t used[...];
    uint64_t peak_anon;
    hl_tlb_entry *tlb;
    hl_fault_fn on_fault;
    hl_syscall_fn on_syscall;
    hl_look_fn on_look;
    ...;
} hl_machine;

typedef struct {
    uint64_t root;
    uint64_t asid;
    uint64_t cached;
    uint64_t rss[...];
    uint64_t peak_rss;
    uint64_t tables;
    uint64_t vm_pages;
    uint64_t heap_pages;
    uint64_t brk;
    uint64_t secret;
    uint64_t demand_start;
    uint64_t demand_end;
    uint64_t demand_flags;
    ...;
} hl_space;

typedef struct {
    hl_space *space;
    void *handle;
    uint64_t stores;
    uint64_t budget;
    uint64_t bulk;
    uint64_t tlb_misses;
    uint64_t faults;
    uint64_t minor_faults;
    int failed;
    int err;
    uint32_t thread;
    uint64_t fault_address;
    ...;
} hl_context;

hl_machine *hl_machine_new(uint64_t frame_count, uint64_t page_size, uint64_t tlb_size, int poison);
void hl_machine_delete(hl_machine *m);
uint64_t hl_frames_free(const hl_machine *m);
uint64_t hl_frame_alloc(hl_machine *m, int kind, int zero);
void hl_frame_get(hl_machine *m, uint64_t frame);
void hl_frame_put(hl_machine *m, uint64_t frame);

hl_space *hl_space_new(hl_machine *m);
void hl_space_delete(hl_space *s);
uint64_t hl_pte(const hl_space *s, uint64_t va);
int hl_walk(const hl_space *s, uint64_t va, uint64_t *tables, uint64_t *entries);
int hl_map(hl_space *s, uint64_t va, uint64_t frame, uint64_t flags);
uint64_t hl_map_zeroed(hl_space *s, uint64_t va, int kind, uint64_t flags);
uint64_t hl_map_copy(hl_space *s, uint64_t va, uint64_t flags);
int hl_pte_update(hl_space *s, uint64_t va, uint64_t clear, uint64_t set);
int hl_make_upper_tables(hl_space *s, uint64_t va);
int hl_own_range(hl_space *s, uint64_t start, uint64_t end);
int64_t hl_unmap_range(hl_space *s, uint64_t start, uint64_t end);
int64_t hl_protect_range(hl_space *s, uint64_t start, uint64_t end, uint64_t having, uint64_t clear,
                         uint64_t set);
int64_t hl_fork_range(hl_space *parent, hl_space *child, uint64_t start, uint64_t end, int cow);
int64_t hl_fork_copies(hl_space *parent, hl_space *child, uint64_t start, uint64_t end);
int64_t hl_fork_tables(hl_space *parent, hl_space *child, uint64_t start, uint64_t end);
int64_t hl_move_range(hl_space *s, uint64_t old_start, uint64_t length, uint64_t new_start);
void hl_read_ptes(const hl_space *s, uint64_t start, uint64_t count, uint64_t *out);
uint64_t hl_next_mapped(const hl_space *s, uint64_t va, uint64_t end);
void hl_free_tables(hl_space *s, uint64_t start, uint64_t end, uint64_t floor, uint64_t ceiling);

hl_context *hl_context_new(hl_space *s, void *handle);
void hl_context_delete(hl_context *c);
void hl_context_switch(hl_context *c, hl_space *s);
void hl_flush_page(hl_space *s, uint64_t va);
void hl_flush_space(hl_space *s);
uint64_t hl_tlb_entries(const hl_space *s);
uint64_t hl_tlb_stale(hl_machine *m, uint64_t *va);
uint64_t hl_load(hl_context *c, uint64_t va, unsigned size);
int hl_store(hl_context *c, uint64_t va, uint64_t value, unsigned size);
uint64_t hl_load64(hl_context *c, uint64_t va);
int hl_store64(hl_context *c, uint64_t va, uint64_t value);
int hl_cas64(hl_context *c, uint64_t va, uint64_t old, uint64_t new_value);
int hl_copy(hl_context *c, uint64_t dst, uint64_t src, uint64_t n);
int hl_fill(hl_context *c, uint64_t dst, uint8_t byte, uint64_t n);
int hl_read(hl_context *c, uint64_t va, uint8_t *out, uint64_t n);
int hl_write(hl_context *c, uint64_t va, const uint8_t *in, uint64_t n);
void hl_set_fuel(hl_context *c, uint64_t references);
uint64_t hl_fuel(const hl_context *c);
uint64_t hl_loads(const hl_context *c);

int hl_observe(hl_context *c, uint64_t keep);
void hl_observe_stop(hl_context *c);
uint64_t hl_order(const hl_context *c);
uint64_t hl_recent(const hl_context *c, uint64_t n, uint64_t *addresses, uint8_t *is_store);

hl_context *hl_look_new(hl_space *s, void *handle);

extern "Python" int hl_py_fault(void *handle, uint64_t va, unsigned error_code);
extern "Python" int64_t hl_py_syscall(void *handle, int nr, uint64_t a0, uint64_t a1, uint64_t a2,
                                      uint64_t a3, uint64_t a4, uint64_t a5);
extern "Python" uint64_t hl_py_look(void *handle, uint64_t va, uint8_t *page);
