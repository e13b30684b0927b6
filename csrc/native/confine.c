/* confine: start a program that may do no harm.
 *
 *     confine OPTION... -- PROGRAM ARGUMENT...
 *
 *     read=PATH         may be read and executed: a file, or a folder with all below it.  Missing ones are passed over
 *     write=PATH        may be written too
 *     cpu=N memory=N file=N open=N    seconds of processor time, bytes of addresses, bytes of a file, descriptors
 *     children=N        0: no process and no thread is started; more: RLIMIT_NPROC, from which root is exempt
 *     keep=N            this descriptor stays open; 0, 1 and 2 do anyhow
 *     env=NAME=VALUE    the program's environment has this, and nothing that is not named
 *     without=LAYER     landlock or namespaces: as if the kernel did not have it
 *
 * `confine layers` prints what the kernel has, a line a layer: its name, and 0 or its version.
 *
 * Start it with an empty environment: a library in LD_PRELOAD would run before it is confined.
 *
 * Layers, in this order: limits; Landlock (files, TCP, signals), or where the kernel has none, namespaces with a file
 * system of the paths named; no capabilities, no new ones; a seccomp filter.  A layer that the kernel does not have is
 * left out.  A layer that it has and that fails ends confine with status 126 and a line on standard error. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/securebits.h>
#include <linux/seccomp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define MOST 256 /* options of a kind */

static const char *readable[MOST], *writable[MOST];
static char *variables[MOST + 1];
static int kept[MOST];
static int readable_count, writable_count, variable_count, kept_count;
static long cpu = -1, memory = -1, file_size = -1, open_files = -1, children = -1;
static bool without_landlock, without_namespaces;

static _Noreturn void fail(const char *what)
{
    fprintf(stderr, "heaplab cannot confine the program: %s: %s\n", what, strerror(errno));
    exit(126);
}

/* ---- options ---- */

static const char *value_of(const char *option, const char *name)
{
    size_t n = strlen(name);
    return strncmp(option, name, n) == 0 && option[n] == '=' ? option + n + 1 : NULL;
}

static bool take_number(const char *option, const char *name, long *to)
{
    const char *value = value_of(option, name);
    if (!value)
        return false;
    char *end;
    errno = EINVAL;
    *to = strtol(value, &end, 10);
    if (!*value || *end || *to < 0)
        fail(option);
    return true;
}

static int one_more(int *count)
{
    if (*count == MOST) {
        errno = E2BIG;
        fail("options");
    }
    return (*count)++;
}

static void take_option(char *option)
{
    const char *value;
    long number;
    if ((value = value_of(option, "read")))
        readable[one_more(&readable_count)] = value;
    else if ((value = value_of(option, "write")))
        writable[one_more(&writable_count)] = value;
    else if ((value = value_of(option, "env")))
        variables[one_more(&variable_count)] = option + (value - option);
    else if (take_number(option, "keep", &number))
        kept[one_more(&kept_count)] = (int)number;
    else if (strcmp(option, "without=landlock") == 0)
        without_landlock = true;
    else if (strcmp(option, "without=namespaces") == 0)
        without_namespaces = true;
    else if (!take_number(option, "cpu", &cpu) && !take_number(option, "memory", &memory) &&
             !take_number(option, "file", &file_size) && !take_number(option, "open", &open_files) &&
             !take_number(option, "children", &children)) {
        errno = EINVAL;
        fail(option);
    }
}

/* ---- descriptors and limits ---- */

static void close_from(int first, int last)
{
    if (first <= last && syscall(SYS_close_range, first, last, 0) && errno == ENOSYS)
        for (int fd = first; fd <= last && fd < 65536; fd++)
            close(fd);
}

static int by_number(const void *a, const void *b) { return *(const int *)a - *(const int *)b; }

/* Closes all descriptors but the standard three and those kept. */
static void close_others(void)
{
    qsort(kept, (size_t)kept_count, sizeof *kept, by_number);
    int next = 3;
    for (int i = 0; i < kept_count; i++)
        if (kept[i] >= next) {
            close_from(next, kept[i] - 1);
            next = kept[i] + 1;
        }
    close_from(next, INT_MAX);
}

static void limit(int which, const char *name, long soft, long hard)
{
    struct rlimit now;
    if (getrlimit(which, &now))
        fail(name);
    rlim_t most = (rlim_t)hard < now.rlim_max ? (rlim_t)hard : now.rlim_max;
    struct rlimit wanted = {.rlim_cur = (rlim_t)soft < most ? (rlim_t)soft : most, .rlim_max = most};
    if (setrlimit(which, &wanted))
        fail(name);
}

