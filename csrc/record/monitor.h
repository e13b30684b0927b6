/* What the recorder in a program (client.c) and the monitor (monitor.c) say to each other.

   The monitor listens on an abstract Unix socket.  Such a socket has no place in the file system and no
   permissions, so a program finds it from within a chroot, and after it has given up its rights.  It belongs to
   a network namespace: for programs in another there is a second one, in SOCKET_FOLDER.  For each question
   the recorder connects, sends one `struct ask`, receives one `struct answer`, and closes: a program keeps no
   descriptor of the recorder's, and may close all that it finds.  What needs no answer goes as a datagram to
   another socket, the name with TELL_SUFFIX, and the program does not wait until the monitor runs.

   The environment variable HEAPLAB_RECORD of the program holds NAME.TOKEN: the socket's name, which every
   user of the computer can list, and a token, which only the recorded programs know. */
#ifndef HEAPLAB_MONITOR_H
#define HEAPLAB_MONITOR_H

#include <stdint.h>

#define RECORD_VARIABLE "HEAPLAB_RECORD"
#define TOKEN_LENGTH 16u
#define SOCKET_FOLDER "/tmp/"
#define TELL_SUFFIX "+"

enum question {
    ASK_BEGIN = 1, /* an image begins: its first chunk */
    ASK_CHUNK,     /* the next chunk of `image`, at record `first` */
    ASK_EXEC,      /* as TELL_EXEC, from a process whose root directory the monitor looks up meanwhile */
    ASK_SPAWNED,   /* this process has spawned process `pid`, which execs `text` */
    TELL_EXEC,     /* this process is about to exec `text` */
    TELL_STAYED,   /* that exec failed: the image goes on */
    TELL_MODULE,   /* addresses from `first` on are those of the file `text`, in image `image` */
    TELL_UNSEEN,   /* this process runs `text` in a way that cannot be recorded */
};

enum ask_flags {
    ASK_RESTORED = 1,    /* the recorder was gone from the environment, and was put back */
    ASK_UNREACHABLE = 2, /* the recorder's library cannot be opened from where the process is */
};

struct ask {
    char token[TOKEN_LENGTH];
    uint32_t question;
    uint32_t flags;
    uint32_t self; /* the process as it knows itself; differs from what the monitor sees in a pid namespace */
    uint32_t pid;
    uint64_t image;
    uint64_t first;
    char text[4096]; /* as much of it as the message holds, ended by a zero */
};

/* A descriptor of the chunk's memory comes along if `error` is 0. */
struct answer {
    int32_t error;     /* errno */
    uint32_t pid;      /* the process as the monitor sees it */
    uint64_t process;  /* its number among all processes of the recording */
    uint64_t image;    /* the number of the image among all images */
    uint64_t finished; /* chunks 1 to `finished` are written away: the program may unmap them */
    uint64_t base;     /* what the clock showed when the monitor began */
    uint32_t counter;  /* the clock is the processor's time-stamp counter, not CLOCK_MONOTONIC */
    uint32_t stacks;   /* log call stacks too */
};

#endif
