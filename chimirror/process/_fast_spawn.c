/* Starts a program at a cost that does not depend on the number of descriptors.
 *
 * fork(2) and vfork(2) copy the descriptor table: 1.1 ms for 5,000 descriptors. The
 * child of clone(2) with CLONE_FILES shares the table. close_range(2) then gives it a
 * table of its own, with the lowest descriptors only. What the program gets is put
 * into reserved slots among these before.
 *
 * The child shares the memory of this process (CLONE_VM), which waits for execve(2)
 * (CLONE_VFORK). All signals are blocked meanwhile: a handler of this process must not
 * run in the child. The GIL is held, so one start at a time uses the slots.
 *
 * Knows no session and no loop. Linux, glibc, the stable ABI of Python 3.11.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "_clone3.h"

#ifndef CLOSE_RANGE_UNSHARE
#define CLOSE_RANGE_UNSHARE 2
#endif
#ifndef SYS_close_range
#define SYS_close_range 436 /* on all architectures */
#endif

#define SLOTS 4      /* standard input, output and error, and the control channel */
#define FIRST_SLOT 3 /* at least */
#define LAST_SLOT 1000
#define STACK_SIZE (64 * 1024)
#define GUARD_SIZE (64 * 1024) /* a multiple of any page size */
#define KERNEL_SIGNALS 64
#define MASK_SIZE (KERNEL_SIGNALS / 8) /* bytes of a signal set of the kernel */
#define NEW_PIPE (-2)                  /* instead of a descriptor: make a pipe */
#define EX_FAILED 127                  /* never seen: the error is in the job */

static char *stack;        /* of the child, with a guard page below */
static int first_slot = -1;
static int null_fd = -1;   /* keeps unused slots from getting another file */
static int has_clone3 = 1; /* until it has failed */
static int can_bind;       /* this process may be bound to one processor */
static cpu_set_t allowed;  /* processors of a process that asks for all */
static uint64_t ignored;   /* signals that this process ignores, 1 << number - 1 */

/* What the child is to do. It writes the error before it ends. */
struct job {
    char **paths; /* files to try in order, up to NULL */
    char **argv;
    char **environment;
    const char *directory; /* or NULL */
    int has_control;
    int has_terminal;
    int has_limit;
    struct rlimit limit; /* of descriptors */
    int cgroup;          /* descriptor of its directory, or -1 */
    int joins_cgroup;    /* the child has to move itself */
    int has_no_handlers; /* of signals: the kernel has removed them */
    int binds;           /* the child begins on the processor of this process */
    int is_bound;        /* this process and the child, to that processor */
    pid_t parent;        /* this process */
    int error;           /* errno, or 0 */
    int in_directory;    /* the directory is the reason */
};

/* The number is that of errno, which the child shares with this process. */
static int fail(struct job *job)
{
    job->error = errno;
    _exit(EX_FAILED);
}

/* Notes which signals this process ignores. struct sigaction of the kernel begins with
 * the handler where clone3_call() is possible. */
static void find_ignored(void)
{
    ignored = 0;
    for (int number = 1; number <= KERNEL_SIGNALS; number++) {
        char action[64];
        uintptr_t handler = 0;
        int failed = syscall(SYS_rt_sigaction, number, NULL, action, MASK_SIZE) != 0;
        if (!failed)
            memcpy(&handler, action, sizeof handler);
        if (failed || handler == (uintptr_t)SIG_IGN)
            ignored |= (uint64_t)1 << (number - 1);
    }
}

/* Lets a process run on all processors that its cgroup has, now or later. */
static int unbind(pid_t pid)
{
    cpu_set_t all;
    memset(&all, 0xFF, sizeof all);
    return sched_setaffinity(pid, sizeof all, &all);
}

/* Finds out whether unbind() would change nothing. A process that somebody has bound
 * stays bound. The calls fail in a filter, and with more processors than the set has. */
static void find_processors(void)
{
    cpu_set_t before;
    can_bind = 0;
    if (sched_getaffinity(0, sizeof before, &before) < 0 || unbind(0) < 0
        || sched_getaffinity(0, sizeof allowed, &allowed) < 0)
        return;
    if (CPU_EQUAL(&before, &allowed))
        can_bind = CPU_COUNT(&allowed) > 1;
    else
        sched_setaffinity(0, sizeof before, &before);
}

/* Binds this process to its processor, and so the child that is cloned next. Otherwise
 * the child gets another processor if that looks idle, and has to wait for it. execve(2)
 * and the scheduler spread the load later. */