static void set_limits(void)
{
    limit(RLIMIT_CORE, "core", 0, 0);
    limit(RLIMIT_MEMLOCK, "memlock", 0, 0);
    limit(RLIMIT_MSGQUEUE, "msgqueue", 0, 0);
    if (cpu >= 0)
        limit(RLIMIT_CPU, "cpu", cpu, cpu + 1); /* SIGXCPU may be caught, what comes a second later not */
    if (memory >= 0)
        limit(RLIMIT_AS, "memory", memory, memory);
    if (file_size >= 0)
        limit(RLIMIT_FSIZE, "file", file_size, file_size);
    if (open_files >= 0)
        limit(RLIMIT_NOFILE, "open", open_files, open_files);
    if (children > 0)
        limit(RLIMIT_NPROC, "children", children, children);
    signal(SIGXFSZ, SIG_IGN); /* who prints too much is told EFBIG, and may go on */
}

/* ---- Landlock; numbers as in linux/landlock.h, whose headers of today may not be here ---- */

#define FS_EXECUTE (1ull << 0)
#define FS_WRITE_FILE (1ull << 1)
#define FS_READ_FILE (1ull << 2)
#define FS_READ_DIR (1ull << 3)
#define FS_REMOVE_DIR (1ull << 4)
#define FS_REMOVE_FILE (1ull << 5)
#define FS_MAKE_DIR (1ull << 7)
#define FS_MAKE_REG (1ull << 8)
#define FS_REFER (1ull << 13)
#define FS_TRUNCATE (1ull << 14)
#define FS_OF_FILES (FS_EXECUTE | FS_WRITE_FILE | FS_READ_FILE | FS_TRUNCATE)
#define NET_TCP 3ull      /* bind, connect; from ABI 4 on */
#define SCOPES 3ull       /* abstract Unix sockets, signals; from ABI 6 on */
#define SCOPES_SIGNALS 6  /* the ABI */

struct ruleset {
    uint64_t fs, net, scoped;
};
struct path_beneath {
    uint64_t allowed;
    int32_t parent;
} __attribute__((packed));

static int landlock_abi(void)
{
    long abi = syscall(444, NULL, 0, 1 /* LANDLOCK_CREATE_RULESET_VERSION */);
    return abi > 0 ? (int)abi : 0;
}

/* All rights over files that this ABI knows. */
static uint64_t fs_rights(int abi)
{
    int bits = abi >= 5 ? 16 : abi >= 3 ? 15 : abi == 2 ? 14 : 13;
    return (1ull << bits) - 1;
}

static void grant(int rules, const char *path, uint64_t rights)
{
    struct stat about;
    int fd = open(path, O_PATH | O_CLOEXEC);
    if (fd < 0 && (errno == ENOENT || errno == ENOTDIR || errno == EACCES))
        return;
    if (fd < 0 || fstat(fd, &about))
        fail(path);
    if (!S_ISDIR(about.st_mode))
        rights &= FS_OF_FILES;
    struct path_beneath rule = {.allowed = rights, .parent = fd};
    if (syscall(445, rules, 1 /* LANDLOCK_RULE_PATH_BENEATH */, &rule, 0))
        fail(path);
    close(fd);
}

static void apply_landlock(int abi)
{
    struct ruleset handled = {.fs = fs_rights(abi), .net = abi >= 4 ? NET_TCP : 0, .scoped = abi >= 6 ? SCOPES : 0};
    size_t size = abi >= 6 ? sizeof handled : abi >= 4 ? offsetof(struct ruleset, scoped) : sizeof handled.fs;
    int rules = (int)syscall(444, &handled, size, 0);
    if (rules < 0)
        fail("landlock_create_ruleset");
    uint64_t to_read = FS_EXECUTE | FS_READ_FILE | FS_READ_DIR;
    uint64_t to_write = to_read | FS_WRITE_FILE | FS_REMOVE_DIR | FS_REMOVE_FILE | FS_MAKE_DIR | FS_MAKE_REG;
    to_write |= (FS_REFER | FS_TRUNCATE) & fs_rights(abi);
    for (int i = 0; i < readable_count; i++)
        grant(rules, readable[i], to_read);
    for (int i = 0; i < writable_count; i++)
        grant(rules, writable[i], to_write);
    if (syscall(446, rules, 0))
        fail("landlock_restrict_self");
    close(rules);
}

