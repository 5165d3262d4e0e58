/* What is shared with the test, what is noted in the journal, and which files are watched. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

/* Slots of the control file; tests/it/kill/shim.rs has the same. */
enum {
    WRITES,       /* writes to files */
    WRITTEN,      /* bytes of them */
    SYNCS_BEGUN,  /* syncs of files and directories */
    SYNCS_DONE,   /* those that went well */
    SYNCS_FAILED, /* those that were made to fail */
    REFUSED,      /* writes and new files that were refused for want of room */
    CALLS,        /* all of these, renamings and removals: places at which to die */
    SYNC_PASS = 16, /* so many syncs go well before SYNC_FAIL counts */
    SYNC_FAIL,      /* so many syncs fail */
    WRITE_PASS,     /* so many writes go well before WRITE_FAIL counts */
    WRITE_FAIL,     /* so many writes fail with ENOSPC */
    WRITE_PART,     /* the first of them writes so many bytes and says so */
    FULL,           /* 1: files cannot grow and none can be made; 2: nothing can be written */
    STALL_NS,       /* each sync waits so long before it begins */
    CLOCK_NS,       /* the wall clock is ahead by so much, signed */
    DIE_IN,         /* the process ends at the so-manieth call from now, as by SIGKILL; 0 for never */
    SYNC_LIES,      /* 1: syncs say that they went well, and a cut takes what they were to keep */
    SLOTS = 32
};

enum { WRITE = 1, ZEROS, LENGTH, SYNC_BEGIN, SYNC_END, CREATE, RENAME, REMOVE, MAKE_DIR, REMOVE_DIR };

struct entry {
    uint32_t magic, kind;
    uint64_t inode, a, b, c;
    uint32_t first_length, second_length;
    uint64_t data_length;
};

#define MAGIC 0x314a5344u
#define SECTOR 512u
#define CHUNK (64u * 1024)
_Static_assert(sizeof(off_t) == 8, "a system of 64 bits");
#define KNOWN_FDS 65536

#define REAL(name) __typeof__(name) *real_##name
static REAL(openat);
static REAL(close);
static REAL(write);
static REAL(writev);
static REAL(pwrite);
static REAL(pwritev);
static REAL(fsync);
static REAL(fdatasync);
static REAL(ftruncate);
static REAL(fallocate);
static REAL(renameat);
static REAL(unlinkat);
static REAL(linkat);
static REAL(mkdirat);
static REAL(dup2);
static REAL(dup3);
static REAL(clock_gettime);

static char root[PATH_MAX];
static char graves[PATH_MAX];
static size_t root_length;
static int journal = -1;
static _Atomic uint64_t no_control[SLOTS];
static _Atomic uint64_t *control = no_control;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static _Atomic uint64_t grave_number, sync_number;
static unsigned char chunk[CHUNK];
static _Atomic int ready;

enum { UNKNOWN, OTHER, A_FILE, A_DIR };
static _Atomic unsigned char known[KNOWN_FDS];

static void die(const char *why) {
    dprintf(2, "disk shim: %s: %s\n", why, strerror(errno));
    abort();
}

