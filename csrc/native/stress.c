/* Programs that are hard on malloc: `stress MODE [NUMBER]`.  Each ends with status 0 and one line, or says what is wrong.
 *
 *   mix N       N threads allocate, resize and free, also each other's blocks, and fork; threads end and others begin
 *   share N     the same without forks
 *   forks N     N forks from one thread while three others allocate; the children allocate, and begin a thread
 *   crowd N     N threads live at once, and free each other's blocks
 *   refill N    N threads live at once; half of them end, and others begin while the rest still allocate
 *   ends N      N threads after one another; destructors of thread keys, and functions of atexit, allocate and free
 *   limits N    until malloc gives NULL, under a limit of N MiB of address space (or of data: limits -N)
 *   spawn N     N times vfork, posix_spawn and popen, from two threads
 *   clone N     N children by clone, past the C library
 *   loads N     N times dlopen and dlclose of the library that LIBRARY in the environment names
 *
 * The proof is a shadow: a bit for each 16 bytes of address space, set while the bytes are a live block's.  It is one
 * mapping, most of it never touched, so it asks no malloc.  A bit is set after malloc has returned and cleared before
 * free is called: a bit that is set twice is two blocks in one place.  Every block is full of a pattern of its own.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

/* Ends the process without the C library's help: its locks may be somebody's. */
static _Noreturn void fail(const char *why)
{
    if (write(STDERR_FILENO, why, strlen(why)) < 0 || write(STDERR_FILENO, "\n", 1) < 0)
        _exit(99);
    _exit(98);
}

#define DEMAND(what)                                                                                          \
    do {                                                                                                      \
        if (!(what))                                                                                          \
            fail("stress: not so: " #what);                                                                   \
    } while (0)

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    return *state ^= *state << 17;
}

/* ---- the shadow ---- */

static uint64_t *shadow; /* NULL: none is kept */

