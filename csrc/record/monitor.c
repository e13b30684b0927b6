/* The monitor: starts the program that is recorded, gives memory to the recorders in its processes, and
   sees each of them end.

       monitor DIRECTORY STATUS RESIDENT WAIT STACKS ADDRESS PROGRAM ARGV...

   DIRECTORY    takes the raw files IMAGE.rec (recorder.h), `events`, and `resident`; holds `environment`, the
                program's, each variable ended by a zero
   STATUS       the descriptor of a pipe for lines to who started the monitor:
                `started`, or `refused ERRNO`; `ended STATUS` as wait(2) has it; `waiting COUNT`
   RESIDENT     nanoseconds between two looks at each process's resident size; 0: none
   WAIT         wait, or nowait: end with the program, even if it leaves processes behind
   STACKS       stacks, or nostacks: whether call stacks are logged
   ADDRESS      the program's HEAPLAB_RECORD (monitor.h)

   `events` has lines of fields between tabs; TIME is the recording's clock:
       died PROCESS TIME           left PROCESS (it still runs; -1: one that the monitor has not met)
       unseen PROCESS PATH         restored PROCESS PATH       unreachable PROCESS PATH
       module IMAGE START PATH     lost IMAGE ERRNO
       clock NANOSECONDS TIME NANOSECONDS, at the beginning (TIME 0) and at the end
   `resident` has structs resident.

   The program is the monitor's child, and processes whose parent has ended become its children too
   (PR_SET_CHILD_SUBREAPER).  Of a death of any other the monitor learns by a pidfd.  It looks for deaths
   before each answer: so a process's log begins later than the deaths of those that its parent waited for.

   After the program has ended, the monitor waits for the processes left behind, until SIGINT or SIGTERM.
   Before, it passes SIGTERM and SIGHUP on to the program, and bears SIGINT, which a terminal sends to both. */
#define _GNU_SOURCE
#include "clock.h"
#include "monitor.h"
#include "recorder.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define PATIENCE 1000000000u /* nanoseconds after which who waits for processes left behind is told so */

struct chunk {
    struct chunk *next;
    struct record *records;
    int file;
    uint64_t first; /* its place in the log */
    uint64_t count; /* of records */
};

struct image {
    struct image *next;
    struct process *process;
    struct chunk *chunks; /* not yet written away, in order */
    uint64_t number;
    uint64_t finished; /* chunks 1 to `finished` are written away */
    uint64_t unmapped; /* and the program has been told of so many: it unmaps them */
    int error;         /* errno of what could not be written */
};

struct process {
    struct process *next;
    uint64_t number;
    pid_t pid;
    int pidfd;      /* -1: it had ended before the monitor met it, and only what it told is known */
    bool dead;
    bool expects;   /* it was about to exec `path` */
    uint32_t flags; /* and what was done to its environment: enum ask_flags */
    char path[PATH_MAX];
};

struct resident {
    uint64_t process;
    uint64_t time;
    uint64_t bytes;
};

static const char *directory;
static FILE *events;
static FILE *residents;
static FILE *status_pipe;
static uint64_t base, started_at; /* what the clock, and the clock in nanoseconds, showed at the beginning */
static uint32_t counter;
static int listeners[2], tells[2]; /* sockets: by abstract names, and in SOCKET_FOLDER; -1 if there is none */
static int deaths;                 /* an epoll of all pidfds */
static struct process *processes;
static struct image *images;
static uint64_t process_count, image_count, living;
/* Chunks that wait for a log, by size. */
static struct pool {
    const uint64_t records;
    const unsigned most;
    unsigned count;
    struct chunk *chunks;
} pools[] = {{RAW_FIRST_CHUNK_RECORDS, 8, 0, NULL}, {RAW_CHUNK_RECORDS, 2, 0, NULL}};

static char token[TOKEN_LENGTH + 1];
static struct sockaddr_un visibles[2] = {{.sun_family = AF_UNIX}, {.sun_family = AF_UNIX}}; /* in SOCKET_FOLDER */
static pid_t program;
static bool program_ended, stopped, patient, with_stacks;
static uint64_t ended_at;

static uint64_t now(void)
{
    return read_clock(counter) - base;
}

