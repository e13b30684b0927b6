#define HL_TRAIL_ASK ...
#define HL_TRAIL_WORD ...

typedef struct {
    uint64_t first;
    uint64_t *address;
    uint64_t *lead;
    uint64_t *span;
    uint64_t *word;
    hl_heap *const *seen;
    uint64_t header;
    uint64_t mask;
    uint64_t *known;
    uint64_t capacity;
    uint64_t count;
} hl_trail;

int hl_replay_trail(hl_replay *r, const hl_events *events, uint64_t stop, hl_trail *trail);
