#define _GNU_SOURCE
#include "client.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define MAX_NAME 80

char monitor_variable[sizeof RECORD_VARIABLE + MAX_NAME + 1 + TOKEN_LENGTH + 1];

struct place {
    struct sockaddr_un address;
    socklen_t length; /* 0: not known */
};

/* By abstract names, and below SOCKET_FOLDER for programs in a network namespace of their own. */
static struct place question_places[2], tell_places[2];
static const char *token;

static void find_places(struct place places[2], const char *name, size_t length, const char *suffix)
{
    places[0].address.sun_family = places[1].address.sun_family = AF_UNIX;
    char *hidden = places[0].address.sun_path + 1; /* behind a zero byte: an abstract name */
    strcpy(mempcpy(hidden, name, length), suffix);
    strcpy(mempcpy(stpcpy(places[1].address.sun_path, SOCKET_FOLDER), name, length), suffix);
    places[0].length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length + strlen(suffix));
    places[1].length = sizeof places[1].address;
}

bool find_monitor(void)
{
    if (token != NULL)
        return true;
    const char *given = getenv(RECORD_VARIABLE);
    const char *dot = given == NULL ? NULL : strrchr(given, '.');
    if (dot == NULL || dot == given || dot - given > MAX_NAME || strlen(dot + 1) != TOKEN_LENGTH)
        return false;
    size_t length = (size_t)(dot - given);
    memcpy(monitor_variable, RECORD_VARIABLE "=", sizeof RECORD_VARIABLE);
    strcpy(monitor_variable + sizeof RECORD_VARIABLE, given);
    find_places(question_places, given, length, "");
    find_places(tell_places, given, length, TELL_SUFFIX);
    token = monitor_variable + sizeof RECORD_VARIABLE + length + 1;
    return true;
}

/* Complete the message; return its size. */
static size_t complete(struct ask *ask, const char *text)
{
    memcpy(ask->token, token, TOKEN_LENGTH);
    ask->self = (uint32_t)getpid();
    size_t length = text == NULL ? 0 : strnlen(text, sizeof ask->text - 1);
    if (length != 0)
        memcpy(ask->text, text, length);
    ask->text[length] = '\0';
    return offsetof(struct ask, text) + length + 1;
}

static bool connect_to(int connection, const struct place places[2])
{
    int connected = -1;
    for (int way = 0; way < 2 && connected < 0; way++)
        do
            connected = connect(connection, (const struct sockaddr *)&places[way].address, places[way].length);
        while (connected < 0 && errno == EINTR);
    return connected == 0;
}

static bool send_whole(int connection, const struct ask *ask, size_t size)
{
    ssize_t sent;
    do
        sent = send(connection, ask, size, MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent == (ssize_t)size;
}

static bool receive_answer(int connection, struct answer *answer, int *file)
{
    union {
        struct cmsghdr header;
        char space[CMSG_SPACE(sizeof(int))];
    } control;
    struct iovec part = {answer, sizeof *answer};
    struct msghdr message = {
        .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    ssize_t received;
    do
        received = recvmsg(connection, &message, MSG_CMSG_CLOEXEC);
    while (received < 0 && errno == EINTR);
    struct cmsghdr *with = received < 0 ? NULL : CMSG_FIRSTHDR(&message);
    if (with != NULL && with->cmsg_type == SCM_RIGHTS)
        memcpy(file, CMSG_DATA(with), sizeof *file);
    if (received == sizeof *answer && answer->error == 0)
        return true;
    if (received >= 0)
        errno = received == sizeof *answer ? answer->error : ECONNRESET;
    return false;
}

bool ask_monitor(struct ask *ask, const char *text, struct answer *answer, int *file)
{
    *file = -1;
    size_t size = complete(ask, text);
    int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connection < 0)
        return false;
    bool answered = connect_to(connection, question_places) && send_whole(connection, ask, size) &&
                    receive_answer(connection, answer, file);
    int error = errno;
    close(connection);
    errno = error;
    return answered;
}

void tell_monitor(struct ask *ask, const char *text)
{
    size_t size = complete(ask, text);
    int connection = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (connection >= 0) {
        if (connect_to(connection, tell_places))
            send_whole(connection, ask, size);
        close(connection);
    }
}
