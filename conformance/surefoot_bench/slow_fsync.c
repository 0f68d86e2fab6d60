/* Every fsync and fdatasync of the process first waits SUREFOOT_BENCH_FSYNC_NS nanoseconds, as on a slower disk. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>

static int later(const char *name, int fd)
{
    const char *delay = getenv("SUREFOOT_BENCH_FSYNC_NS");
    long long nanoseconds = delay ? atoll(delay) : 0;
    struct timespec wait = {nanoseconds / 1000000000, nanoseconds % 1000000000};
    nanosleep(&wait, NULL);
    return ((int (*)(int))dlsym(RTLD_NEXT, name))(fd);
}

int fsync(int fd)
{
    return later("fsync", fd);
}

int fdatasync(int fd)
{
    return later("fdatasync", fd);
}
