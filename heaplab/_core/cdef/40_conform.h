#define AGENT_BASE ...
#define AGENT_SLOTS ...
#define AGENT_SLOT_SIZE ...
#define AGENT_END ...
#define AGENT_AGENTS_TURN ...
#define AGENT_SYSCALL ...
#define AGENT_FORK ...
#define AGENT_LOAD ...
#define AGENT_STORE ...

typedef struct {
    uint32_t turn;
    uint32_t op;
    uint64_t nr;
    uint64_t args[6];
    uint32_t size;
    uint32_t fatal;
    uint32_t child;
    uint32_t signo;
    int32_t code;
    int32_t pid;
    uint64_t address;
    int64_t result;
    uint64_t minflt;
    uint64_t scratch[...];
    ...;
} hl_agent_slot;

int hl_agent_run(hl_agent_slot *slot, uint32_t milliseconds);
int hl_agent_wait(hl_agent_slot *slot, uint32_t milliseconds);