static void bind_to_processor(struct job *job)
{
    cpu_set_t before, one;
    int number = can_bind && job->binds ? sched_getcpu() : -1;
    if (number < 0 || number >= CPU_SETSIZE
        || sched_getaffinity(0, sizeof before, &before) < 0
        || !CPU_EQUAL(&before, &allowed))
        return;
    CPU_ZERO(&one);
    CPU_SET(number, &one);
    job->is_bound = sched_setaffinity(0, sizeof one, &one) == 0;
}

/* The parent can then go on elsewhere while the program runs. */
static int unbind_both(struct job *job)
{
    if (unbind(job->parent) < 0)
        return -1;
    job->is_bound = 0;
    return unbind(0);
}

/* Gives each signal its default action. sigaction(3) refuses those of the C library. */
static int reset_signals(const struct job *job)
{
    char none[64] = {0}; /* struct sigaction of the kernel: SIG_DFL, no flags */
    for (int number = 1; number <= KERNEL_SIGNALS; number++) {
        int is_ignored = ignored >> (number - 1) & 1;
        if (number == SIGKILL || number == SIGSTOP)
            continue;
        if (job->has_no_handlers && !is_ignored)
            continue;
        if (syscall(SYS_rt_sigaction, number, none, NULL, MASK_SIZE) != 0)
            return -1;
    }
    return 0;
}

static int set_descriptors(const struct job *job)
{
    if (syscall(SYS_close_range, first_slot + SLOTS, ~0U, CLOSE_RANGE_UNSHARE) != 0)
        return -1;
    if (job->has_terminal) {
        if (setsid() < 0 || ioctl(first_slot, TIOCSCTTY, 0) < 0)
            return -1;
    } else if (setpgid(0, 0) < 0) {
        return -1;
    }
    for (int number = 0; number < 3; number++) {
        int slot = first_slot + (job->has_terminal ? 0 : number);
        if (dup2(slot, number) < 0)
            return -1;
    }
    if (!job->has_control)
        return 0;
    /* last: the number may be that of another slot */
    return dup2(first_slot + 3, 3) < 0 ? -1 : 0;
}

/* Tries the files as execvp(3) does. Returns only on an error. */
static void execute(const struct job *job)
{
    int denied = 0;
    for (char **path = job->paths; *path != NULL; path++) {
        execve(*path, job->argv, job->environment);
        if (errno == EACCES)
            denied = 1;
        else if (errno != ENOENT && errno != ENOTDIR && errno != ESTALE
                 && errno != ENODEV && errno != ETIMEDOUT)
            return;
    }
    if (denied)
        errno = EACCES;
}