static _Noreturn void refuse(int error)
{
    fprintf(status_pipe, "refused %d\n", error);
    fflush(status_pipe);
    unlink(visibles[0].sun_path);
    unlink(visibles[1].sun_path);
    exit(1);
}

/* ---- Chunks ------------------------------------------------------------------------------------------ */

static void free_chunk(struct chunk *chunk)
{
    if (chunk->records != MAP_FAILED)
        munmap(chunk->records, chunk->count * sizeof(struct record));
    if (chunk->file >= 0)
        close(chunk->file);
    free(chunk);
}

/* A chunk of zeros with all its pages there; NULL and errno. */
static struct chunk *make_chunk(uint64_t count)
{
    size_t size = count * sizeof(struct record);
    struct chunk *chunk = calloc(1, sizeof *chunk);
    if (chunk == NULL)
        return NULL;
    chunk->count = count;
    chunk->records = MAP_FAILED;
    chunk->file = memfd_create("heaplab", MFD_CLOEXEC);
    if (chunk->file >= 0 && ftruncate(chunk->file, (off_t)size) == 0)
        chunk->records = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, chunk->file, 0);
    if (chunk->records == MAP_FAILED) {
        int error = errno;
        free_chunk(chunk);
        errno = error;
        return NULL;
    }
    return chunk;
}

static struct pool *pool_of(uint64_t count)
{
    return &pools[count == pools[1].records];
}

/* A chunk for a log: a spare one if there is one. */
static struct chunk *take_chunk(uint64_t first, uint64_t count)
{
    struct pool *pool = pool_of(count);
    struct chunk *chunk = pool->chunks;
    if (chunk != NULL) {
        pool->chunks = chunk->next;
        pool->count--;
    } else if ((chunk = make_chunk(count)) == NULL) {
        return NULL;
    }
    chunk->next = NULL;
    chunk->first = first;
    return chunk;
}

static void keep_spare(struct chunk *chunk)
{
    struct pool *pool = pool_of(chunk->count);
    chunk->next = pool->chunks;
    pool->chunks = chunk;
    pool->count++;
}

/* Keep a chunk that no program writes to any more for another log, or free it.  Memory that was used before
   is cheaper than memory that the kernel has to find. */
static void give_back(struct chunk *chunk)
{
    if (pool_of(chunk->count)->count >= pool_of(chunk->count)->most) {
        free_chunk(chunk);
        return;
    }
    memset(chunk->records, 0, chunk->count * sizeof(struct record));
    keep_spare(chunk);
}

/* Have one chunk of each size ready. */
static void fill_pools(void)
{
    for (size_t size = 0; size < 2; size++) {
        struct chunk *chunk = pools[size].count == 0 ? make_chunk(pools[size].records) : NULL;
        if (chunk != NULL)
            keep_spare(chunk);
    }
}

/* How many records of the chunk are in use: behind them there are none, finished or not. */
static uint64_t used(const struct chunk *chunk)
{
    uint64_t end = chunk->count;
    while (end > 0 && chunk->records[end - 1].word[0] == 0)
        end--;
    return end;
}

static bool finished(const struct chunk *chunk)
{
    for (uint64_t index = chunk->count; index > 0; index--)
        if (chunk->records[index - 1].word[0] == 0)
            return false;
    return true;
}

/* Write the chunk to the image's file.  Returns false when there is no room. */
static bool write_away(struct image *image, const struct chunk *chunk)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%llu.rec", directory, (unsigned long long)image->number);
    int file = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    const char *from = (const char *)chunk->records;
    size_t left = used(chunk) * sizeof(struct record);
    off_t at = (off_t)(chunk->first * sizeof(struct record));
    ssize_t written = 0;
    while (file >= 0 && left > 0 && (written = pwrite(file, from, left, at)) > 0) {
        from += written;
        at += written;
        left -= (size_t)written;
    }
    if (file < 0 || left > 0)
        image->error = errno;
    if (file >= 0)
        close(file);
    return left == 0 && file >= 0;
}

/* Write away the chunks that are full.  Not the last, nor the first, which holds the header. */
static void write_finished(struct image *image)
{
    while (image->chunks != NULL && image->chunks->next != NULL) {
        struct chunk *chunk = image->chunks->next;
        if (chunk->next == NULL || !finished(chunk) || !write_away(image, chunk))
            return;
        image->chunks->next = chunk->next;
        image->finished++;
        give_back(chunk);
    }
}