/* ---- namespaces: a file system of the paths named ---- */

#define SPACES (CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC)
#define ROOT "/tmp"

static void write_line(const char *path, const char *line)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, line, strlen(line)) < 0)
        fail(path);
    close(fd);
}

/* Makes `path` below ROOT, as a folder or as an empty file, unless a folder shown before has it. */
static void make_place(char *path, bool folder)
{
    struct stat about;
    if (stat(path, &about) == 0)
        return;
    for (char *at = path + sizeof ROOT; (at = strchr(at, '/')); at++) {
        *at = 0;
        mkdir(path, 0755);
        *at = '/';
    }
    int fd = folder ? mkdir(path, 0755) : open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644);
    if (fd < 0 && errno != EEXIST)
        fail(path);
    if (!folder)
        close(fd);
}

static unsigned long locked_flags(const char *path)
{
    struct statvfs about;
    if (statvfs(path, &about))
        fail(path);
    unsigned long flags = 0;
    flags |= about.f_flag & ST_NOSUID ? MS_NOSUID : 0;
    flags |= about.f_flag & ST_NODEV ? MS_NODEV : 0;
    flags |= about.f_flag & ST_NOEXEC ? MS_NOEXEC : 0;
    flags |= about.f_flag & ST_NOATIME ? MS_NOATIME : 0;
    flags |= about.f_flag & ST_RELATIME ? MS_RELATIME : 0;
    return flags;
}

/* Shows what `fd` is at `path` below ROOT.  A missing one (fd < 0) is passed over. */
static void show(int fd, const char *path, bool read_only)
{
    char from[40], to[PATH_MAX];
    struct stat about;
    if (fd < 0)
        return;
    if (fstat(fd, &about))
        fail(path);
    snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    if (snprintf(to, sizeof to, ROOT "%s", path) >= (int)sizeof to) {
        errno = ENAMETOOLONG;
        fail(path);
    }
    make_place(to, S_ISDIR(about.st_mode));
    if (mount(from, to, NULL, MS_BIND | MS_REC, NULL))
        fail(path);
    if (read_only && mount(NULL, to, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | locked_flags(to), NULL))
        fail(path);
    close(fd);
}

static void apply_namespaces(void)
{
    char line[64], here[PATH_MAX], proc[40];
    int read_fds[MOST], write_fds[MOST];
    unsigned user = getuid(), group = getgid();
    snprintf(proc, sizeof proc, "/proc/%d", getpid());
    if (!getcwd(here, sizeof here))
        strcpy(here, "/");
    if (unshare(SPACES))
        fail("unshare");
    write_line("/proc/self/setgroups", "deny");
    snprintf(line, sizeof line, "%u %u 1", user, user);
    write_line("/proc/self/uid_map", line);
    snprintf(line, sizeof line, "%u %u 1", group, group);
    write_line("/proc/self/gid_map", line);
    if (mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL))
        fail("/");
    /* opened before ROOT hides some of them */
    for (int i = 0; i < readable_count; i++)
        read_fds[i] = open(readable[i], O_PATH | O_CLOEXEC);
    for (int i = 0; i < writable_count; i++)
        write_fds[i] = open(writable[i], O_PATH | O_CLOEXEC);
    if (mount("heaplab", ROOT, "tmpfs", MS_NOSUID | MS_NODEV, "size=1m,mode=755"))
        fail(ROOT);
    for (int i = 0; i < readable_count; i++) {
        if (strcmp(readable[i], "/proc/self") == 0) {
            char link[PATH_MAX];
            snprintf(link, sizeof link, ROOT "/proc");
            mkdir(link, 0755);
            show(read_fds[i], proc, true);
            snprintf(link, sizeof link, ROOT "/proc/self");
            if (symlink(proc + strlen("/proc/"), link))
                fail(link);
        } else {
            show(read_fds[i], readable[i], strcmp(readable[i], "/proc") != 0);
        }
    }
    for (int i = 0; i < writable_count; i++)
        show(write_fds[i], writable[i], false);
    if (mount(NULL, ROOT, NULL, MS_REMOUNT | MS_BIND | MS_RDONLY | MS_NOSUID | MS_NODEV, NULL) || chdir(ROOT) ||
        syscall(SYS_pivot_root, ".", ".") || umount2(".", MNT_DETACH))
        fail("pivot_root");
    if (chdir(here) && chdir("/"))
        fail("/");
}