/* Moves this process. The descriptor table is still that of the parent. */
static int join_cgroup(const struct job *job)
{
    int fd = openat(job->cgroup, "cgroup.procs", O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return -1;
    ssize_t written = write(fd, "0", 1);
    int error = errno;
    close(fd);
    errno = error;
    return written < 0 ? -1 : 0;
}

/* Lets the program get SIGTERM when this process dies. Its supervisor does the same and
 * kills later. So this matters only if both are killed at once. Another change of ids
 * would clear the setting. The signal is blocked yet. */
static void set_death_signal(const struct job *job)
{
    if (prctl(PR_SET_PDEATHSIG, SIGTERM) == 0 && getppid() != job->parent)
        kill(getpid(), SIGTERM);
}

static int run_child(void *argument)
{
    struct job *job = argument;
    if (job->is_bound && unbind_both(job) < 0)
        return fail(job);
    if (job->joins_cgroup && join_cgroup(job) < 0)
        return fail(job);
    if (set_descriptors(job) < 0)
        return fail(job);
    if (job->directory != NULL && chdir(job->directory) < 0) {
        job->in_directory = 1;
        return fail(job);
    }
    if (job->has_limit && setrlimit(RLIMIT_NOFILE, &job->limit) < 0)
        return fail(job);
    set_death_signal(job);
    uint64_t none = 0;
    if (reset_signals(job) < 0
        || syscall(SYS_rt_sigprocmask, SIG_SETMASK, &none, NULL, MASK_SIZE) != 0)
        return fail(job);
    errno = ENOENT; /* no file to try */
    execute(job);
    return fail(job);
}

/* Starts the child of a job. Returns its pid, or -1 with errno. */
static pid_t clone_child(struct job *job, pid_t *record)
{
    int flags = CLONE_VM | CLONE_VFORK | CLONE_FILES | CLONE_PARENT_SETTID;
    if (has_clone3) {
        struct clone3_arguments arguments = {
            .flags = (uint64_t)flags | CLONE_CLEAR_SIGHAND,
            .parent_tid = (uint64_t)(uintptr_t)record,
            .exit_signal = SIGCHLD,
            .stack = (uint64_t)(uintptr_t)(stack + GUARD_SIZE),
            .stack_size = STACK_SIZE,
        };
        if (job->cgroup >= 0) {
            arguments.flags |= CLONE_INTO_CGROUP;
            arguments.cgroup = (uint64_t)job->cgroup;
        }
        job->has_no_handlers = 1;
        long result = clone3_call(&arguments, run_child, job);
        if (result >= 0)
            return (pid_t)result;
        errno = (int)-result;
        /* an architecture without it, a filter, or a kernel without the flag */
        if (errno != ENOSYS && errno != EPERM && errno != E2BIG && errno != EINVAL)
            return -1;
        has_clone3 = 0;
        job->has_no_handlers = 0;
    }
    job->joins_cgroup = job->cgroup >= 0;
    char *top = stack + GUARD_SIZE + STACK_SIZE;
    return clone(run_child, top, flags | SIGCHLD, job, record, NULL, NULL);
}

/* Runs the job in a child. Returns its pid, or -1 with the error in the job. The kernel
 * writes the pid before the child runs. */
static pid_t run_job(struct job *job, pid_t *record)
{
    uint64_t all = ~(uint64_t)0, before;
    /* sigprocmask(2) of the C library leaves its own signals unblocked */
    if (syscall(SYS_rt_sigprocmask, SIG_SETMASK, &all, &before, MASK_SIZE) != 0) {
        job->error = errno;
        return -1;
    }
    bind_to_processor(job);
    pid_t pid = clone_child(job, record);
    if (pid < 0)
        job->error = errno;
    if (job->is_bound) /* no child has run */
        unbind(0);
    syscall(SYS_rt_sigprocmask, SIG_SETMASK, &before, NULL, MASK_SIZE);
    if (pid >= 0 && job->error != 0) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
            ;
        pid = -1;
    }
    if (pid < 0)
        *record = 0;
    return pid;
}

/* Takes the reserved slots back from the files of a start. */
static void clear_slots(const int *fds)
{
    for (int number = 0; number < SLOTS; number++)
        if (fds[number] >= 0)
            dup3(null_fd, first_slot + number, O_CLOEXEC);
}

/* Makes the pipes that are wanted. The ends of this process do not block. */
static int make_pipes(int *fds, int *parent_fds)
{
    for (int number = 0; number < 3; number++) {
        int ends[2], is_input = number == 0;
        if (fds[number] != NEW_PIPE)
            continue;
        if (pipe2(ends, O_CLOEXEC) < 0)
            return -1;
        parent_fds[number] = ends[is_input];
        fds[number] = ends[!is_input];
        if (fcntl(ends[is_input], F_SETFL, O_NONBLOCK) < 0)
            return -1;
    }
    return 0;
}

/* Closes the ends of the child, and in case of an error those of this process. */
static void close_pipes(const int *fds, const int *parent_fds, int failed)
{
    for (int number = 0; number < 3; number++)
        if (parent_fds[number] >= 0) {
            close(fds[number]);
            if (failed)
                close(parent_fds[number]);
        }
}

/* Puts descriptors into the slots. The null device stands for -1. */
static int fill_slots(const int *fds)
{
    for (int number = 0; number < SLOTS; number++) {
        int fd = fds[number] < 0 ? null_fd : fds[number];
        if (fd != null_fd && dup3(fd, first_slot + number, O_CLOEXEC) < 0) {
            int error = errno;
            clear_slots(fds);
            errno = error;
            return -1;
        }
    }
    return 0;
}

/* Null-terminated C strings. Those that were encoded live as long as `owner`. */
struct strings {
    char **list;
    char *block;     /* holds the variables of an environment */
    PyObject *owner; /* a list of bytes objects */
};

/* One text as bytes, without the final NUL. */
struct text {
    const char *data;
    size_t size;
};

static void free_strings(struct strings *strings)
{
    PyMem_Free(strings->list);
    PyMem_Free(strings->block);
    Py_CLEAR(strings->owner);
}

static int make_strings(struct strings *strings, Py_ssize_t count)
{
    strings->owner = PyList_New(0);
    strings->list = PyMem_Calloc((size_t)count + 1, sizeof *strings->list);
    if (strings->owner != NULL && strings->list != NULL)
        return 0;
    PyErr_NoMemory();
    return -1;
}

