/* unroll-static and unroll-shared: the linker finds the functions of the library. */
#include "serve.h"

int main(int argc, char **argv)
{
    static const struct library library = {
        unroll_compile, unroll_inspect, unroll_run, unroll_clear, unroll_free,
    };

    return serve(&library, argc, argv);
}
