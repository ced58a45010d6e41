/* The minimum of a server that starts a process for each connection.
 *
 *     baseline PORT COMMAND [ARG…]
 *
 * For each connection it reads a request head, starts the command on two pipes and
 * answers any request with 101. It relays the output of the command unchanged, and closes
 * its input when the client disconnects. There are no checks, frames, logs or limits.
 *
 * One process per core serves one listener, like the workers of chimirror-server.
 * posix_spawn(3) is vfork(2) here. No server that does more can be faster on this
 * machine, so its ratio to websocketd is the ceiling of all servers.
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
static struct session *sessions[FILES]; /* by the descriptors peer and out */
static char buffer[SIZE];
static int poller, listener;
static char **command;

static void watch(int fd, struct session *self) {
    struct epoll_event event = {.events = EPOLLIN, .data.fd = fd};
    sessions[fd] = self;
    epoll_ctl(poller, EPOLL_CTL_ADD, fd, &event);
}

static void close_fd(int *fd) {
    if (*fd >= 0) {
        /* A child holds the descriptor until its exec. Closing it alone would leave it in
           epoll, and its events would reach the next owner of the number. */
        if (sessions[*fd])
            epoll_ctl(poller, EPOLL_CTL_DEL, *fd, NULL);
        sessions[*fd] = NULL;
        close(*fd);
    }
    *fd = -1;
}

/* Called when the client has disconnected; closes the input of the application. */
static void close_client(struct session *self) {
    close_fd(&self->peer);
    close_fd(&self->in);
    if (self->out < 0)
        free(self);
}

/* Called when the application has ended; closes the connection. */
static void close_application(struct session *self) {
    close_fd(&self->out);
    close_client(self);
}

static void start(struct session *self) {
    int in[2], out[2];
    pid_t pid;
    posix_spawn_file_actions_t moves;
    if (pipe2(in, O_CLOEXEC)) {
        close_client(self);
        return;
    }
    if (pipe2(out, O_CLOEXEC)) {
        close(in[0]);
        close(in[1]);
        close_client(self);
        return;
    }
    posix_spawn_file_actions_init(&moves);
    posix_spawn_file_actions_adddup2(&moves, in[0], 0);
    posix_spawn_file_actions_adddup2(&moves, out[1], 1);
    int failed = posix_spawn(&pid, command[0], &moves, NULL, command, environ);
    posix_spawn_file_actions_destroy(&moves);
    close(in[0]);
    close(out[1]);
    self->in = in[1];
    self->out = out[0];
    watch(self->out, self);
    if (failed || write(self->peer, SWITCHING, sizeof SWITCHING - 1) < 0)
        close_client(self);
}

static void read_client(struct session *self) {
    int waiting = self->out < 0;
    char *target = waiting ? self->request + self->head : buffer;
    size_t space = waiting ? sizeof self->request - self->head : SIZE;
    ssize_t size = read(self->peer, target, space);
    if (size <= 0)
        close_client(self);
    else if (!waiting) {
        if (write(self->in, buffer, size) < 0)
            close_client(self);
    } else if ((self->head += size) >= 4
               && !memcmp(self->request + self->head - 4, "\r\n\r\n", 4))
        start(self);
}

/* Relays output. Returns 0 if it closed a descriptor other than the ready one. */
static int read_application(struct session *self) {
    ssize_t size = read(self->out, buffer, SIZE);
    if (size <= 0)
        close_application(self);
    else if (self->peer >= 0 && write(self->peer, buffer, size) < 0)
        close_client(self);
    else
        return 1;
    return 0;
}

static void accept_client(void) {
    int peer = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (peer < 0)
        return;
    struct session *self = malloc(sizeof *self);
    self->peer = peer;
    self->in = self->out = -1;
    self->head = 0;
    watch(peer, self);
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
                accept_client();
            else if (sessions[fd] && sessions[fd]->peer == fd)
                read_client(sessions[fd]);
            else if (sessions[fd] && !read_application(sessions[fd]))
                break; /* its number may be reused; other events stay ready */
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
    signal(SIGCHLD, SIG_IGN); /* the kernel reaps applications */
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