/* The image is over, or no longer followed: all of it goes to its file. */
static void end_image(struct image *image)
{
    int error = 0;
    while (image->chunks != NULL) {
        struct chunk *chunk = image->chunks;
        image->chunks = chunk->next;
        if (!write_away(image, chunk))
            error = image->error;
        if (image->process->dead)
            give_back(chunk);
        else
            free_chunk(chunk);
    }
    if (error != 0)
        fprintf(events, "lost\t%llu\t%d\n", (unsigned long long)image->number, error);
    for (struct image **place = &images; *place != NULL; place = &(*place)->next)
        if (*place == image) {
            *place = image->next;
            break;
        }
    free(image);
}

/* ---- Processes --------------------------------------------------------------------------------------- */

static void tell(const char *what, const struct process *process, const char *path)
{
    fprintf(events, "%s\t%llu\t", what, (unsigned long long)process->number);
    for (; *path != '\0'; path++)
        fputc(*path == '\n' || *path == '\t' ? '?' : *path, events);
    fputc('\n', events);
}

/* The process is over, or no longer followed: if it has become a program that began no log, say so. */
static void tell_unseen(const struct process *process)
{
    if (process->expects)
        tell(process->flags & ASK_UNREACHABLE ? "unreachable" : "unseen", process, process->path);
}

static void hear(void);

/* Note what was told, and the deaths, until now. */
static void see_deaths(void)
{
    struct epoll_event ready[64];
    int count;
    hear();
    while ((count = epoll_wait(deaths, ready, 64, 0)) > 0) {
        uint64_t time = now();
        hear(); /* what the dead told before they died is all there now */
        for (int number = 0; number < count; number++) {
            struct process *process = ready[number].data.ptr;
            epoll_ctl(deaths, EPOLL_CTL_DEL, process->pidfd, NULL);
            close(process->pidfd);
            process->dead = true;
            living--;
            fprintf(events, "died\t%llu\t%llu\n", (unsigned long long)process->number, (unsigned long long)time);
            tell_unseen(process);
        }
    }
}

/* Write away what the dead have left.  Done when nobody waits for an answer. */
static void bury_dead(void)
{
    for (struct image *image = images, *next; image != NULL; image = next) {
        next = image->next;
        if (image->process->dead)
            end_image(image);
    }
    for (struct process **place = &processes; *place != NULL;) {
        struct process *process = *place;
        if (process->dead) {
            *place = process->next;
            free(process);
        } else {
            place = &process->next;
        }
    }
}

/* The living process with this pid, taken into the table if it is new; NULL if there is none. */
static struct process *find_process(pid_t pid)
{
    for (struct process *process = processes; process != NULL; process = process->next)
        if (process->pid == pid && !process->dead)
            return process;
    struct process *process = calloc(1, sizeof *process);
    if (process == NULL)
        return NULL;
    process->pid = pid;
    process->pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = process};
    if (process->pidfd < 0 || epoll_ctl(deaths, EPOLL_CTL_ADD, process->pidfd, &event) != 0) {
        free(process);
        return NULL;
    }
    fcntl(process->pidfd, F_SETFD, FD_CLOEXEC);
    process->number = process_count++;
    process->next = processes;
    processes = process;
    living++;
    return process;
}

/* `path` as it is from here, if the process has another root. */
static void expect(struct process *process, const char *path, uint32_t flags)
{
    char link[64], root[PATH_MAX];
    snprintf(link, sizeof link, "/proc/%d/root", (int)process->pid);
    ssize_t length = readlink(link, root, sizeof root - 1);
    root[length <= 1 ? 0 : length] = '\0';
    process->expects = true;
    process->flags = flags;
    snprintf(process->path, sizeof process->path, "%s%s", root, path);
}

/* ---- Questions --------------------------------------------------------------------------------------- */

static struct chunk *begin_image(struct process *process, struct answer *answer)
{
    for (struct image *image = images, *next; image != NULL; image = next) {
        next = image->next;
        if (image->process == process)
            end_image(image); /* it has gone with an exec */
    }
    if (process->expects && (process->flags & ASK_RESTORED))
        tell("restored", process, process->path);
    process->expects = false;
    struct image *image = calloc(1, sizeof *image);
    struct chunk *chunk = take_chunk(0, RAW_FIRST_CHUNK_RECORDS);
    if (image == NULL || chunk == NULL) {
        answer->error = errno;
        free(image);
        return NULL;
    }
    image->process = process;
    image->number = image_count++;
    image->chunks = chunk;
    image->next = images;
    images = image;
    answer->process = process->number;
    answer->image = image->number;
    return chunk;
}

