/* unroll-loaded: opens the shared library when it starts, and looks up its functions.
 *
 * The program is linked with a search path: the library is in its own directory.
 */
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>
#include <sysexits.h>

#include "serve.h"

static void *handle;

/* Sets a pointer to a function. ISO C converts no `void *` into one, POSIX does. */
static bool look_up(const char *name, void *function)
{
    void *found = dlsym(handle, name);

    memcpy(function, &found, sizeof found);
    return found;
}

int main(int argc, char **argv)
{
    struct library library;

    handle = dlopen("libunroll.so", RTLD_NOW | RTLD_LOCAL);
    if (!handle || !look_up("unroll_compile", &library.compile)
        || !look_up("unroll_inspect", &library.inspect)
        || !look_up("unroll_run", &library.run)
        || !look_up("unroll_clear", &library.clear)
        || !look_up("unroll_free", &library.free)) {
        fprintf(stderr, "unroll-loaded: %s\n", dlerror());
        return EX_UNAVAILABLE;
    }
    int status = serve(&library, argc, argv);
    dlclose(handle);
    return status;
}
