/* Following a program from image to image.

   The recorder comes into a new image by two variables of the environment.  A program may have cleared
   them: so each exec puts them back, and tells the monitor, and says which program is to come.  If that
   program then ends without having begun a log, the monitor knows what is missing.

   All of this may run in a vfork child: nothing here allocates or changes what it shares with its parent. */
#define _GNU_SOURCE
#include "following.h"
#include "calm.h"
#include "client.h"

#include <alloca.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <spawn.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#define EXPORT __attribute__((visibility("default")))
#define PRELOAD "LD_PRELOAD="

extern char **environ;

static char library[PATH_MAX]; /* this library, as LD_PRELOAD names it */

static int (*next_execve)(const char *, char *const[], char *const[]);
static int (*next_execvpe)(const char *, char *const[], char *const[]);
static int (*next_fexecve)(int, char *const[], char *const[]);
static int (*next_execveat)(int, const char *, char *const[], char *const[], int);
static int (*next_posix_spawn)(pid_t *, const char *, const posix_spawn_file_actions_t *,
                               const posix_spawnattr_t *, char *const[], char *const[]);
static int (*next_posix_spawnp)(pid_t *, const char *, const posix_spawn_file_actions_t *,
                                const posix_spawnattr_t *, char *const[], char *const[]);
static pid_t (*next_wait4)(pid_t, int *, int, struct rusage *);
static int (*next_waitid)(idtype_t, id_t, siginfo_t *, int);
static int (*next_system)(const char *);
static FILE *(*next_popen)(const char *, const char *);

static void find_functions(void)
{
#define FIND(name) *(void **)&next_##name = dlsym(RTLD_NEXT, #name)
    FIND(execve);
    FIND(execvpe);
    FIND(fexecve);
    FIND(execveat);
    FIND(posix_spawn);
    FIND(posix_spawnp);
    FIND(wait4);
    FIND(waitid);
    FIND(system);
    FIND(popen);
}

void following_begins(void)
{
    Dl_info info;
    if (dladdr(library, &info) != 0 && strlen(info.dli_fname) < sizeof library)
        strcpy(library, info.dli_fname);
    find_functions();
}

/* ---- The environment of the next image ------------------------------------------------------------ */

static const char *variable(char *const env[], const char *prefix)
{
    size_t length = strlen(prefix);
    for (; env != NULL && *env != NULL; env++)
        if (strncmp(*env, prefix, length) == 0)
            return *env;
    return NULL;
}

/* The next library in a value of LD_PRELOAD, at or behind `*place`: its length; 0 at the end. */
static size_t next_name(const char **place)
{
    *place += strspn(*place, " :");
    return strcspn(*place, " :");
}

static bool names_library(const char *preload)
{
    size_t length;
    for (const char *name = preload; (length = next_name(&name)) != 0; name += length)
        if (length == strlen(library) && memcmp(name, library, length) == 0)
            return true;
    return false;
}

static bool library_is_reachable(void)
{
    int file = open(library, O_RDONLY | O_CLOEXEC);
    if (file >= 0)
        close(file);
    return file >= 0;
}

static size_t count(char *const env[])
{
    size_t number = 0;
    while (env != NULL && env[number] != NULL)
        number++;
    return number;
}

/* What the next image's environment takes: entries of the array, and bytes of text. */
struct need {
    size_t entries;
    size_t bytes;
};

static struct need need(char *const env[])
{
    const char *preload = variable(env, PRELOAD);
    size_t old = preload == NULL ? 0 : strlen(preload);
    return (struct need){count(env) + 3, sizeof PRELOAD + strlen(library) + old + 2};
}

/* Write to `to` and `text`, which have what `need` says, the environment `env` with the recorder in it; or,
   if the next image cannot open the library, without it, as it would complain.  Returns the ask_flags. */