static struct chunk *grow_image(const struct ask *ask, struct answer *answer)
{
    struct image *image = images;
    while (image != NULL && image->number != ask->image)
        image = image->next;
    if (image == NULL || image->error != 0) {
        answer->error = image == NULL ? ESRCH : image->error;
        return NULL;
    }
    struct chunk *chunk = take_chunk(ask->first, RAW_CHUNK_RECORDS);
    if (chunk == NULL) {
        answer->error = errno;
        return NULL;
    }
    struct chunk **end = &image->chunks;
    while (*end != NULL)
        end = &(*end)->next;
    *end = chunk;
    answer->finished = image->unmapped = image->finished;
    return chunk;
}

static void send_answer(int connection, const struct answer *answer, const struct chunk *chunk)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control = {.space = {0}};
    struct iovec part = {(void *)answer, sizeof *answer};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1};
    if (chunk != NULL) {
        message.msg_control = &control;
        message.msg_controllen = sizeof control.space;
        struct cmsghdr *with = CMSG_FIRSTHDR(&message);
        *with = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
        memcpy(CMSG_DATA(with), &chunk->file, sizeof(int));
    }
    sendmsg(connection, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Answer one question of the process with `pid`. */
static void answer_ask(int connection, const struct ask *ask, pid_t pid)
{
    struct answer answer = {.pid = (uint32_t)pid, .base = base, .counter = counter, .stacks = with_stacks};
    struct chunk *chunk = NULL;
    see_deaths();
    struct process *process = find_process(pid);
    if (process == NULL) {
        answer.error = ESRCH;
    } else if (ask->question == ASK_BEGIN) {
        chunk = begin_image(process, &answer);
    } else if (ask->question == ASK_CHUNK) {
        chunk = grow_image(ask, &answer);
    } else if (ask->question == ASK_EXEC) {
        expect(process, ask->text, ask->flags);
    } else if (ask->question == ASK_SPAWNED && ask->self == (uint32_t)pid) {
        uint64_t known = process_count;
        struct process *child = find_process((pid_t)ask->pid);
        if (child != NULL && child->number == known) /* it has not begun a log yet */
            expect(child, ask->text, ask->flags);
        else if (child != NULL && (ask->flags & ASK_RESTORED))
            tell("restored", child, ask->text);
    }
    send_answer(connection, &answer, chunk);
}

static bool is_ours(struct ask *ask, ssize_t size)
{
    ask->text[sizeof ask->text - 1] = '\0';
    return size > (ssize_t)offsetof(struct ask, text) && memcmp(ask->token, token, TOKEN_LENGTH) == 0;
}

/* Receive a question and answer it.  Returns false when it has not come yet. */
static bool serve(int connection)
{
    struct ask ask = {.token = ""};
    struct ucred peer;
    socklen_t length = sizeof peer;
    ssize_t received = recv(connection, &ask, sizeof ask, MSG_DONTWAIT);
    if (received < 0 && errno == EAGAIN)
        return false;
    if (is_ours(&ask, received) && getsockopt(connection, SOL_SOCKET, SO_PEERCRED, &peer, &length) == 0 &&
        peer.pid != 0)
        answer_ask(connection, &ask, peer.pid);
    close(connection);
    return true;
}

/* A program that does not know its own file, as there is no /proc where it runs, may be seen from here. */
static void tell_module(const struct ask *ask, pid_t pid)
{
    char link[64], path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/%d/exe", (int)pid);
    ssize_t length = *ask->text == '/' ? 0 : readlink(link, path, sizeof path - 1);
    path[length < 0 ? 0 : length] = '\0';
    fprintf(events, "module\t%llu\t%llu\t%s\n", (unsigned long long)ask->image, (unsigned long long)ask->first,
            length > 0 ? path : ask->text);
}

/* The process with this pid, though it may have ended before the monitor met it; NULL without memory. */
static struct process *find_teller(pid_t pid)
{
    struct process *process = find_process(pid);
    if (process == NULL && (process = calloc(1, sizeof *process)) != NULL) {
        process->pid = pid;
        process->pidfd = -1;
        process->next = processes;
        processes = process;
    }
    return process;
}

/* Note what the process with `pid` told. */
static void note(const struct ask *ask, pid_t pid)
{
    struct process *process = find_teller(pid);
    if (process == NULL)
        return;
    if (ask->question == TELL_MODULE)
        tell_module(ask, pid);
    else if (ask->question == TELL_UNSEEN)
        tell("unseen", process, ask->text);
    else if (ask->question == TELL_EXEC)
        expect(process, ask->text, ask->flags);
    else if (ask->question == TELL_STAYED)
        process->expects = false;
}

/* All that was told is heard: that includes all that those told who had ended before the monitor met them. */
static void forget_tellers(void)
{
    for (struct process *process = processes; process != NULL; process = process->next)
        if (process->pidfd < 0 && !process->dead) {
            process->dead = true;
            tell_unseen(process);
        }
}

/* Receive what was told and needs no answer. */
static void hear(void)
{
    for (int way = 0; way < 2; way++) {
        for (;;) {
            struct ask ask = {.token = ""};
            union {
                struct cmsghdr header;
                char space[CMSG_SPACE(sizeof(struct ucred))];
            } control;
            struct iovec part = {&ask, sizeof ask};
            struct msghdr message = {
                .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
            ssize_t received = recvmsg(tells[way], &message, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
            if (received < 0)
                break;
            struct cmsghdr *with = CMSG_FIRSTHDR(&message);
            struct ucred peer = {.pid = 0};
            if (with != NULL && with->cmsg_type == SCM_CREDENTIALS)
                memcpy(&peer, CMSG_DATA(with), sizeof peer);
            if (is_ours(&ask, received) && peer.pid != 0)
                note(&ask, peer.pid);
        }
    }
    forget_tellers();
}

/* ---- Resident sizes ---------------------------------------------------------------------------------- */

/* The process's resident bytes without those of its log; 0 if it is gone. */
static uint64_t resident_size(const struct process *process)
{
    char path[64], text[256];
    snprintf(path, sizeof path, "/proc/%d/statm", (int)process->pid);
    int file = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t length = file < 0 ? -1 : read(file, text, sizeof text - 1);
    if (file >= 0)
        close(file);
    unsigned long long pages;
    text[length < 0 ? 0 : length] = '\0';
    if (sscanf(text, "%*u %llu", &pages) != 1)
        return 0;
    uint64_t size = pages * (uint64_t)sysconf(_SC_PAGESIZE), log = 0;
    for (const struct image *image = images; image != NULL; image = image->next)
        if (image->process == process) {
            log += (image->finished - image->unmapped) * RAW_CHUNK_RECORDS * sizeof(struct record);
            for (const struct chunk *chunk = image->chunks; chunk != NULL; chunk = chunk->next)
                log += chunk->count * sizeof(struct record);
        }
    return size > log ? size - log : 0;
}

static void look_at_residents(void)
{
    for (const struct process *process = processes; process != NULL; process = process->next) {
        struct resident look = {process->number, now(), process->dead ? 0 : resident_size(process)};
        if (look.bytes != 0)
            fwrite(&look, sizeof look, 1, residents);
    }
}

/* ---- The program ------------------------------------------------------------------------------------- */

static char **read_environment(void)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/environment", directory);
    FILE *file = fopen(path, "r");
    if (file == NULL)
        refuse(errno);
    size_t count = 0, room = 64, space = 0;
    char **variables = malloc(room * sizeof *variables), *line = NULL;
    while (variables != NULL && getdelim(&line, &space, '\0', file) > 0) {
        if (count + 2 > room)
            variables = realloc(variables, (room *= 2) * sizeof *variables);
        if (variables == NULL || (variables[count++] = strdup(line)) == NULL)
            refuse(ENOMEM);
    }
    if (variables == NULL)
        refuse(ENOMEM);
    variables[count] = NULL;
    free(line);
    fclose(file);
    return variables;
}

static void start_program(char **argv, const sigset_t *signals)
{
    int failure[2], error;
    char **variables = read_environment();
    if (pipe2(failure, O_CLOEXEC) != 0)
        refuse(errno);
    program = fork();
    if (program == 0) {
        sigprocmask(SIG_SETMASK, signals, NULL);
        execve(argv[0], argv + 1, variables);
        error = errno;
        ssize_t told = write(failure[1], &error, sizeof error);
        (void)told;
        _exit(127);
    }
    if (program < 0)
        refuse(errno);
    close(failure[1]);
    struct process *process = find_process(program);
    if (process == NULL)
        refuse(errno);
    expect(process, argv[0], 0);
    if (read(failure[0], &error, sizeof error) == sizeof error)
        refuse(error);
    close(failure[0]);
    fprintf(status_pipe, "started\n");
    fflush(status_pipe);
}

static bool has_children(void)
{
    siginfo_t info;
    return waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) == 0;
}

static void see_signal(int signals)
{
    struct signalfd_siginfo info;
    while (read(signals, &info, sizeof info) == sizeof info) {
        if (info.ssi_signo != SIGCHLD && program_ended)
            stopped = true;
        else if (info.ssi_signo == SIGTERM || info.ssi_signo == SIGHUP)
            kill(program, (int)info.ssi_signo);
    }
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
        if (pid == program) {
            see_deaths();
            program_ended = true;
            ended_at = nanoseconds();
            fprintf(status_pipe, "ended %d\n", status);
            fflush(status_pipe);
        }
}

/* ---- The recording ----------------------------------------------------------------------------------- */

static void watch(int poll, int file)
{
    struct epoll_event event = {.events = EPOLLIN, .data.fd = file};
    if (epoll_ctl(poll, EPOLL_CTL_ADD, file, &event) != 0)
        refuse(errno);
}

static int bind_to(int type, const struct sockaddr_un *address, socklen_t size)
{
    int made = socket(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (made < 0 || bind(made, (const struct sockaddr *)address, size) != 0)
        return -1;
    return made;
}

/* Make the sockets `made` of a type, by the name and in SOCKET_FOLDER.  The second is a help for few, and may
   be missing. */
static void make_sockets(int type, const char *name, size_t length, const char *suffix, int made[2])
{
    struct sockaddr_un hidden = {.sun_family = AF_UNIX};
    struct sockaddr_un *visible = &visibles[type == SOCK_DGRAM];
    strcpy(mempcpy(hidden.sun_path + 1, name, length), suffix);
    strcpy(mempcpy(stpcpy(visible->sun_path, SOCKET_FOLDER), name, length), suffix);
    socklen_t size = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length + strlen(suffix));
    made[0] = bind_to(type, &hidden, size);
    mode_t mask = umask(0);
    made[1] = bind_to(type, visible, sizeof *visible);
    umask(mask);
    if (made[0] < 0)
        refuse(errno);
}

/* Listen for questions and for what needs no answer. */
static void listen_here(const char *variable, int poll)
{
    const char *dot = strrchr(variable, '.');
    size_t length = dot == NULL ? 0 : (size_t)(dot - variable);
    if (length == 0 || length + 16 > sizeof visibles[0].sun_path || strlen(dot + 1) != TOKEN_LENGTH)
        refuse(EINVAL);
    memcpy(token, dot + 1, TOKEN_LENGTH);
    make_sockets(SOCK_SEQPACKET, variable, length, "", listeners);
    make_sockets(SOCK_DGRAM, variable, length, TELL_SUFFIX, tells);
    for (int way = 0; way < 2; way++) {
        setsockopt(tells[way], SOL_SOCKET, SO_PASSCRED, &(int){1}, sizeof(int));
        if (listeners[way] >= 0 && listen(listeners[way], 4096) == 0)
            watch(poll, listeners[way]);
        if (tells[way] >= 0)
            watch(poll, tells[way]);
    }
}

static FILE *create(const char *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    FILE *file = fopen(path, "we");
    if (file == NULL)
        refuse(errno);
    return file;
}

static bool kernel_counts_by_processor(void)
{
#ifdef __x86_64__
    char name[16] = "";
    FILE *file = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (file != NULL && fgets(name, sizeof name, file) == NULL)
        name[0] = '\0';
    if (file != NULL)
        fclose(file);
    return strcmp(name, "tsc\n") == 0;
#else
    return false;
#endif
}

/* How long to sleep, in milliseconds; -1: until something happens. */
static int sleep_time(uint64_t period, uint64_t next_look, bool told)
{
    uint64_t time = nanoseconds(), until = period != 0 ? next_look : UINT64_MAX;
    if (program_ended && !told && ended_at + PATIENCE < until)
        until = ended_at + PATIENCE;
    if (until == UINT64_MAX)
        return -1;
    return until <= time ? 0 : (int)((until - time + 999999) / 1000000);
}

static void follow(int poll, int signals, uint64_t period)
{
    uint64_t next_look = nanoseconds();
    bool told = false;
    while (!program_ended || (patient && !stopped && (living > 0 || has_children()))) {
        fill_pools();
        struct epoll_event ready[64];
        int count = epoll_wait(poll, ready, 64, sleep_time(period, next_look, told));
        for (int number = 0; number < count; number++) {
            int file = ready[number].data.fd, connection;
            if (file == signals)
                see_signal(signals);
            else if (file == listeners[0] || file == listeners[1])
                while ((connection = accept4(file, NULL, NULL, SOCK_CLOEXEC)) >= 0) {
                    if (!serve(connection))
                        watch(poll, connection);
                }
            else if (file != deaths && file != tells[0] && file != tells[1])
                serve(file);
        }
        see_deaths();
        if (period != 0 && nanoseconds() >= next_look) {
            look_at_residents();
            next_look = nanoseconds() + period;
        }
        bury_dead();
        for (struct image *image = images; image != NULL; image = image->next)
            write_finished(image);
        if (program_ended && !told && nanoseconds() >= ended_at + PATIENCE) {
            fprintf(status_pipe, "waiting %llu\n", (unsigned long long)(living > 0 ? living : 1));
            fflush(status_pipe);
            told = true;
        }
    }
}

int main(int count, char **argument)
{
    if (count < 9)
        return 2;
    directory = argument[1];
    int status = atoi(argument[2]);
    uint64_t period = strtoull(argument[3], NULL, 10);
    patient = strcmp(argument[4], "wait") == 0;
    with_stacks = strcmp(argument[5], "stacks") == 0;
    fcntl(status, F_SETFD, FD_CLOEXEC);
    status_pipe = fdopen(status, "w");
    if (status_pipe == NULL)
        return 2;
    events = create("events");
    residents = create("resident");
    counter = kernel_counts_by_processor();
    base = counter ? read_clock(counter) : 0;
    started_at = nanoseconds();
    base = counter ? base : started_at;

    sigset_t handled, before;
    sigemptyset(&handled);
    for (size_t number = 0; number < 4; number++)
        sigaddset(&handled, (int[]){SIGINT, SIGTERM, SIGHUP, SIGCHLD}[number]);
    sigprocmask(SIG_BLOCK, &handled, &before);
    int signals = signalfd(-1, &handled, SFD_CLOEXEC | SFD_NONBLOCK);
    int poll = epoll_create1(EPOLL_CLOEXEC);
    deaths = epoll_create1(EPOLL_CLOEXEC);
    listen_here(argument[6], poll);
    watch(poll, signals);
    watch(poll, deaths);
    prctl(PR_SET_CHILD_SUBREAPER, 1);
    start_program(argument + 7, &before);
    signal(SIGPIPE, SIG_IGN);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit files;
    if (getrlimit(RLIMIT_NOFILE, &files) == 0) {
        files.rlim_cur = files.rlim_max; /* each process takes two or three */
        setrlimit(RLIMIT_NOFILE, &files);
    }

    follow(poll, signals, period);
    for (int number = 0; number < 2; number++)
        close(listeners[number]);
    unlink(visibles[0].sun_path);
    unlink(visibles[1].sun_path);
    see_deaths();
    for (const struct process *process = processes; process != NULL; process = process->next)
        if (!process->dead) {
            fprintf(events, "left\t%llu\n", (unsigned long long)process->number);
            tell_unseen(process);
        }
    if (living == 0 && has_children())
        fprintf(events, "left\t-1\n");
    while (images != NULL)
        end_image(images);
    fprintf(events, "clock\t%llu\t%llu\t%llu\n", (unsigned long long)started_at, (unsigned long long)now(),
            (unsigned long long)nanoseconds());
    return fclose(events) == 0 && fclose(residents) == 0 ? 0 : 1;
}