/* Finds the bytes of a str that has only ASCII characters. They live as long as it. */
static int find_ascii(PyObject *object, struct text *text)
{
    Py_ssize_t size;
    if (!PyUnicode_Check(object))
        return 0;
    text->data = PyUnicode_AsUTF8AndSize(object, &size);
    if (text->data == NULL) {
        PyErr_Clear(); /* a byte that is no text: encoding decides */
        return 0;
    }
    text->size = (size_t)size;
    return size == PyUnicode_GetLength(object) && strlen(text->data) == text->size;
}

/* Encodes a text like os.fsencode(). A NUL is a ValueError. */
static int encode(PyObject *object, struct strings *strings, struct text *text)
{
    if (find_ascii(object, text))
        return 0;
    PyObject *bytes = NULL;
    if (!PyUnicode_FSConverter(object, &bytes))
        return -1;
    int failed = PyList_Append(strings->owner, bytes) < 0;
    text->data = PyBytes_AsString(bytes);
    text->size = (size_t)PyBytes_Size(bytes);
    Py_DECREF(bytes);
    return failed ? -1 : 0;
}

static int encode_tuple(struct strings *strings, PyObject *tuple)
{
    Py_ssize_t count = PyTuple_Size(tuple);
    if (count < 0 || make_strings(strings, count) < 0)
        return -1;
    for (Py_ssize_t index = 0; index < count; index++) {
        struct text text;
        if (encode(PyTuple_GetItem(tuple, index), strings, &text) < 0)
            return -1;
        strings->list[index] = (char *)text.data; /* execve(2) does not change it */
    }
    return 0;
}

static int is_name(const struct text *name)
{
    return name->size > 0 && memchr(name->data, '=', name->size) == NULL;
}

/* Writes all variables into one block. */
static void join_variables(struct strings *strings, const struct text *texts,
                           Py_ssize_t count)
{
    char *target = strings->block;
    for (Py_ssize_t index = 0; index < count; index++) {
        const struct text *name = &texts[2 * index], *value = name + 1;
        strings->list[index] = target;
        memcpy(target, name->data, name->size);
        target += name->size;
        *target++ = '=';
        memcpy(target, value->data, value->size);
        target += value->size;
        *target++ = '\0';
    }
}

static int encode_environment(struct strings *strings, PyObject *dict)
{
    Py_ssize_t position = 0, index = 0, count = PyDict_Size(dict);
    PyObject *name, *value;
    if (make_strings(strings, count) < 0)
        return -1;
    struct text *texts = PyMem_Calloc((size_t)count + 1, 2 * sizeof *texts);
    size_t size = 1;
    int failed = texts == NULL;
    while (!failed && index < count && PyDict_Next(dict, &position, &name, &value)) {
        struct text *pair = &texts[2 * index++];
        failed = encode(name, strings, pair) < 0 || encode(value, strings, pair + 1) < 0;
        if (!failed && !is_name(pair)) {
            PyErr_SetString(PyExc_ValueError, "illegal environment variable name");
            failed = 1;
        }
        size += pair[0].size + pair[1].size + 2;
    }
    if (!failed)
        strings->block = PyMem_Malloc(size);
    if (!failed && strings->block != NULL)
        join_variables(strings, texts, index);
    PyMem_Free(texts);
    if (!failed && strings->block != NULL)
        return 0;
    if (!PyErr_Occurred())
        PyErr_NoMemory();
    return -1;
}

static PyObject *raise_error(const struct job *job, PyObject *argv, PyObject *directory)
{
    errno = job->error;
    PyObject *subject = job->in_directory ? directory : PyTuple_GetItem(argv, 0);
    return PyErr_SetFromErrnoWithFilenameObject(PyExc_OSError, subject);
}