static bool have_namespaces(void)
{
    int status;
    pid_t child = fork();
    if (child < 0)
        return false;
    if (child == 0)
        _exit(unshare(SPACES) != 0 || mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL) != 0);
    return waitpid(child, &status, 0) == child && status == 0;
}

/* ---- capabilities ---- */

static void drop_capabilities(void)
{
    prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP, 0, 0, 0); /* who may */
    for (int which = 0; which < 64; which++)
        prctl(PR_CAPBSET_DROP, which, 0, 0, 0);
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[2] = {{0}};
    if (syscall(SYS_capset, &header, none))
        fail("capset");
}

/* ---- the filter of system calls ---- */

#define LAST_KNOWN 462 /* calls that are newer do not exist for the program */
#define X32 0x40000000u
#define NEW_SPACES 0x7e020080u /* CLONE_NEW... of all kinds */

/* Refused with EPERM, whatever their arguments: for each, what the program could do to others. */
static const int refused[] = {
    /* reach the network, and other processes through it */
    SYS_socket, SYS_socketpair, SYS_connect, SYS_bind, SYS_listen, SYS_accept, SYS_accept4,
    /* look into processes, or take their descriptors */
    SYS_ptrace, SYS_process_vm_readv, SYS_process_vm_writev, SYS_kcmp, 438 /* pidfd_getfd */, 440 /* process_madvise */,
    448 /* process_mrelease */, SYS_migrate_pages, SYS_move_pages,
    /* slow others down, or go before them */
    SYS_setpriority, SYS_sched_setscheduler, SYS_sched_setparam, SYS_sched_setattr, SYS_sched_setaffinity, SYS_ioprio_set,
    SYS_setrlimit,
    /* leave the group of processes that is ended with it */
    SYS_setsid, SYS_setpgid,
    /* keep memory that no limit counts, or that stays */
    SYS_memfd_create, 447 /* memfd_secret */, SYS_shmget, SYS_shmat, SYS_shmctl, SYS_semget, SYS_msgget, SYS_mq_open,
    SYS_mq_unlink, SYS_add_key, SYS_request_key, SYS_keyctl,
    /* change files' owners, rights and times, which Landlock does not ask about */
    SYS_chmod, SYS_fchmod, SYS_fchmodat, 452 /* fchmodat2 */, SYS_chown, SYS_fchown, SYS_lchown, SYS_fchownat,
    SYS_setxattr, SYS_lsetxattr, SYS_fsetxattr, SYS_removexattr, SYS_lremovexattr, SYS_fremovexattr, SYS_utime, SYS_utimes,
    SYS_futimesat, SYS_utimensat, SYS_fanotify_init, SYS_inotify_init,
    SYS_inotify_init1,
    /* another view of the file system */
    SYS_mount, SYS_umount2, SYS_pivot_root, SYS_chroot, SYS_unshare, SYS_setns, 428 /* open_tree */, 429 /* move_mount */,
    430 /* fsopen */, 431 /* fsconfig */, 432 /* fsmount */, 433 /* fspick */, 442 /* mount_setattr */,
    SYS_open_by_handle_at, SYS_name_to_handle_at, SYS_quotactl, SYS_swapon, SYS_swapoff, SYS_acct,
    /* wide doors into the kernel */
    SYS_bpf, SYS_perf_event_open, SYS_userfaultfd, 425, 426, 427 /* io_uring */, SYS_init_module, SYS_finit_module,
    SYS_delete_module, SYS_kexec_load, SYS_kexec_file_load, SYS_reboot, SYS_syslog, SYS_iopl, SYS_ioperm, SYS_modify_ldt,
    SYS_settimeofday, SYS_clock_settime, SYS_adjtimex, SYS_clock_adjtime, SYS_sethostname, SYS_setdomainname, SYS_vhangup,
};
static const int of_signals[] = {SYS_kill, SYS_tkill, SYS_tgkill, SYS_rt_sigqueueinfo, SYS_rt_tgsigqueueinfo};

static struct sock_filter filter[1024];
static unsigned short filter_length;

static void add(uint16_t code, uint32_t k, uint8_t yes, uint8_t no)
{
    filter[filter_length++] = (struct sock_filter){.code = code, .jt = yes, .jf = no, .k = k};
}

