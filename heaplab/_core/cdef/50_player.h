#define HL_PLAY_TIME ...
#define HL_PLAY_FLOOR ...
#define HL_PLAY_LATENCY ...
#define HL_PLAY_SPACE ...
#define HL_PLAY_EMPTY ...
#define HL_PLAY_WATCHED ...
#define HL_PLAY_DUEL ...

#define HL_BY_MEMALIGN ...
#define HL_BY_POSIX_MEMALIGN ...
#define HL_BY_ALIGNED_ALLOC ...
#define HL_BY_NONE ...

#define HL_PLAY_RUNNING ...
#define HL_PLAY_DONE ...
#define HL_PLAY_NO_MEMORY ...
#define HL_PLAY_NO_ALIGNED ...
#define HL_PLAY_MISALIGNED ...
#define HL_PLAY_NOT_ZERO ...
#define HL_PLAY_WRONG_BYTE ...
#define HL_PLAY_NO_ACCESS ...
#define HL_PLAY_SIGNAL ...
#define HL_PLAY_HOST ...

typedef struct {
    uint64_t slots;
    uint64_t slot_count;
    uint32_t first_actor;
    uint32_t actor_count;
    int32_t pid;
    ...;
} hl_play_process;

typedef struct {
    uint32_t number;
    ...;
} hl_play_actor;

typedef struct {
    ...;
} hl_play_family;

typedef struct {
    uint64_t event;
    uint64_t live;
    uint64_t heap;
    uint64_t resident;
} hl_play_sample;

typedef struct {
    uint64_t op_at;
    uint64_t id_at;
    uint64_t size_at;
    uint64_t align_at;
    uint64_t thread_at;
    uint64_t process_at;
    uint64_t actor_at;
    uint64_t processes_at;
    uint64_t actors_at;
    uint64_t families_at;
    uint64_t sample_at;
    uint64_t samples_at;
    uint64_t ticks_at;
    uint64_t places_at;
    uint64_t calls_at;
    uint64_t watch_at;
    uint64_t kept_at;
    uint64_t keep_after;
    uint64_t events;
    uint64_t processes;
    uint32_t pass;
    uint32_t aligned;
    uint32_t threads;
    uint32_t natural;
    uint64_t row;
    uint32_t turn;
    uint64_t sampled;
    uint32_t kept_process;
    uint64_t kept_heap_start;
    uint64_t kept_heap;
    uint64_t operations;
    uint64_t remote_frees;
    uint64_t looks;
    uint64_t faults;
    uint64_t live;
    uint64_t heap;
    uint64_t resident;
    uint64_t peak_live;
    uint64_t peak_heap;
    uint64_t peak_resident;
    uint64_t end_heap;
    uint64_t end_resident;
    uint64_t freed_heap;
    uint64_t freed_resident;
    uint32_t counts_calls;
    uint64_t brk_calls;
    uint64_t mmap_calls;
    uint64_t ns;
    uint64_t wall_ns;
    uint64_t wall_ticks;
    uint64_t overhead;
    uint32_t why;
    int32_t signal;
    int32_t error;
    uint32_t bad_id;
    uint64_t bad_address;
    uint64_t bad_size;
    uint64_t bad_offset;
    ...;
} hl_player;

#define HL_WATCH_NOTHING ...
#define HL_WATCH_NO_END ...
#define HL_WATCH_PAYLOAD ...
#define HL_WATCH_STORE ...
#define HL_WATCH_LOAD ...
#define HL_WATCH_INIT ...
#define HL_WATCH_SKEWED ...
#define HL_WATCH_NOT_THERE ...
#define HL_WATCH_OVERLAP ...
#define HL_WATCH_NO_REALLOC ...
#define HL_WATCH_CHECKHEAP ...
#define HL_WATCH_EXIT ...

typedef struct {
    uint64_t most;
    uint64_t refuse;
    uint64_t align;
    uint32_t checks;
    uint32_t why;
    uint64_t mems;
    uint64_t bulk;
    uint64_t halves;
    uint64_t growths;
    uint64_t heap;
    uint64_t heap_start;
    uint64_t site;
    uint64_t address;
    uint64_t width;
    uint64_t result;
    uint64_t subject;
    ...;
} hl_watch;