static PyObject *spawn(PyObject *module, PyObject *arguments)
{
    PyObject *paths, *argv, *environment, *directory, *limit;
    int fds[SLOTS], parent_fds[3] = {-1, -1, -1}, has_terminal, cgroup, binds;
    Py_buffer record;
    Py_ssize_t offset;
    if (first_slot < 0) {
        PyErr_SetString(PyExc_RuntimeError, "reserve() was not called");
        return NULL;
    }
    if (!PyArg_ParseTuple(arguments, "O!O!O!(iiii)OpOipw*n", &PyTuple_Type, &paths,
                          &PyTuple_Type, &argv, &PyDict_Type, &environment, &fds[0],
                          &fds[1], &fds[2], &fds[3], &directory, &has_terminal, &limit,
                          &cgroup, &binds, &record, &offset))
        return NULL;
    struct job job = {.has_control = fds[3] >= 0, .has_terminal = has_terminal,
                      .cgroup = cgroup, .binds = binds, .parent = getpid()};
    struct strings files = {0}, words = {0}, variables = {0};
    PyObject *encoded_directory = NULL, *result = NULL;
    if (offset < 0 || offset % (Py_ssize_t)sizeof(pid_t) != 0
        || offset > record.len - (Py_ssize_t)sizeof(pid_t)) {
        PyErr_SetString(PyExc_ValueError, "no place for the pid");
        goto done;
    }
    if (PyTuple_Size(argv) == 0) {
        PyErr_SetString(PyExc_ValueError, "no program");
        goto done;
    }
    if (limit != Py_None) {
        unsigned long long soft, hard;
        if (!PyArg_ParseTuple(limit, "KK", &soft, &hard))
            goto done;
        job.has_limit = 1;
        job.limit.rlim_cur = soft;
        job.limit.rlim_max = hard;
    }
    if (encode_tuple(&files, paths) < 0 || encode_tuple(&words, argv) < 0
        || encode_environment(&variables, environment) < 0)
        goto done;
    if (directory != Py_None) {
        if (!PyUnicode_FSConverter(directory, &encoded_directory))
            goto done;
        job.directory = PyBytes_AsString(encoded_directory);
    }
    job.paths = files.list;
    job.argv = words.list;
    job.environment = variables.list;
    pid_t pid = -1;
    if (make_pipes(fds, parent_fds) < 0 || fill_slots(fds) < 0) {
        job.error = errno;
    } else {
        pid = run_job(&job, (pid_t *)((char *)record.buf + offset));
        clear_slots(fds);
    }
    close_pipes(fds, parent_fds, pid < 0);
    result = pid < 0 ? raise_error(&job, argv, directory)
                     : Py_BuildValue("iiii", (int)pid, parent_fds[0], parent_fds[1],
                                     parent_fds[2]);
done:
    PyBuffer_Release(&record);
    free_strings(&files);
    free_strings(&words);
    free_strings(&variables);
    Py_XDECREF(encoded_directory);
    return result;
}

static int are_free(int first)
{
    for (int number = first; number < first + SLOTS; number++)
        if (fcntl(number, F_GETFD) >= 0)
            return 0;
    return 1;
}

static int open_slots(void)
{
    int fd = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (fd < 0)
        return -1;
    int first = FIRST_SLOT;
    while (first <= LAST_SLOT && !are_free(first))
        first++;
    for (int number = 0; number < SLOTS; number++)
        if (first > LAST_SLOT || dup3(fd, first + number, O_CLOEXEC) < 0) {
            int error = first > LAST_SLOT ? EMFILE : errno;
            while (number-- > 0)
                close(first + number);
            close(fd);
            errno = error == EBADF ? EMFILE : error; /* dup3: above the limit */
            return -1;
        }
    null_fd = fd;
    first_slot = first;
    return 0;
}

static PyObject *reserve(PyObject *module, PyObject *unused)
{
    if (first_slot < 0 && open_slots() < 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    find_ignored();
    find_processors();
    return PyLong_FromLong(first_slot);
}

static PyObject *release(PyObject *module, PyObject *unused)
{
    if (first_slot >= 0) {
        for (int number = 0; number < SLOTS; number++)
            close(first_slot + number);
        close(null_fd);
        first_slot = null_fd = -1;
    }
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"reserve", reserve, METH_NOARGS,
     "Reserve the slots, and note the ignored signals and the processors. Returns the "
     "first slot."},
    {"release", release, METH_NOARGS, "Close the slots."},
    {"spawn", spawn, METH_VARARGS, "Start a program. Returns its pid, and this process's ends of the pipes."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT,
    .m_name = "_fast_spawn",
    .m_doc = "Starts programs by clone(2).",
    .m_size = -1,
    .m_methods = methods,
};

PyMODINIT_FUNC PyInit__fast_spawn(void)
{
    void *memory = mmap(NULL, GUARD_SIZE + STACK_SIZE, PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_STACK, -1, 0);
    if (memory == MAP_FAILED || mprotect(memory, GUARD_SIZE, PROT_NONE) != 0)
        return PyErr_SetFromErrno(PyExc_OSError);
    stack = memory;
    return PyModule_Create(&definition);
}
