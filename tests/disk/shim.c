/*
 * A disk that can be hurt: a library to preload into the program. It watches what is done to files below one directory,
 * counts it, lets syncs and writes fail or wait as a test orders, ends the process at a chosen call, moves the wall clock,
 * and notes in a journal what a power cut would undo. After the process was killed, tests/it/kill/cut.rs undoes it.
 *
 * This file has the calls; watched.h does what they do to watched files; notes.h counts, reads orders and writes the
 * journal.
 *
 * It sees what goes through the C library, as all of std::fs does. It does not see what `rustix` does in the program,
 * which makes system calls itself; so the store does every write, sync, rename and removal through std::fs.
 *
 *   DISK_SHIM_DIR      the watched directory, an absolute path without links
 *   DISK_SHIM_CONTROL  a file of SLOTS numbers of 8 bytes, shared with the test: what was counted, what is ordered
 *   DISK_SHIM_JOURNAL  the journal; it goes on from one process to the next
 *   DISK_SHIM_GRAVES   a directory on the same disk: files that were removed or replaced keep a name there
 *
 * A write, a removal or a renaming is noted before it is done, and each under one lock: whatever a kill cuts off, what was
 * done is noted. A file counts as durable as of the beginning of a sync that went well, a name as of one of its directory.
 */
#include "notes.h"
#include "watched.h"

/* What the program calls. A call before the constructor has run must work too. */
#define READY() \
    if (!real_clock_gettime) find_functions()

#define MODE_OF(flags) \
    mode_t mode = 0; \
    if (((flags) & O_CREAT) || ((flags) & O_TMPFILE) == O_TMPFILE) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, mode_t); \
        va_end(rest); \
    }

#define OPEN(name) \
    int name(const char *path, int flags, ...) { \
        READY(); \
        MODE_OF(flags); \
        return watched_open(AT_FDCWD, path, flags, mode); \
    }
#define OPEN_AT(name) \
    int name(int at, const char *path, int flags, ...) { \
        READY(); \
        MODE_OF(flags); \
        return watched_open(at, path, flags, mode); \
    }
OPEN(open)
OPEN(open64)
OPEN_AT(openat)
OPEN_AT(openat64)

int creat(const char *path, mode_t mode) {
    READY();
    return watched_open(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode);
}

int close(int fd) { READY(); forget(fd); return real_close(fd); }
int dup2(int from, int to) { READY(); return forget(real_dup2(from, forget(to))); }
int dup3(int from, int to, int flags) { READY(); return forget(real_dup3(from, forget(to), flags)); }

ssize_t write(int fd, const void *bytes, size_t length) {
    READY();
    return kind_of(fd) == A_FILE ? watched_write(fd, bytes, length, 0, write_here) : real_write(fd, bytes, length);
}

ssize_t writev(int fd, const struct iovec *parts, int many) {
    READY();
    return kind_of(fd) == A_FILE ? watched_writev(fd, parts, many, 0, write_here) : real_writev(fd, parts, many);
}

ssize_t pwrite(int fd, const void *bytes, size_t length, off_t at) {
    READY();
    return kind_of(fd) == A_FILE ? watched_write(fd, bytes, length, at, write_there)
                                 : real_pwrite(fd, bytes, length, at);
}

ssize_t pwrite64(int fd, const void *bytes, size_t length, off64_t at) { return pwrite(fd, bytes, length, at); }

ssize_t pwritev(int fd, const struct iovec *parts, int many, off_t at) {
    READY();
    return kind_of(fd) == A_FILE ? watched_writev(fd, parts, many, at, write_there)
                                 : real_pwritev(fd, parts, many, at);
}

ssize_t pwritev64(int fd, const struct iovec *parts, int many, off64_t at) { return pwritev(fd, parts, many, at); }

/* Copies inside the kernel would not be seen; who is told that there are none copies by reading and writing. */
ssize_t copy_file_range(int from, off64_t *from_at, int to, off64_t *to_at, size_t length, unsigned flags) {
    (void)from, (void)from_at, (void)to, (void)to_at, (void)length, (void)flags;
    errno = ENOSYS;
    return -1;
}

ssize_t sendfile(int to, int from, off_t *at, size_t length) {
    (void)to, (void)from, (void)at, (void)length;
    errno = EINVAL;
    return -1;
}

