/* The applications of the benchmarks, and a bare server: the load client's ceiling.
 *
 * No code here may be slower than the measured programs. So it is C, static, with one
 * read(2) and one write(2) per 64 KiB. The first line on stdin is the task. It is a JSON
 * text, because one framing passes nothing else:
 *
 *     "echo"               everything is sent back
 *     "sink"               one word is sent back at the end
 *     "source SIZE COUNT"  COUNT lines of SIZE bytes, including the line feed
 *
 * An exclamation mark in the further input is the end of a sink. Without a first line the
 * program waits, as a small idle application.
 *
 *     programs serve PORT  the same as a bare TCP server that answers any request 101
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SIZE 65536
#define WORD "here\n"
static char buffer[SIZE];

static void put(const char *data, size_t size) {
    while (size > 0) {
        ssize_t written = write(1, data, size);
        if (written <= 0)
            _exit(1);
        data += written;
        size -= written;
    }
}

static void consume(int echo) {
    ssize_t size;
    while ((size = read(0, buffer, SIZE)) > 0) {
        if (echo)
            put(buffer, size);
        else if (memchr(buffer, '!', size)) {
            put(WORD, sizeof WORD - 1);
            return;
        }
    }
}

static void produce(long size, long count) {
    long lines = size < SIZE ? SIZE / size : 1;
    char *block = malloc(lines * size);
    memset(block, 'x', lines * size);
    for (long line = 1; line <= lines; line++)
        block[line * size - 1] = '\n';
    for (; count > lines; count -= lines)
        put(block, lines * size);
    put(block, count * size);
}

static void obey(void) {
    char line[80];
    size_t length = 0;
    long size, count;
    while (length < sizeof line - 1 && read(0, line + length, 1) == 1)
        if (line[length++] == '\n')
            break;
    line[length] = 0;
    if (sscanf(line, "\"source %ld %ld", &size, &count) == 2)
        produce(size, count);
    else if (length)
        consume(strncmp(line, "\"echo", 5) == 0);
}

static const char SWITCHING[] =
    "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    "Sec-WebSocket-Accept: eePBCnBLFa3FwCUaHzgyXQKNmAY=\r\n\r\n";

/* Answers one request head. Returns 1 for "/print", after which no task follows. */
static int greet(void) {
    size_t length = 0;
    while (length < 4 || memcmp(buffer + length - 4, "\r\n\r\n", 4)) {
        ssize_t size = read(0, buffer + length, SIZE - length);
        if (size <= 0)
            return -1;
        length += size;
    }
    put(SWITCHING, sizeof SWITCHING - 1);
    return strncmp(buffer, "GET /print", 10) == 0;
}

static int serve(int port) {
    int on = 1, listener = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    setsockopt(listener, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (bind(listener, (struct sockaddr *)&address, sizeof address)
        || listen(listener, 4096))
        return 1;
    signal(SIGCHLD, SIG_IGN);
    signal(SIGPIPE, SIG_IGN);
    for (;;) {
        int peer = accept(listener, NULL, NULL);
        dup2(peer, 0);
        dup2(peer, 1);
        close(peer);
        int print = greet();
        if (print == 1 && write(1, WORD, sizeof WORD - 1) < 0)
            perror("print");
        else if (print == 0 && fork() == 0) {
            obey();
            _exit(0);
        }
        close(0);
        close(1);
        open("/dev/null", 2); /* keeps the listener and peers off 0 and 1 */
        dup2(0, 1);
    }
}

int main(int argc, char **argv) {
    if (argc == 3 && strcmp(argv[1], "serve") == 0)
        return serve(atoi(argv[2]));
    obey();
    return 0;
}