static void shadow_begin(void)
{
    shadow = mmap(NULL, (size_t)1 << 40, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    DEMAND(shadow != MAP_FAILED);
}

/* Sets or clears the bits of the bytes of a block. */
static void shadow_turn(const void *p, size_t bytes, int on)
{
    if (!shadow)
        return;
    uint64_t granule = (uint64_t)(uintptr_t)p / 16, end = granule + (bytes + 15) / 16;
    while (granule < end) {
        uint64_t n = 64 - granule % 64;
        if (n > end - granule)
            n = end - granule;
        uint64_t mask = (n == 64 ? ~0ull : (1ull << n) - 1) << granule % 64, *word = &shadow[granule / 64];
        uint64_t was = on ? __atomic_fetch_or(word, mask, __ATOMIC_ACQ_REL)
                          : __atomic_fetch_and(word, ~mask, __ATOMIC_ACQ_REL);
        if (on && was & mask)
            fail("stress: two live blocks overlap");
        if (!on && (was & mask) != mask)
            fail("stress: a block was freed that was not live");
        granule += n;
    }
}

/* ---- blocks ---- */

/* What stands at the beginning of each block; the rest repeats `mark`. */
typedef struct block {
    uint64_t size, mark;
} block;

static void fill(block *b, uint64_t size, uint64_t mark)
{
    uint64_t *word = (uint64_t *)b;
    b->size = size;
    for (uint64_t i = 1; i < size / 8; i++)
        word[i] = mark + i * 0x9E3779B97F4A7C15ull;
    word[1] = mark;
}

static void verify(const block *b, uint64_t most)
{
    const uint64_t *word = (const uint64_t *)b;
    uint64_t n = b->size < most ? b->size : most;
    for (uint64_t i = 2; i < n / 8; i++)
        if (word[i] != b->mark + i * 0x9E3779B97F4A7C15ull)
            fail("stress: a payload has changed");
}

static block *born(void *p, uint64_t size, uint64_t mark)
{
    if (!p)
        return NULL;
    DEMAND((uintptr_t)p % 16 == 0);
    DEMAND(malloc_usable_size(p) >= size);
    shadow_turn(p, size, 1);
    fill(p, size, mark);
    return p;
}

/* A size: mostly small, now and then large. */
static uint64_t a_size(uint64_t *state)
{
    uint64_t r = next_random(state);
    if (r % 4096 == 0)
        return 16 + (r >> 20) % (1u << 20);
    if (r % 64 == 0)
        return 16 + (r >> 20) % 40000;
    return 16 + (r >> 20) % (r % 8 ? 240 : 2000);
}

static block *make(uint64_t *state)
{
    uint64_t size = a_size(state), r = next_random(state);
    void *p;
    if (r % 16 == 0) {
        size_t alignment = (size_t)16 << (r >> 8) % 10;
        if (posix_memalign(&p, alignment, size))
            return NULL;
        DEMAND((uintptr_t)p % alignment == 0);
    } else if (r % 16 == 1) {
        p = calloc(1, size);
        for (uint64_t i = 0; p && i < size; i++)
            DEMAND(!((char *)p)[i]);
    } else {
        p = malloc(size);
    }
    return born(p, size, r);
}

static block *resize(block *b, uint64_t *state)
{
    uint64_t size = a_size(state), old = b->size;
    verify(b, UINT64_MAX);
    shadow_turn(b, old, 0);
    block *to = realloc(b, size);
    if (!to) {
        shadow_turn(b, old, 1);
        return b;
    }
    uint64_t kept = old < size ? old : size;
    verify(to, kept);
    return born(to, size, next_random(state));
}

static void drop(block *b)
{
    if (!b)
        return;
    verify(b, UINT64_MAX);
    shadow_turn(b, b->size, 0);
    free(b);
}

/* ---- blocks that threads hand to each other ---- */

enum { PLACES = 4096 };
static block *place[PLACES];

/* Puts b, or nothing, there, and takes what was there. */
static block *swap(uint64_t n, block *b) { return __atomic_exchange_n(&place[n % PLACES], b, __ATOMIC_ACQ_REL); }

static void work(uint64_t *state, int steps)
{
    block *mine[32] = {NULL};
    while (steps--) {
        uint64_t r = next_random(state), n = r >> 8;
        block **at = &mine[n % 32];
        switch (r % 8) {
        case 0:
        case 1:
        case 2:
            drop(swap(n, make(state)));
            break;
        case 3:
            if (*at)
                *at = resize(*at, state);
            break;
        case 4:
            drop(swap(n, NULL));
            break;
        case 5:
            *at = swap(n, *at);
            break;
        default:
            drop(*at);
            *at = make(state);
        }
    }
    for (int i = 0; i < 32; i++)
        drop(mine[i]);
}

static void drop_all(void)
{
    for (uint64_t i = 0; i < PLACES; i++)
        drop(swap(i, NULL));
}

static void *work_some(void *seed)
{
    uint64_t state = (uintptr_t)seed * 0x9E3779B97F4A7C15ull | 1;
    work(&state, 2000);
    return NULL;
}

/* Small stacks: there may be thousands. */
static int begin(pthread_t *thread, void *(*does)(void *), uintptr_t with)
{
    pthread_attr_t attributes;
    DEMAND(!pthread_attr_init(&attributes));
    DEMAND(!pthread_attr_setstacksize(&attributes, 128 << 10));
    int error = pthread_create(thread, &attributes, does, (void *)with);
    DEMAND(!pthread_attr_destroy(&attributes));
    return error;
}

static void run_thread(void *(*does)(void *), uintptr_t with)
{
    pthread_t thread;
    DEMAND(!begin(&thread, does, with));
    DEMAND(!pthread_join(thread, NULL));
}

/* What a forked child does: also with blocks of threads that it does not have. */
static _Noreturn void live_as_child(uint64_t seed, int with_thread)
{
    alarm(60);
    uint64_t state = seed | 1;
    work(&state, 300);
    if (with_thread)
        run_thread(work_some, seed);
    if (seed % 8 == 1)
        drop_all();
    _exit(7);
}

static void await(pid_t child, int status)
{
    int how = 0;
    pid_t found;
    do
        found = waitpid(child, &how, 0);
    while (found < 0 && errno == EINTR);
    if (found != child || !WIFEXITED(how) || WEXITSTATUS(how) != status) {
        char line[120];
        int n = snprintf(line, sizeof line, "stress: a child ended with wait status 0x%x", how);
        line[n] = 0;
        fail(line);
    }
}

/* ---- modes ---- */

static int forkless;

static void *mix_thread(void *seed)
{
    uint64_t state = (uintptr_t)seed * 0x9E3779B97F4A7C15ull | 1;
    for (int round = 0; round < 40; round++) {
        work(&state, 2500);
        if (round % 10 == 9 && !forkless) {
            pid_t child = fork();
            DEMAND(child >= 0);
            if (!child)
                live_as_child(next_random(&state), round % 20 == 9);
            await(child, 7);
        } else if (round % 10 == 4) {
            run_thread(work_some, (uintptr_t)next_random(&state) >> 1);
        }
    }
    return NULL;
}

static void mix(int n)
{
    pthread_t thread[64];
    for (int i = 0; i < n; i++)
        DEMAND(!begin(&thread[i], mix_thread, (uintptr_t)i + 1));
    for (int i = 0; i < n; i++)
        DEMAND(!pthread_join(thread[i], NULL));
    drop_all();
}

static void share(int n)
{
    forkless = 1;
    mix(n);
}

static int over;

static void *work_until_over(void *seed)
{
    uint64_t state = (uintptr_t)seed * 0x9E3779B97F4A7C15ull | 1;
    while (!__atomic_load_n(&over, __ATOMIC_ACQUIRE))
        work(&state, 500);
    return NULL;
}

static void forks(int n)
{
    pthread_t thread[3];
    for (int i = 0; i < 3; i++)
        DEMAND(!begin(&thread[i], work_until_over, (uintptr_t)i + 1));
    for (int i = 0; i < n; i++) {
        pid_t child = fork();
        DEMAND(child >= 0);
        if (!child)
            live_as_child((uint64_t)i + 1, i % 8 == 0);
        await(child, 7);
    }
    __atomic_store_n(&over, 1, __ATOMIC_RELEASE);
    for (int i = 0; i < 3; i++)
        DEMAND(!pthread_join(thread[i], NULL));
    drop_all();
}

static pthread_barrier_t all_are_here;

static void *crowd_thread(void *number)
{
    uint64_t n = (uintptr_t)number, state = n * 0x9E3779B97F4A7C15ull | 1;
    block *mine[4];
    for (int i = 0; i < 4; i++) {
        mine[i] = born(malloc(100), 100, n);
        DEMAND(mine[i]);
    }
    drop(swap(n, mine[0]));
    pthread_barrier_wait(&all_are_here); /* all threads have blocks now */
    drop(swap(n * 7919 + 1, NULL));
    for (int i = 1; i < 4; i++)
        drop(mine[i]);
    block *b = make(&state);
    DEMAND(b);
    pthread_barrier_wait(&all_are_here); /* none has ended yet */
    drop(b);
    return NULL;
}

static void crowd(int n)
{
    pthread_t *thread = malloc((size_t)n * sizeof *thread);
    DEMAND(!pthread_barrier_init(&all_are_here, NULL, (unsigned)n));
    for (int i = 0; i < n; i++)
        if (begin(&thread[i], crowd_thread, (uintptr_t)i + 1)) {
            printf("this computer has no room for %d threads\n", n);
            exit(77);
        }
    for (int i = 0; i < n; i++)
        DEMAND(!pthread_join(thread[i], NULL));
    free(thread);
    drop_all();
}

static int refill_is_over;

static void *refill_thread(void *number)
{
    uint64_t n = (uintptr_t)number, state = n * 0x9E3779B97F4A7C15ull | 1;
    work(&state, 20);
    pthread_barrier_wait(&all_are_here);
    while (n % 2 && !__atomic_load_n(&refill_is_over, __ATOMIC_RELAXED)) {
        work(&state, 5);
        sched_yield();
    }
    return NULL;
}

static void *late_thread(void *number)
{
    uint64_t state = (uintptr_t)number * 0x9E3779B97F4A7C15ull | 1;
    work(&state, 5000);
    return NULL;
}

static void refill(int n)
{
    pthread_t thread[512], late[8];
    DEMAND(n <= 512);
    DEMAND(!pthread_barrier_init(&all_are_here, NULL, (unsigned)n + 1));
    for (int i = 0; i < n; i++)
        DEMAND(!begin(&thread[i], refill_thread, (uintptr_t)i));
    pthread_barrier_wait(&all_are_here);
    for (int i = 0; i < n; i += 2)
        DEMAND(!pthread_join(thread[i], NULL));
    for (int i = 0; i < 8; i++)
        DEMAND(!begin(&late[i], late_thread, (uintptr_t)(n + i)));
    for (int i = 0; i < 8; i++)
        DEMAND(!pthread_join(late[i], NULL));
    __atomic_store_n(&refill_is_over, 1, __ATOMIC_RELAXED);
    for (int i = 1; i < n; i += 2)
        DEMAND(!pthread_join(thread[i], NULL));
    drop_all();
}

/* Destructors run up to PTHREAD_DESTRUCTOR_ITERATIONS times: each time this one leaves another block. */
static pthread_key_t early, late;
static _Thread_local int rounds;

static void at_end_of_thread(void *p)
{
    uint64_t state = (uintptr_t)p | 1;
    drop(p);
    work(&state, 20);
    if (rounds++ < 6)
        pthread_setspecific(rounds % 2 ? early : late, make(&state));
}

static void *ending_thread(void *number)
{
    uint64_t state = (uintptr_t)number * 0x9E3779B97F4A7C15ull | 1;
    DEMAND(!pthread_setspecific(early, make(&state)));
    DEMAND(!pthread_setspecific(late, make(&state)));
    drop(swap(next_random(&state), make(&state)));
    if ((uintptr_t)number % 3 == 0)
        pthread_exit(NULL);
    return NULL;
}

static block *until_exit;

static void at_end_of_program(void)
{
    uint64_t state = 77;
    drop(until_exit);
    drop_all();
    work(&state, 1000);
}

/* Before main, and after it. */
static __attribute__((constructor(101))) void before_main(int count, char **word)
{
    uint64_t state = 99;
    if (count < 2 || (strcmp(word[1], "limits") != 0 && !getenv("STRESS_PLAIN")))
        shadow_begin();
    work(&state, 500);
    until_exit = make(&state);
}

static __attribute__((destructor(101))) void after_all(void)
{
    uint64_t state = 55;
    work(&state, 500);
}

static void ends(int n)
{
    DEMAND(!pthread_key_create(&early, at_end_of_thread));
    DEMAND(!atexit(at_end_of_program));
    DEMAND(!pthread_key_create(&late, at_end_of_thread));
    for (int i = 0; i < n; i++) {
        pthread_t one, other;
        DEMAND(!begin(&one, ending_thread, (uintptr_t)i + 1));
        DEMAND(!begin(&other, ending_thread, (uintptr_t)i + 100000));
        DEMAND(!pthread_join(one, NULL));
        if (i % 2)
            DEMAND(!pthread_join(other, NULL));
        else
            DEMAND(!pthread_detach(other));
    }
}

/* Links blocks of `size` bytes before `newest` until malloc gives NULL, or until there are `most` bytes of them. */
static void *fill_up(void *newest, uint64_t size, uint64_t most, uint64_t *sum)
{
    for (*sum = 0; *sum < most; *sum += size) {
        errno = 0;
        void *p = malloc(size);
        if (!p) {
            DEMAND(errno == ENOMEM);
            return newest;
        }
        *(void **)p = newest;
        newest = p;
    }
    return newest;
}

static void free_all(void *newest)
{
    while (newest) {
        void *next = *(void **)newest;
        free(newest);
        newest = next;
    }
}

enum { MOST = 1 << 30 }; /* no limit of the tests is as high */

/* Whole MiB that can be had in blocks of `size` bytes, after `held` bytes in blocks of 1 MiB. */
static unsigned long long room_for(uint64_t size, uint64_t held)
{
    uint64_t sum, before;
    void *newest = fill_up(fill_up(NULL, 1 << 20, held, &before), size, MOST, &sum);
    DEMAND(sum < MOST && newest);
    errno = 0;
    DEMAND(!calloc(1024, MOST / 1024) && errno == ENOMEM);
    memset((char *)newest + 8, 5, size - 8);
    errno = 0;
    DEMAND(!realloc(newest, MOST) && errno == ENOMEM);
    DEMAND(((char *)newest)[size - 1] == 5);
    free_all(newest);
    return (before + sum) >> 20;
}

static void *room_in_thread(void *size)
{
    printf("%llu MiB in a thread\n", room_for((uintptr_t)size, 0));
    return NULL;
}

static void limits(int n)
{
    uint64_t bytes = (uint64_t)(n < 0 ? -n : n) << 20;
    struct rlimit limit = {bytes, bytes};
    pthread_t thread;
    if (n)
        DEMAND(!setrlimit(n < 0 ? RLIMIT_DATA : RLIMIT_AS, &limit));
    static const uint64_t sizes[] = {100, 5000, 70000, 1 << 20, 100};
    for (int i = 0; i < 5; i++)
        printf("%llu MiB in blocks of %llu bytes\n", room_for(sizes[i], 0), (unsigned long long)sizes[i]);
    printf("%llu MiB, half of it in large blocks\n", room_for(100, bytes / 2));
    if (!begin(&thread, room_in_thread, 60000))
        DEMAND(!pthread_join(thread, NULL));
}

extern char **environ;

static char *const true_words[] = {"true", NULL};

static __attribute__((noinline)) pid_t vfork_true(void)
{
    pid_t child = vfork();
    if (!child) {
        execvp("true", true_words);
        _exit(9);
    }
    return child;
}

static void *spawn_thread(void *times)
{
    uint64_t state = (uintptr_t)times | 1;
    for (uintptr_t i = 0; i < (uintptr_t)times; i++) {
        pid_t child = vfork_true();
        await(child, 0);
        work(&state, 100);
        DEMAND(!posix_spawnp(&child, "true", NULL, NULL, true_words, environ));
        await(child, 0);
        char line[20] = "";
        FILE *pipe = popen("echo said", "r");
        DEMAND(pipe && fgets(line, sizeof line, pipe) && !strcmp(line, "said\n") && !pclose(pipe));
        work(&state, 100);
    }
    return NULL;
}

static void spawn(int n)
{
    pthread_t thread;
    DEMAND(!begin(&thread, spawn_thread, (uintptr_t)n));
    spawn_thread((void *)(uintptr_t)n);
    DEMAND(!pthread_join(thread, NULL));
    drop_all();
}

static void clones(int n)
{
    uint64_t state = 3;
    for (int i = 0; i < n; i++) {
        work(&state, 300);
        pid_t child = (pid_t)syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
        DEMAND(child >= 0);
        if (!child)
            live_as_child((uint64_t)i, 0);
        await(child, 7);
    }
    drop_all();
}

static void *load_thread(void *times)
{
    uint64_t state = (uintptr_t)times | 1;
    for (uintptr_t i = 0; i < (uintptr_t)times; i++) {
        void *library = dlopen(getenv("LIBRARY"), RTLD_NOW);
        if (!library)
            fail(dlerror());
        void *(*gives)(size_t);
        *(void **)&gives = dlsym(library, "library_gives");
        DEMAND(gives);
        void *p = gives(100);
        DEMAND(!dlsym(library, "no such name") && dlerror());
        work(&state, 200);
        DEMAND(!dlclose(library));
        free(p);
    }
    return NULL;
}

static void loads(int n)
{
    pthread_t thread;
    DEMAND(!begin(&thread, load_thread, (uintptr_t)n));
    load_thread((void *)(uintptr_t)n);
    DEMAND(!pthread_join(thread, NULL));
    drop_all();
}

int main(int count, char **word)
{
    static const struct {
        const char *name;
        void (*run)(int);
    } modes[] = {{"mix", mix},   {"share", share},   {"forks", forks}, {"crowd", crowd}, {"refill", refill}, {"ends", ends},
                 {"limits", limits}, {"spawn", spawn}, {"clone", clones}, {"loads", loads}};
    alarm(300);
    for (size_t i = 0; count == 3 && i < sizeof modes / sizeof *modes; i++)
        if (!strcmp(word[1], modes[i].name)) {
            modes[i].run(atoi(word[2]));
            printf("%s: done\n", word[1]);
            return 0;
        }
    fprintf(stderr, "usage: stress mix|share|forks|crowd|ends|limits|spawn|clone|loads NUMBER\n");
    return 2;
}