static void load(size_t field) { add(BPF_LD | BPF_W | BPF_ABS, (uint32_t)field, 0, 0); }
static void answer(uint32_t what) { add(BPF_RET | BPF_K, what, 0, 0); }
static uint32_t error(int number) { return SECCOMP_RET_ERRNO | (uint32_t)number; }

static void refuse(int call, int with)
{
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 1);
    answer(error(with));
}

static size_t low_half(int argument) { return offsetof(struct seccomp_data, args) + 8 * (size_t)argument; }

/* Refuses `call` if the test of this half of an argument says `if_it`. */
static void refuse_by(int call, size_t half, uint16_t test, uint32_t value, bool if_it)
{
    add(BPF_JMP | BPF_JEQ | BPF_K, (uint32_t)call, 0, 4);
    load(half);
    add(BPF_JMP | test | BPF_K, value, !if_it, if_it);
    answer(error(EPERM));
    load(offsetof(struct seccomp_data, nr));
}

static void write_filter(bool signals_scoped)
{
    load(offsetof(struct seccomp_data, arch));
    add(BPF_JMP | BPF_JEQ | BPF_K, AUDIT_ARCH_X86_64, 1, 0);
    answer(SECCOMP_RET_KILL_PROCESS);
    load(offsetof(struct seccomp_data, nr));
    add(BPF_JMP | BPF_JGE | BPF_K, X32, 0, 1);
    answer(SECCOMP_RET_KILL_PROCESS);
    add(BPF_JMP | BPF_JGT | BPF_K, LAST_KNOWN, 0, 1);
    answer(error(ENOSYS));
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++)
        refuse(refused[i], EPERM);
    refuse(435 /* clone3: its flags cannot be seen; the C library then calls clone */, ENOSYS);
    if (children == 0) {
        refuse(SYS_fork, EAGAIN);
        refuse(SYS_vfork, EAGAIN);
        refuse(SYS_clone, EAGAIN);
    }
    refuse_by(SYS_clone, low_half(0), BPF_JSET, NEW_SPACES, true);
    refuse_by(SYS_prlimit64, low_half(2), BPF_JEQ, 0, false); /* no new limit: the address of one is NULL */
    refuse_by(SYS_prlimit64, low_half(2) + 4, BPF_JEQ, 0, false);
    refuse_by(SYS_fcntl, low_half(1), BPF_JEQ, 8, true); /* F_SETOWN, F_SETOWN_EX: signals to others */
    refuse_by(SYS_fcntl, low_half(1), BPF_JEQ, 15, true);
    if (!signals_scoped) {
        for (size_t i = 0; i < sizeof of_signals / sizeof *of_signals; i++)
            refuse_by(of_signals[i], low_half(0), BPF_JEQ, (uint32_t)getpid(), false);
        refuse(424 /* pidfd_send_signal */, EPERM);
    }
    answer(SECCOMP_RET_ALLOW);
}

static bool have_seccomp(void)
{
    uint32_t action = SECCOMP_RET_KILL_PROCESS;
    return syscall(SYS_seccomp, SECCOMP_GET_ACTION_AVAIL, 0, &action) == 0;
}

static void apply_seccomp(bool signals_scoped)
{
    write_filter(signals_scoped);
    struct sock_fprog program = {.len = filter_length, .filter = filter};
    if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program))
        fail("seccomp");
}

/* ---- all of it ---- */

int main(int argc, char **argv)
{
    if (argc == 2 && strcmp(argv[1], "layers") == 0) {
        printf("landlock %d\nnamespaces %d\nseccomp %d\n", landlock_abi(), have_namespaces(), have_seccomp());
        return 0;
    }
    int at = 1;
    while (at < argc && strcmp(argv[at], "--") != 0)
        take_option(argv[at++]);
    char **program = argv + at + 1;
    errno = EINVAL;
    if (at + 1 >= argc)
        fail("no program is named");
    if (getenv("LD_PRELOAD") || getenv("LD_AUDIT"))
        fail("a library is preloaded into confine itself");
    close_others();
    int abi = without_landlock ? 0 : landlock_abi();
    bool spaces = !abi && !without_namespaces && have_namespaces();
    set_limits();
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        fail("no_new_privs");
    if (abi)
        apply_landlock(abi);
    else if (spaces)
        apply_namespaces();
    drop_capabilities();
    if (have_seccomp())
        apply_seccomp(abi >= SCOPES_SIGNALS);
    execve(program[0], program, variables);
    fail(program[0]);
}
