#define HL_OP_MALLOC ...
#define HL_OP_FREE ...
#define HL_OP_CALLOC ...
#define HL_OP_REALLOC ...
#define HL_OP_ALIGNED ...
#define HL_OP_FORK ...
#define HL_OP_EXEC ...
#define HL_OP_EXIT ...
#define HL_OP_THREAD_EXIT ...
#define HL_NULL_ID ...

typedef struct {
    const uint8_t *op;
    const uint32_t *id;
    const uint64_t *size;
    const uint32_t *align;
    const uint16_t *thread;
    const uint16_t *process;
} hl_events;

typedef struct {
    ...;
} hl_slot;

#define HL_REPLAY_DONE ...
#define HL_REPLAY_PROCESS ...
#define HL_REPLAY_NO_MEMORY ...
#define HL_REPLAY_MISALIGNED ...
#define HL_REPLAY_NOWHERE ...
#define HL_REPLAY_OVERLAP ...
#define HL_REPLAY_TOO_LARGE ...
#define HL_REPLAY_NO_ACCESS ...
#define HL_REPLAY_NOT_ZERO ...
#define HL_REPLAY_WRONG_BYTE ...
#define HL_REPLAY_KILLED ...
#define HL_REPLAY_RAISED ...
#define HL_REPLAY_HOST_MEMORY ...
#define HL_HEAP_RAISED ...
#define HL_MEMS_BUCKETS ...

typedef struct {
    uint64_t total;
    uint64_t most;
    uint64_t count[...];
} hl_tally;

typedef struct {
    uint64_t most;
    uint64_t event;
    uint64_t live;
    uint64_t heap;
    uint64_t resident;
} hl_peak;

typedef uint64_t (*hl_heap_fn)(void *handle, int op, uint64_t p, uint64_t size, uint64_t align);

typedef struct {
    uint64_t event;
    uint64_t live;
    uint64_t heap;
    uint64_t resident;
} hl_sample;

typedef struct {
    uint64_t *address;
    uint32_t *mems;
    uint32_t *faults;
    uint64_t *live;
    uint64_t *heap;
    uint64_t *resident;
} hl_log;

typedef struct {
    int verify;
    int payload;
    uint64_t mems_limit;
    const uint64_t *sample_at;
    hl_sample *samples;
    uint64_t events;
    uint64_t row;
    uint64_t sampled;
    hl_sample now;
    uint64_t faults;
    uint64_t strayed;
    hl_tally *lines;
    hl_peak peak_live;
    hl_peak peak_heap;
    hl_peak peak_resident;
    uint64_t sum_live;
    uint64_t sum_heap_pages;
    uint64_t sum_resident_pages;
    uint64_t ops;
    uint64_t remote_frees;
    hl_tally mems;
    uint64_t ns;
    uint64_t bad_process;
    uint64_t bad_id;
    uint64_t bad_address;
    uint64_t bad_size;
    uint64_t bad_offset;
    uint64_t other_id;
    uint64_t other_address;
    uint64_t other_size;
    ...;
} hl_replay;

hl_replay *hl_replay_new(hl_machine *m, hl_heap_fn call);
void hl_replay_delete(hl_replay *r);
int hl_replay_start(hl_replay *r, uint64_t number, hl_context *c, hl_heap *heap, void *handle);
int hl_replay_fork(hl_replay *r, const hl_replay *from, uint64_t parent, uint64_t number, hl_context *c,
                   hl_heap *heap, void *handle);
hl_replay *hl_replay_branch(const hl_replay *r);
void hl_replay_log(hl_replay *r, const hl_log *log);
void hl_replay_compare(hl_replay *r, const hl_log *log);
int hl_replay_count_lines(hl_replay *r);
void hl_replay_end(hl_replay *r, uint64_t number);
int hl_replay_run(hl_replay *r, const hl_events *events, uint64_t stop);
void hl_replay_passed(hl_replay *r);
int hl_replay_verify(hl_replay *r, uint64_t number);
const hl_slot *hl_replay_slots(const hl_replay *r, uint64_t number, uint64_t *count);
const uint32_t *hl_replay_born(const hl_replay *r, uint64_t number);
void hl_replay_origins(const hl_events *events, uint64_t n, uint64_t process, uint64_t count,
                       uint64_t *event);
uint64_t hl_mems_bucket(uint64_t mems);
uint64_t hl_mems_bucket_top(uint64_t bucket);

extern "Python" uint64_t hl_py_heap(void *handle, int op, uint64_t p, uint64_t size, uint64_t align);