ssize_t sendfile64(int to, int from, off64_t *at, size_t length) { return sendfile(to, from, at, length); }

int fsync(int fd) {
    READY();
    int kind = kind_of(fd);
    return kind == OTHER ? real_fsync(fd) : watched_sync(fd, kind == A_DIR, real_fsync);
}

int fdatasync(int fd) {
    READY();
    int kind = kind_of(fd);
    return kind == OTHER ? real_fdatasync(fd) : watched_sync(fd, kind == A_DIR, real_fdatasync);
}

int ftruncate(int fd, off_t length) {
    READY();
    if (kind_of(fd) != A_FILE) return real_ftruncate(fd, length);
    may_die();
    pthread_mutex_lock(&lock);
    struct stat is;
    int result = -1, error = ENOSPC;
    if (fstat(fd, &is)) die("fstat");
    /* A longer file of holes needs no room. */
    if (watched_length(fd, (uint64_t)length, (uint64_t)is.st_size, 0)) {
        result = real_ftruncate(fd, length);
        error = errno;
    }
    pthread_mutex_unlock(&lock);
    may_die();
    errno = error;
    return result;
}

int ftruncate64(int fd, off64_t length) { return ftruncate(fd, length); }

int fallocate(int fd, int how, off_t at, off_t length) {
    READY();
    if (kind_of(fd) != A_FILE) return real_fallocate(fd, how, at, length);
    may_die();
    pthread_mutex_lock(&lock);
    int result = -1, error = ENOSPC;
    uint64_t until = (uint64_t)at + (uint64_t)length;
    if (watched_length(fd, how & ~FALLOC_FL_KEEP_SIZE ? (uint64_t)at : until, until, 1)) {
        result = real_fallocate(fd, how, at, length);
        error = errno;
    }
    pthread_mutex_unlock(&lock);
    may_die();
    errno = error;
    return result;
}

int fallocate64(int fd, int how, off64_t at, off64_t length) { return fallocate(fd, how, at, length); }
int posix_fallocate(int fd, off_t at, off_t length) { return fallocate(fd, 0, at, length) ? errno : 0; }
int posix_fallocate64(int fd, off64_t at, off64_t length) { return posix_fallocate(fd, at, length); }

int rename(const char *from, const char *to) { READY(); return watched_rename(AT_FDCWD, from, AT_FDCWD, to); }
int renameat(int from_at, const char *from, int to_at, const char *to) {
    READY();
    return watched_rename(from_at, from, to_at, to);
}
int unlink(const char *path) { READY(); return watched_remove(AT_FDCWD, path, 0); }
int rmdir(const char *path) { READY(); return watched_remove(AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int at, const char *path, int flags) { READY(); return watched_remove(at, path, flags); }
int mkdir(const char *path, mode_t mode) { READY(); return watched_mkdir(AT_FDCWD, path, mode); }
int mkdirat(int at, const char *path, mode_t mode) { READY(); return watched_mkdir(at, path, mode); }
int link(const char *from, const char *to) { READY(); return watched_link(AT_FDCWD, from, AT_FDCWD, to, 0); }
int linkat(int from_at, const char *from, int to_at, const char *to, int flags) {
    READY();
    return watched_link(from_at, from, to_at, to, flags);
}

static void shift(int64_t *seconds, int64_t *nanoseconds) {
    int64_t by = (int64_t)ordered(CLOCK_NS);
    *seconds += by / 1000000000;
    *nanoseconds += by % 1000000000;
    if (*nanoseconds < 0) *nanoseconds += 1000000000, *seconds -= 1;
    if (*nanoseconds >= 1000000000) *nanoseconds -= 1000000000, *seconds += 1;
}

/* The wall clock alone: clocks that count from the boot go on as they are. */
int clock_gettime(clockid_t clock, struct timespec *at) {
    READY();
    int result = real_clock_gettime(clock, at);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t seconds = at->tv_sec, nanoseconds = at->tv_nsec;
        shift(&seconds, &nanoseconds);
        at->tv_sec = seconds;
        at->tv_nsec = nanoseconds;
    }
    return result;
}

int gettimeofday(struct timeval *restrict at, void *restrict zone) {
    (void)zone;
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    at->tv_sec = now.tv_sec;
    at->tv_usec = now.tv_nsec / 1000;
    return 0;
}

time_t time(time_t *at) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at) *at = now.tv_sec;
    return now.tv_sec;
}
