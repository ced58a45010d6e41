/* The least that anybody must do who serves a process per connection.
 *
 *     floor PORT COMMAND [ARG…]
 *
 * Law: for each connection it reads a request head, starts the command on two pipes,
 * answers 101 whatever was asked, relays what the command says as it is, and closes its
 * input when the client goes: no check, no frame, no log, no limit. One process per
 * core on one listener, as chimirror-server has its workers; posix_spawn(3) is vfork(2)
 * here. No server that does more can be faster on this machine: its ratio to websocketd
 * is the ceiling of everybody's.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <unistd.h>

enum { SIZE = 65536, FILES = 1 << 20, EVENTS = 64 };
static const char SWITCHING[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: eePBCnBLFa3FwCUaHzgyXQKNmAY=\r\n\r\n";

struct session {
    int peer, in, out; /* -1: closed */
    size_t head;       /* bytes of the request so far */
    char request[4096];
};
static struct session *of[FILES]; /* by its peer, and by its out */
static char buffer[SIZE];
static int poller, listener;
static char **command;

static void watch(int fd, struct session *one) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    of[fd] = one;
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void drop(int *fd) {
    if (*fd >= 0) {
        /* A child holds what is open up to the middle of its exec, so that closing alone
           may leave it to epoll, with events for whoever has the number next. */
        if (of[*fd])
            epoll_ctl(poller, EPOLL_CTL_DEL, *fd, NULL);
        of[*fd] = NULL;
        close(*fd);
    }
    *fd = -1;
}

/* The client has gone: the application reads the end of its input, and ends. */
static void leave(struct session *one) {
    drop(&one->peer);
    drop(&one->in);
    if (one->out < 0)
        free(one);
}

/* The application has ended. */
static void end(struct session *one) {
    drop(&one->out);
    leave(one);
}

static void start(struct session *one) {
    int in[2], out[2];
    pid_t pid;
    posix_spawn_file_actions_t moves;
    if (pipe2(in, O_CLOEXEC)) {
        leave(one);
        return;
    }
    if (pipe2(out, O_CLOEXEC)) {
        close(in[0]);
        close(in[1]);
        leave(one);
        return;
    }
    posix_spawn_file_actions_init(&moves);
    posix_spawn_file_actions_adddup2(&moves, in[0], 0);
    posix_spawn_file_actions_adddup2(&moves, out[1], 1);
    int failed = posix_spawn(&pid, command[0], &moves, NULL, command, environ);
    posix_spawn_file_actions_destroy(&moves);
    close(in[0]);
    close(out[1]);
    one->in = in[1];
    one->out = out[0];
    watch(one->out, one);
    if (failed || write(one->peer, SWITCHING, sizeof SWITCHING - 1) < 0)
        leave(one);
}

static void hear(struct session *one) {
    int waiting = one->out < 0;
    char *where = waiting ? one->request + one->head : buffer;
    size_t room = waiting ? sizeof one->request - one->head : SIZE;
    ssize_t size = read(one->peer, where, room);
    if (size <= 0)
        leave(one);
    else if (!waiting) {
        if (write(one->in, buffer, size) < 0)
            leave(one);
    } else if ((one->head += size) >= 4
               && !memcmp(one->request + one->head - 4, "\r\n\r\n", 4))
        start(one);
}

/* False: another descriptor than the one that is ready was closed. */
static int tell(struct session *one) {
    ssize_t size = read(one->out, buffer, SIZE);
    if (size <= 0)
        end(one);
    else if (one->peer >= 0 && write(one->peer, buffer, size) < 0)
        leave(one);
    else
        return 1;
    return 0;
}

static void welcome(void) {
    int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (peer < 0)
        return;
    struct session *one = malloc(sizeof *one);
    one->peer = peer;
    one->in = one->out = -1;
    one->head = 0;
    watch(peer, one);
}

static void serve(void) {
    struct epoll_event events[EVENTS], event = {.events = EPOLLIN | EPOLLEXCLUSIVE};
    poller = epoll_create1(EPOLL_CLOEXEC);
    event.data.fd = listener;
    epoll_ctl(poller, EPOLL_CTL_ADD, listener, &event);
    for (;;) {
        int count = epoll_wait(poller, events, EVENTS, -1);
        for (int i = 0; i < count; i++) {
            int fd = events[i].data.fd;
            if (fd == listener)
                welcome();
            else if (of[fd] && of[fd]->peer == fd)
                hear(of[fd]);
            else if (of[fd] && !tell(of[fd]))
                break; /* its number may be another's now: what is ready stays so */
        }
    }
}

int main(int argc, char **argv) {
    int on = 1;
    struct sockaddr_in address = {.sin_family = AF_INET};
    if (argc < 3)
        return 64;
    address.sin_port = htons(atoi(argv[1]));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    command = argv + 2;
    signal(SIGCHLD, SIG_IGN); /* nobody waits for applications: the kernel reaps */
    signal(SIGPIPE, SIG_IGN);
    listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address)
        || listen(listener, 4096))
        return 71;
    for (long more = sysconf(_SC_NPROCESSORS_ONLN) - 1; more > 0; more--)
        if (fork() == 0) {
            prctl(PR_SET_PDEATHSIG, SIGTERM);
            break;
        }
    serve();
}
