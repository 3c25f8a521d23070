/* The floor every number of this benchmark is compared with: what two processes and a UNIX stream socket cost in C,
 * without any protocol. Built and run by bench/floor.py.
 *
 *   pingpong echo    CPU MS         16 bytes there and back, one at a time   -> median_ns p99_ns calls
 *   pingpong payload CPU MS SIZE    SIZE bytes there, one byte back          -> median_ns p99_ns calls
 *   pingpong oneway  CPU MS         16-byte messages, nothing back           -> calls per second
 *   pingpong clients CPU MS N       N client processes, a server thread each -> calls per second
 *
 * CPU: pin every process to this cpu, or -1 for none. MS: how long to measure (after a fifth of it as warm-up).
 * Prints one JSON object.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { MESSAGE = 16, MAX_CLIENTS = 64, MAX_SAMPLES = 4000000, PAGE = 4096, ONEWAY_BATCH = 64 };

static void fail(const char *what)
{
    perror(what);
    exit(1);
}

static int64_t now_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pin(int cpu)
{
    if (cpu < 0)
        return;
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof set, &set) != 0)
        fail("sched_setaffinity");
}

static void write_all(int fd, const char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            fail("write");
        data += n;
        size -= (size_t)n;
    }
}

/* Returns 0 at the end of the stream, 1 when all bytes were read. */
static int read_all(int fd, char *data, size_t size)
{
    while (size > 0) {
        ssize_t n = read(fd, data, size);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno != ECONNRESET)
            fail("read");
        if (n <= 0)
            return 0;
        data += n;
        size -= (size_t)n;
    }
    return 1;
}

/* The child dies with its parent, so that an interrupted benchmark leaves nothing behind. */
static pid_t fork_bound(void)
{
    pid_t parent = getpid();
    pid_t child = fork();
    if (child < 0)
        fail("fork");
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent)
            exit(1);
    }
    return child;
}

static void socket_pair(int pair[2])
{
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
        fail("socketpair");
}

static int compare(const void *a, const void *b)
{
    int64_t x = *(const int64_t *)a, y = *(const int64_t *)b;
    return (x > y) - (x < y);
}

static void print_samples(int64_t *samples, size_t count)
{
    qsort(samples, count, sizeof *samples, compare);
    printf("{\"median_ns\": %lld, \"p99_ns\": %lld, \"calls\": %zu}\n", (long long)samples[count / 2],
           (long long)samples[count * 99 / 100], count);
}

static void serve_echo(int fd)
{
    char message[MESSAGE];
    while (read_all(fd, message, MESSAGE))
        write_all(fd, message, MESSAGE);
}

static void serve_payload(int fd, size_t size)
{
    char *buffer = malloc(size);
    volatile char sum = 0;
    if (buffer == NULL)
        fail("malloc");
    while (read_all(fd, buffer, size)) {
        for (size_t i = 0; i < size; i += PAGE)
            sum = (char)(sum + buffer[i]);
        write_all(fd, buffer, 1);
    }
    free(buffer);
}

/* One request of `size` bytes answered by `answer` bytes, again and again for `ms` milliseconds. */
static void measure(int fd, size_t size, size_t answer, int ms)
{
    int64_t *samples = malloc(sizeof *samples * MAX_SAMPLES);
    char *message = calloc(1, size);
    if (samples == NULL || message == NULL)
        fail("malloc");
    int64_t begin = now_ns() + (int64_t)ms * 200000, end = begin + (int64_t)ms * 1000000, before;
    size_t count = 0;
    do {
        before = now_ns();
        write_all(fd, message, size);
        if (!read_all(fd, message, answer)) {
            fputs("the server ended\n", stderr);
            exit(1);
        }
        if (before >= begin)
            samples[count++] = now_ns() - before;
    } while ((before < end || count < 3) && count < MAX_SAMPLES);
    print_samples(samples, count);
    free(samples);
    free(message);
}

static void run_calls(int cpu, int ms, size_t size)
{
    int pair[2];
    pin(cpu);
    socket_pair(pair);
    pid_t child = fork_bound();
    if (child == 0) {
        close(pair[0]);
        if (size == MESSAGE)
            serve_echo(pair[1]);
        else
            serve_payload(pair[1], size);
        exit(0);
    }
    close(pair[1]);
    measure(pair[0], size, size == MESSAGE ? MESSAGE : 1, ms);
    close(pair[0]);
    waitpid(child, NULL, 0);
}