static uint32_t with_recorder(char *const env[], char **to, char *text)
{
    const char *preload = variable(env, PRELOAD);
    const char *names = preload == NULL ? "" : preload + strlen(PRELOAD);
    bool reachable = library_is_reachable();
    uint32_t flags = 0;
    char *end = stpcpy(text, PRELOAD);
    if (reachable && names_library(names)) {
        strcpy(end, names);
    } else if (reachable) {
        end = stpcpy(end, library);
        if (*names != '\0')
            strcpy(stpcpy(end, ":"), names);
        flags |= ASK_RESTORED;
    } else {
        size_t length;
        for (const char *name = names; (length = next_name(&name)) != 0; name += length) {
            if (length == strlen(library) && memcmp(name, library, length) == 0)
                continue;
            if (end[-1] != '=')
                *end++ = ':';
            end = mempcpy(end, name, length);
        }
        *end = '\0';
        flags |= ASK_UNREACHABLE;
    }
    if (variable(env, monitor_variable) == NULL)
        flags |= reachable ? ASK_RESTORED : 0;
    bool has_preload = false, has_monitor = false;
    for (; env != NULL && *env != NULL; env++) {
        bool is_preload = strncmp(*env, PRELOAD, strlen(PRELOAD)) == 0;
        bool is_monitor = strncmp(*env, RECORD_VARIABLE "=", sizeof RECORD_VARIABLE) == 0;
        if (is_preload && text[strlen(PRELOAD)] == '\0')
            continue;
        *to++ = is_preload ? text : is_monitor ? monitor_variable : *env;
        has_preload |= is_preload;
        has_monitor |= is_monitor;
    }
    if (reachable && !has_preload)
        *to++ = text;
    if (reachable && !has_monitor)
        *to++ = monitor_variable;
    *to = NULL;
    return flags;
}

/* ---- What the monitor is told ---------------------------------------------------------------------- */

static void tell(enum question question, uint32_t flags, pid_t pid, const char *text)
{
    struct ask ask = {.question = question, .flags = flags, .pid = (uint32_t)pid};
    struct answer answer;
    struct calm calm;
    int file;
    be_calm(&calm);
    if (question < TELL_EXEC)
        ask_monitor(&ask, text, &answer, &file);
    else
        tell_monitor(&ask, text);
    calm_ends(&calm);
}

/* The absolute path of the program `file`, looked up in PATH if `search`; as it is if that fails. */
static const char *path_of(const char *file, bool search, char path[PATH_MAX])
{
    const char *folders = search && strchr(file, '/') == NULL ? getenv("PATH") : NULL;
    while (folders != NULL) {
        size_t length = strcspn(folders, ":");
        if (length + strlen(file) + 2 <= PATH_MAX) {
            char *end = mempcpy(path, folders, length);
            strcpy(stpcpy(end, length == 0 ? "./" : "/"), file);
            struct stat status;
            if (stat(path, &status) == 0 && S_ISREG(status.st_mode) && access(path, X_OK) == 0)
                return path;
        }
        folders = folders[length] == ':' ? folders + length + 1 : NULL;
    }
    if (*file == '/' || getcwd(path, PATH_MAX) == NULL || strlen(path) + strlen(file) + 2 > PATH_MAX)
        return file;
    char *end = path + strlen(path);
    strcpy(stpcpy(end, "/"), file);
    return path;
}

/* ---- Functions that replace the image -------------------------------------------------------------- */

/* `call`, an exec of `file` that uses `env`, with the recorder in the environment it uses. */
#define FOLLOWED(env, file, search, call)                                       \
    do {                                                                        \
        if (next_execve == NULL)                                                \
            find_functions(); /* another library's constructor */               \
        if (is_recorded()) {                                                    \
            struct need needed = need(env);                                     \
            char **with = alloca(needed.entries * sizeof *with);                \
            char *text = alloca(needed.bytes), where[PATH_MAX];                 \
            uint32_t made = with_recorder(env, with, text);                     \
            tell(made & ASK_UNREACHABLE ? ASK_EXEC : TELL_EXEC, made, 0, path_of(file, search, where));             \
            env = with;                                                         \
            int result = call;                                                  \
            tell(TELL_STAYED, 0, 0, NULL);                                      \
            return result;                                                      \
        }                                                                       \
        return call;                                                            \
    } while (0)

EXPORT int execve(const char *path, char *const argv[], char *const env[])
{
    FOLLOWED(env, path, false, next_execve(path, argv, env));
}

EXPORT int execvpe(const char *file, char *const argv[], char *const env[])
{
    FOLLOWED(env, file, true, next_execvpe(file, argv, env));
}

EXPORT int fexecve(int descriptor, char *const argv[], char *const env[])
{
    FOLLOWED(env, "a program given as a descriptor", true, next_fexecve(descriptor, argv, env));
}

EXPORT int execveat(int folder, const char *path, char *const argv[], char *const env[], int flags)
{
    FOLLOWED(env, path, false, next_execveat(folder, path, argv, env, flags));
}

EXPORT int execv(const char *path, char *const argv[])
{
    return execve(path, argv, environ);
}

EXPORT int execvp(const char *file, char *const argv[])
{
    return execvpe(file, argv, environ);
}

