"""A wall clock that a test sets: what a program runs with whose machine's clock is wrong, or is put right while it runs.

Linux can give a process a monotonic clock of its own, but no wall clock. So a library stands before the C library's, and answers for
CLOCK_REALTIME with the machine's time and as many nanoseconds more as a file says. What the program starts does not inherit it.
"""

import mmap
import os
import struct
import subprocess

SOURCE = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static int64_t none; // until the file is open: others' constructors run before
static volatile int64_t *ahead = &none;

__attribute__((constructor)) static void open_file(void) {
    int fd = open(getenv("TEST_CLOCK"), O_RDONLY | O_CLOEXEC);
    void *at = fd < 0 ? MAP_FAILED : mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) abort();
    ahead = at;
    close(fd);
}

int clock_gettime(clockid_t id, struct timespec *t) {
    int failed = syscall(SYS_clock_gettime, id, t);
    if (!failed && (id == CLOCK_REALTIME || id == CLOCK_REALTIME_COARSE)) {
        int64_t now = t->tv_sec * 1000000000LL + t->tv_nsec + *ahead;
        t->tv_sec = now / 1000000000;
        t->tv_nsec = now % 1000000000;
    }
    return failed;
}

int gettimeofday(struct timeval *restrict tv, void *restrict zone) {
    struct timespec t;
    (void)zone;
    clock_gettime(CLOCK_REALTIME, &t);
    tv->tv_sec = t.tv_sec;
    tv->tv_usec = t.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *out) {
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    if (out) *out = t.tv_sec;
    return t.tv_sec;
}
"""


class Clock:
    """A clock in `directory`; `wrap` is what a program is started through that has it."""

    def __init__(self, directory):
        source, library, file = (directory / name for name in ("clock.c", "clock.so", "clock"))
        source.write_text(SOURCE)
        # Rust's own linker: it is there wherever the program was built.
        subprocess.run(["cc", "-shared", "-fPIC", "-O1", "-o", library, source], check=True, timeout=30)
        file.write_bytes(bytes(8))
        fd = os.open(file, os.O_RDWR)
        self._ahead = mmap.mmap(fd, 8)
        os.close(fd)
        self.wrap = ("env", f"LD_PRELOAD={library}", f"TEST_CLOCK={file}")

    def set(self, seconds):
        """So many seconds ahead of this machine's clock; behind it if negative."""
        self._ahead[:] = struct.pack("q", int(seconds * 1e9))