static void run_oneway(int cpu, int ms)
{
    int pair[2];
    pin(cpu);
    socket_pair(pair);
    pid_t child = fork_bound();
    if (child == 0) {
        char message[MESSAGE];
        uint64_t count = 0;
        close(pair[0]);
        while (read_all(pair[1], message, MESSAGE) && message[0] == 0)
            count++;
        write_all(pair[1], (char *)&count, sizeof count);
        exit(0);
    }
    close(pair[1]);
    char message[MESSAGE] = {0};
    uint64_t count = 0;
    int64_t begin = now_ns(), end = begin + (int64_t)ms * 1000000;
    while (now_ns() < end)
        for (int i = 0; i < ONEWAY_BATCH; i++)
            write_all(pair[0], message, MESSAGE);
    message[0] = 1;
    write_all(pair[0], message, MESSAGE);
    if (!read_all(pair[0], (char *)&count, sizeof count))
        fail("read");
    printf("{\"per_second\": %.0f}\n", (double)count * 1e9 / (double)(now_ns() - begin));
    close(pair[0]);
    waitpid(child, NULL, 0);
}

static void *serve_thread(void *fd)
{
    serve_echo((int)(intptr_t)fd);
    return NULL;
}

static void client_process(int fd, int ms, int gate, int result)
{
    char message[MESSAGE] = {0}, go;
    uint64_t count = 0;
    read_all(gate, &go, 1); /* the end of the stream is the signal to start */
    for (int64_t end = now_ns() + (int64_t)ms * 1000000; now_ns() < end; count++) {
        write_all(fd, message, MESSAGE);
        if (!read_all(fd, message, MESSAGE))
            exit(1);
    }
    write_all(result, (char *)&count, sizeof count);
    exit(0);
}

static void run_clients(int cpu, int ms, int clients)
{
    int pairs[MAX_CLIENTS][2], gate[2], result[2];
    uint64_t total = 0, count;
    pthread_t threads[MAX_CLIENTS];
    if (clients < 1 || clients > MAX_CLIENTS) {
        fputs("1 to 64 clients\n", stderr);
        exit(2);
    }
    pin(cpu);
    if (pipe(gate) != 0 || pipe(result) != 0)
        fail("pipe");
    for (int i = 0; i < clients; i++) {
        socket_pair(pairs[i]);
        if (fork_bound() == 0) {
            close(gate[1]);
            for (int k = 0; k <= i; k++)
                close(pairs[k][0]);
            client_process(pairs[i][1], ms, gate[0], result[1]);
        }
        close(pairs[i][1]);
    }
    for (int i = 0; i < clients; i++)
        if (pthread_create(&threads[i], NULL, serve_thread, (void *)(intptr_t)pairs[i][0]) != 0)
            fail("pthread_create");
    close(result[1]);
    close(gate[1]);
    while (read_all(result[0], (char *)&count, sizeof count))
        total += count;
    while (wait(NULL) > 0)
        ;
    printf("{\"per_second\": %.0f}\n", (double)total * 1000.0 / ms);
}

int main(int argc, char **argv)
{
    if (argc < 4) {
        fputs("usage: pingpong echo|payload|oneway|clients CPU MS [SIZE|N]\n", stderr);
        return 2;
    }
    const char *mode = argv[1];
    int cpu = atoi(argv[2]), ms = atoi(argv[3]);
    long last = argc > 4 ? atol(argv[4]) : 0;
    signal(SIGPIPE, SIG_IGN);
    if (strcmp(mode, "echo") == 0)
        run_calls(cpu, ms, MESSAGE);
    else if (strcmp(mode, "payload") == 0 && last > MESSAGE)
        run_calls(cpu, ms, (size_t)last);
    else if (strcmp(mode, "oneway") == 0)
        run_oneway(cpu, ms);
    else if (strcmp(mode, "clients") == 0)
        run_clients(cpu, ms, (int)last);
    else {
        fputs("unknown mode or missing number\n", stderr);
        return 2;
    }
    return 0;
}
