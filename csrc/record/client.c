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

/* The abstract name, and the same below /tmp, for programs in a network namespace of their own. */
static struct sockaddr_un addresses[2] = {{.sun_family = AF_UNIX}, {.sun_family = AF_UNIX}};
static socklen_t address_lengths[2]; /* 0: not known */
static const char *token;

bool find_monitor(void)
{
    if (address_lengths[0] != 0)
        return true;
    const char *given = getenv(RECORD_VARIABLE);
    const char *dot = given == NULL ? NULL : strrchr(given, '.');
    if (dot == NULL || dot == given || dot - given > MAX_NAME || strlen(dot + 1) != TOKEN_LENGTH)
        return false;
    size_t length = (size_t)(dot - given);
    memcpy(monitor_variable, RECORD_VARIABLE "=", sizeof RECORD_VARIABLE);
    strcpy(monitor_variable + sizeof RECORD_VARIABLE, given);
    token = monitor_variable + sizeof RECORD_VARIABLE + length + 1;
    memcpy(addresses[0].sun_path + 1, given, length); /* behind a zero byte: an abstract name */
    memcpy(stpcpy(addresses[1].sun_path, SOCKET_FOLDER), given, length);
    address_lengths[0] = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + length);
    address_lengths[1] = sizeof addresses[1];
    return true;
}

static bool send_ask(int connection, struct ask *ask, const char *text)
{
    memcpy(ask->token, token, TOKEN_LENGTH);
    ask->self = (uint32_t)getpid();
    size_t length = text == NULL ? 0 : strnlen(text, sizeof ask->text - 1);
    if (length != 0)
        memcpy(ask->text, text, length);
    ask->text[length] = '\0';
    size_t size = offsetof(struct ask, text) + length + 1;
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
    int connection = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
    if (connection < 0)
        return false;
    int connected = -1;
    for (int way = 0; way < 2 && connected < 0; way++)
        do
            connected = connect(connection, (struct sockaddr *)&addresses[way], address_lengths[way]);
        while (connected < 0 && errno == EINTR);
    bool answered = connected == 0 && send_ask(connection, ask, text) && receive_answer(connection, answer, file);
    int error = errno;
    close(connection);
    errno = error;
    return answered;
}