/* The arguments of execl and its kin as an array; `list` is then behind the NULL that ends them. */
#define COLLECT(first, list, argv)                          \
    va_list list;                                           \
    size_t arguments = 1;                                   \
    va_start(list, first);                                  \
    while (va_arg(list, char *) != NULL)                    \
        arguments++;                                        \
    va_end(list);                                           \
    char **argv = alloca((arguments + 1) * sizeof *argv);   \
    va_start(list, first);                                  \
    argv[0] = (char *)(first);                              \
    for (size_t number = 1; number <= arguments; number++)  \
        argv[number] = va_arg(list, char *)

EXPORT int execl(const char *path, const char *first, ...)
{
    COLLECT(first, list, argv);
    va_end(list);
    return execve(path, argv, environ);
}

EXPORT int execlp(const char *file, const char *first, ...)
{
    COLLECT(first, list, argv);
    va_end(list);
    return execvpe(file, argv, environ);
}

EXPORT int execle(const char *path, const char *first, ...)
{
    COLLECT(first, list, argv);
    char *const *env = va_arg(list, char *const *);
    va_end(list);
    return execve(path, argv, env);
}

/* ---- Functions that make a process of another image -------------------------------------------------- */

#define SPAWNED(pid, file, search, env, call)                                           \
    do {                                                                                \
        if (next_execve == NULL)                                                        \
            find_functions();                                                           \
        if (is_recorded()) {                                                            \
            struct need needed = need(env);                                             \
            char **with = alloca(needed.entries * sizeof *with);                        \
            char *text = alloca(needed.bytes), where[PATH_MAX];                         \
            uint32_t flags = with_recorder(env, with, text);                            \
            pid_t child;                                                                \
            pid = pid == NULL ? &child : pid;                                           \
            env = with;                                                                 \
            int error = call;                                                           \
            if (error == 0)                                                             \
                tell(ASK_SPAWNED, flags, *pid, path_of(file, search, where));          \
            return error;                                                               \
        }                                                                               \
        return call;                                                                    \
    } while (0)

EXPORT int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                       const posix_spawnattr_t *attributes, char *const argv[], char *const env[])
{
    SPAWNED(pid, path, false, env, next_posix_spawn(pid, path, actions, attributes, argv, env));
}

EXPORT int posix_spawnp(pid_t *pid, const char *file, const posix_spawn_file_actions_t *actions,
                        const posix_spawnattr_t *attributes, char *const argv[], char *const env[])
{
    SPAWNED(pid, file, true, env, next_posix_spawnp(pid, file, actions, attributes, argv, env));
}

/* ---- Functions that wait ------------------------------------------------------------------------------ */

EXPORT pid_t wait4(pid_t which, int *status, int options, struct rusage *usage)
{
    int own;
    status = status == NULL ? &own : status;
    if (next_wait4 == NULL)
        find_functions();
    pid_t pid = next_wait4(which, status, options, usage);
    if (pid > 0 && (WIFEXITED(*status) || WIFSIGNALED(*status)))
        record_wait(pid);
    return pid;
}

EXPORT pid_t wait3(int *status, int options, struct rusage *usage)
{
    return wait4(-1, status, options, usage);
}

EXPORT pid_t waitpid(pid_t which, int *status, int options)
{
    return wait4(which, status, options, NULL);
}

EXPORT pid_t wait(int *status)
{
    return wait4(-1, status, 0, NULL);
}

EXPORT int waitid(idtype_t type, id_t which, siginfo_t *info, int options)
{
    if (next_waitid == NULL)
        find_functions();
    siginfo_t own = {.si_pid = 0};
    info = info == NULL ? &own : info;
    int result = next_waitid(type, which, info, options);
    if (result == 0 && info->si_pid > 0 && info->si_code != CLD_STOPPED && info->si_code != CLD_CONTINUED)
        record_wait(info->si_pid);
    return result;
}

/* ---- Shells of the C library ---------------------------------------------------------------------------- */

/* The C library runs the shell with `environ`, which is the program's: if that lacks the recorder, say so. */
static void tell_of_shell(const char *command)
{
    const char *preload = variable(environ, PRELOAD);
    if (is_recorded() && (preload == NULL || !names_library(preload + strlen(PRELOAD)) ||
                          variable(environ, monitor_variable) == NULL))
        tell(TELL_UNSEEN, 0, 0, command);
}

EXPORT int system(const char *command)
{
    if (command != NULL)
        tell_of_shell(command);
    return next_system(command);
}

EXPORT FILE *popen(const char *command, const char *type)
{
    tell_of_shell(command);
    return next_popen(command, type);
}

/* ---- Functions that end the process at once ----------------------------------------------------------- */

EXPORT void _exit(int status)
{
    record_exit();
    for (;;)
        syscall(SYS_exit_group, status);
}

EXPORT void _Exit(int status)
{
    _exit(status);
}