static void find_functions(void) {
#define FIND(name) \
    if (!real_##name) real_##name = (__typeof__(real_##name))dlsym(RTLD_NEXT, #name)
    FIND(openat);
    FIND(close);
    FIND(write);
    FIND(writev);
    FIND(pwrite);
    FIND(pwritev);
    FIND(fsync);
    FIND(fdatasync);
    FIND(ftruncate);
    FIND(fallocate);
    FIND(renameat);
    FIND(unlinkat);
    FIND(linkat);
    FIND(mkdirat);
    FIND(dup2);
    FIND(dup3);
    FIND(clock_gettime);
}

__attribute__((constructor)) static void begin(void) {
    find_functions();
    const char *dir = getenv("DISK_SHIM_DIR"), *shared = getenv("DISK_SHIM_CONTROL");
    const char *log = getenv("DISK_SHIM_JOURNAL"), *kept = getenv("DISK_SHIM_GRAVES");
    if (!dir || !shared || !log || !kept) return;
    root_length = strlen(dir);
    if (root_length >= sizeof root || strlen(kept) + 64 >= sizeof graves) return;
    strcpy(root, dir);
    strcpy(graves, kept);
    int fd = real_openat(AT_FDCWD, shared, O_RDWR | O_CLOEXEC);
    if (fd < 0) die(shared);
    void *map = mmap(NULL, SLOTS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) die(shared);
    real_close(fd);
    control = map;
    journal = real_openat(AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    if (journal < 0) die(log);
    /* Names and numbers that no process before has given. */
    struct timespec now;
    real_clock_gettime(CLOCK_MONOTONIC, &now);
    grave_number = sync_number = (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
    ready = 1;
}

static uint64_t ordered(int slot) { return atomic_load(&control[slot]); }
static void count(int slot, uint64_t by) { atomic_fetch_add(&control[slot], by); }

/* Takes one from a slot that counts down; whether there was one. */
static int take(int slot) {
    uint64_t left = ordered(slot);
    while (left > 0) {
        uint64_t next = left == UINT64_MAX ? left : left - 1;
        if (atomic_compare_exchange_weak(&control[slot], &left, next)) return 1;
    }
    return 0;
}

/* One more call, before and after it is done: a place at which the process may have to end. */
static void may_die(void) {
    count(CALLS, 1);
    if (ordered(DIE_IN) == 1) {
        kill(getpid(), SIGKILL);
        for (;;) pause();
    }
    take(DIE_IN);
}

static int is_below(const char *path) {
    return !strncmp(path, root, root_length) && (path[root_length] == '/' || path[root_length] == 0);
}

/* What `fd` is: of a file or directory that is watched, or of anything else. */
static int kind_of(int fd) {
    if (!ready || fd < 0) return OTHER;
    if (fd < KNOWN_FDS && known[fd] != UNKNOWN) return known[fd];
    char link[64], path[PATH_MAX];
    struct stat is;
    int saved = errno, kind = OTHER;
    if (!fstat(fd, &is) && (S_ISREG(is.st_mode) || S_ISDIR(is.st_mode))) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length > 0) {
            path[length] = 0;
            if (is_below(path)) kind = S_ISDIR(is.st_mode) ? A_DIR : A_FILE;
        }
    }
    if (fd < KNOWN_FDS) known[fd] = (unsigned char)kind;
    errno = saved;
    return kind;
}

static int forget(int fd) {
    if (fd >= 0 && fd < KNOWN_FDS) known[fd] = UNKNOWN;
    return fd;
}

/* The absolute path without links; whether it is watched. What it names need not be there. */
static int resolve(int at, const char *path, char *out) {
    if (!ready || !path || !*path) return 0;
    char joined[PATH_MAX], parent[PATH_MAX];
    int saved = errno, length;
    if (path[0] == '/' || at == AT_FDCWD) {
        length = snprintf(joined, sizeof joined, "%s", path);
    } else {
        char link[64], dir[PATH_MAX];
        snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        ssize_t got = readlink(link, dir, sizeof dir - 1);
        errno = saved;
        if (got <= 0) return 0;
        dir[got] = 0;
        length = snprintf(joined, sizeof joined, "%s/%s", dir, path);
    }
    if (length <= 0 || (size_t)length >= sizeof joined) return 0;
    while (length > 1 && joined[length - 1] == '/') joined[--length] = 0;
    char *slash = strrchr(joined, '/');
    const char *name = slash ? slash + 1 : joined;
    char above[PATH_MAX];
    snprintf(above, sizeof above, "%.*s", slash ? (slash == joined ? 1 : (int)(slash - joined)) : 1,
             slash ? joined : ".");
    char *found = realpath(above, parent);
    errno = saved;
    if (!found || strlen(parent) + strlen(name) + 2 > PATH_MAX) return 0;
    size_t parent_length = strlen(parent);
    memcpy(out, parent, parent_length);
    if (parent_length > 1) out[parent_length++] = '/';
    strcpy(out + parent_length, name);
    return is_below(out);
}

static void note(uint32_t kind, uint64_t inode, uint64_t a, uint64_t b, uint64_t c, const char *first,
                 const char *second, const void *data, uint64_t length) {
    struct entry entry = {MAGIC, kind, inode, a, b, c, first ? (uint32_t)strlen(first) : 0,
                          second ? (uint32_t)strlen(second) : 0, length};
    struct iovec parts[] = {{&entry, sizeof entry},
                            {(void *)first, entry.first_length},
                            {(void *)second, entry.second_length},
                            {(void *)data, length}};
    ssize_t all = (ssize_t)(sizeof entry + entry.first_length + entry.second_length + length);
    if (real_writev(journal, parts, 4) != all) die("the journal cannot be written");
}

static int is_zero(const unsigned char *bytes, size_t length) {
    return length == 0 || (bytes[0] == 0 && !memcmp(bytes, bytes + 1, length - 1));
}

/* Notes what is in whole sectors around a range that is about to change. */
static void note_old(int fd, uint64_t inode, uint64_t from, uint64_t until, uint64_t size) {
    int reader = fd, own = -1;
    from -= from % SECTOR;
    until += (SECTOR - until % SECTOR) % SECTOR;
    while (from < until) {
        uint64_t end = until - from > CHUNK ? from + CHUNK : until;
        uint64_t there = size > from ? (size < end ? size - from : end - from) : 0;
        uint64_t got = 0;
        while (got < there) {
            ssize_t part = pread(reader, chunk + got, there - got, (off_t)(from + got));
            if (part < 0 && errno == EBADF && own < 0) {
                char link[64];
                snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
                reader = own = real_openat(AT_FDCWD, link, O_RDONLY | O_CLOEXEC);
                if (own < 0) die("a file cannot be read");
                continue;
            }
            if (part < 0) die("a file cannot be read");
            if (part == 0) break;
            got += (uint64_t)part;
        }
        if (is_zero(chunk, got)) {
            note(ZEROS, inode, from, end, size, NULL, NULL, NULL, 0);
        } else {
            note(WRITE, inode, from, end, size, NULL, NULL, chunk, got);
        }
        from = end;
    }
    if (own >= 0) real_close(own);
}
