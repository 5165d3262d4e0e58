/* What is done to watched files and directories. */

/* How many of `length` bytes at `at` may be written now; none with ENOSPC. */
static uint64_t allowed(uint64_t at, uint64_t length, uint64_t size) {
    uint64_t full = ordered(FULL);
    if (full == 2) return 0;
    if (full == 1 && at + length > size) return size > at ? size - at : 0;
    if (ordered(WRITE_FAIL) == 0 || take(WRITE_PASS)) return length;
    uint64_t part = atomic_exchange(&control[WRITE_PART], 0);
    if (part > 0) return part < length ? part : length;
    return take(WRITE_FAIL) ? 0 : length;
}

typedef ssize_t writer(int fd, const void *bytes, size_t length, off_t at);

static ssize_t write_here(int fd, const void *bytes, size_t length, off_t at) {
    (void)at;
    return real_write(fd, bytes, length);
}

static ssize_t write_there(int fd, const void *bytes, size_t length, off_t at) {
    return real_pwrite(fd, bytes, length, at);
}

static ssize_t watched_write(int fd, const void *bytes, size_t length, off_t at, writer *writer) {
    may_die();
    pthread_mutex_lock(&lock);
    struct stat is;
    if (fstat(fd, &is)) die("fstat");
    if (!S_ISREG(is.st_mode)) {
        /* The number is another's now: it was closed where this library does not see it. */
        pthread_mutex_unlock(&lock);
        forget(fd);
        return writer(fd, bytes, length, at);
    }
    if (writer == write_here) {
        at = fcntl(fd, F_GETFL) & O_APPEND ? is.st_size : lseek(fd, 0, SEEK_CUR);
    }
    ssize_t result = -1;
    int error = ENOSPC;
    uint64_t size = (uint64_t)is.st_size, room = allowed((uint64_t)at, length, size);
    if (room == 0 && length > 0) {
        count(REFUSED, 1);
    } else {
        note_old(fd, is.st_ino, (uint64_t)at, (uint64_t)at + room, size);
        result = writer(fd, bytes, room, at);
        error = errno;
        count(WRITES, 1);
        if (result > 0) count(WRITTEN, (uint64_t)result);
    }
    pthread_mutex_unlock(&lock);
    may_die();
    errno = error;
    return result;
}

/* One piece after the other: the first that is not written whole ends it, as a short write does. */
static ssize_t watched_writev(int fd, const struct iovec *parts, int many, off_t at, writer *writer) {
    ssize_t all = 0;
    for (int part = 0; part < many; part++) {
        if (parts[part].iov_len == 0) continue;
        ssize_t done = watched_write(fd, parts[part].iov_base, parts[part].iov_len, at + all, writer);
        if (done < 0) return all > 0 ? all : -1;
        all += done;
        if ((size_t)done < parts[part].iov_len) break;
    }
    return all;
}

static void wait_for_stall(void) {
    struct timespec begun, now, nap = {0, 2000000};
    real_clock_gettime(CLOCK_MONOTONIC, &begun);
    for (;;) {
        real_clock_gettime(CLOCK_MONOTONIC, &now);
        uint64_t passed = (uint64_t)(now.tv_sec - begun.tv_sec) * 1000000000u;
        passed += (uint64_t)now.tv_nsec - (uint64_t)begun.tv_nsec;
        /* Asked again each time: a test may end the stall. */
        if (passed >= ordered(STALL_NS)) return;
        nanosleep(&nap, NULL);
    }
}

static int watched_sync(int fd, int is_dir, int (*sync)(int)) {
    char path[PATH_MAX] = "", link[64];
    if (is_dir) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t length = readlink(link, path, sizeof path - 1);
        if (length < 0) die("a directory without a name");
        path[length] = 0;
    }
    may_die();
    pthread_mutex_lock(&lock);
    struct stat is;
    if (fstat(fd, &is)) die("fstat");
    uint64_t number = atomic_fetch_add(&sync_number, 1);
    count(SYNCS_BEGUN, 1);
    note(SYNC_BEGIN, is_dir ? 0 : is.st_ino, number, (uint64_t)is.st_size, 0, path, NULL, NULL, 0);
    int fails = ordered(SYNC_FAIL) > 0 && !take(SYNC_PASS) && take(SYNC_FAIL);
    pthread_mutex_unlock(&lock);
    wait_for_stall();
    int result = fails ? -1 : sync(fd), error = fails ? EIO : errno;
    pthread_mutex_lock(&lock);
    note(SYNC_END, is_dir ? 0 : is.st_ino, number, result == 0 && !ordered(SYNC_LIES), 0, path, NULL, NULL, 0);
    count(result == 0 ? SYNCS_DONE : SYNCS_FAILED, 1);
    pthread_mutex_unlock(&lock);
    may_die();
    errno = error;
    return result;
}

static int watched_length(int fd, uint64_t from, uint64_t until, int grows) {
    struct stat is;
    if (fstat(fd, &is)) die("fstat");
    if (grows && ordered(FULL) != 0 && until > (uint64_t)is.st_size) {
        count(REFUSED, 1);
        return 0;
    }
    note(LENGTH, is.st_ino, 0, 0, (uint64_t)is.st_size, NULL, NULL, NULL, 0);
    if (from < until) note_old(fd, is.st_ino, from, until, (uint64_t)is.st_size);
    return 1;
}

/* Gives a file that is about to lose its name one among the graves. */
static void bury(const char *path, char *grave) {
    uint64_t number = atomic_fetch_add(&grave_number, 1);
    int length = snprintf(grave, PATH_MAX, "%s/%llu", graves, (unsigned long long)number);
    if (length >= PATH_MAX || real_linkat(AT_FDCWD, path, AT_FDCWD, grave, 0)) die("a file cannot be kept");
}

static int watched_open(int at, const char *path, int flags, mode_t mode) {
    char whole[PATH_MAX];
    int changes = flags & (O_CREAT | O_TRUNC);
    if (!changes || (flags & O_TMPFILE) == O_TMPFILE || !resolve(at, path, whole)) {
        return forget(real_openat(at, path, flags, mode));
    }
    may_die();
    pthread_mutex_lock(&lock);
    struct stat is;
    int there = !stat(whole, &is), fd = -1, error = ENOSPC;
    if (!there && (flags & O_CREAT) && ordered(FULL) != 0) {
        count(REFUSED, 1);
    } else {
        int both = O_CREAT | O_EXCL;
        if (there && (flags & O_TRUNC) && (flags & both) != both && S_ISREG(is.st_mode)) {
            int old = real_openat(AT_FDCWD, whole, O_RDONLY | O_CLOEXEC);
            note(LENGTH, is.st_ino, 0, 0, (uint64_t)is.st_size, NULL, NULL, NULL, 0);
            if (old >= 0) {
                note_old(old, is.st_ino, 0, (uint64_t)is.st_size, (uint64_t)is.st_size);
                real_close(old);
            }
        }
        fd = forget(real_openat(at, path, flags, mode));
        error = errno;
        if (fd >= 0 && !there && !fstat(fd, &is)) note(CREATE, is.st_ino, 0, 0, 0, whole, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    may_die();
    errno = error;
    return fd;
}

static int watched_rename(int from_at, const char *from, int to_at, const char *to) {
    char old[PATH_MAX], new[PATH_MAX], grave[PATH_MAX] = "";
    struct stat is, other;
    int watched = resolve(from_at, from, old);
    if (!resolve(to_at, to, new) || !watched || stat(old, &is)) return real_renameat(from_at, from, to_at, to);
    may_die();
    pthread_mutex_lock(&lock);
    if (!stat(new, &other) && S_ISREG(other.st_mode)) bury(new, grave);
    note(RENAME, is.st_ino, 0, 0, 0, old, new, grave, strlen(grave));
    int result = real_renameat(from_at, from, to_at, to), error = errno;
    pthread_mutex_unlock(&lock);
    may_die();
    errno = error;
    return result;
}

static int watched_remove(int at, const char *path, int flags) {
    char whole[PATH_MAX], grave[PATH_MAX] = "";
    struct stat is;
    int is_dir = flags & AT_REMOVEDIR;
    if (!resolve(at, path, whole) || lstat(whole, &is) || !(is_dir || S_ISREG(is.st_mode))) {
        return real_unlinkat(at, path, flags);
    }
    may_die();
    pthread_mutex_lock(&lock);
    if (!is_dir) bury(whole, grave);
    note(is_dir ? REMOVE_DIR : REMOVE, is.st_ino, 0, 0, 0, whole, NULL, grave, strlen(grave));
    int result = real_unlinkat(at, path, flags), error = errno;
    pthread_mutex_unlock(&lock);
    may_die();
    errno = error;
    return result;
}

static int watched_mkdir(int at, const char *path, mode_t mode) {
    char whole[PATH_MAX];
    if (!resolve(at, path, whole)) return real_mkdirat(at, path, mode);
    may_die();
    pthread_mutex_lock(&lock);
    int result = -1, error = ENOSPC;
    if (ordered(FULL) != 0) {
        count(REFUSED, 1);
    } else {
        result = real_mkdirat(at, path, mode);
        error = errno;
        if (result == 0) note(MAKE_DIR, 0, 0, 0, 0, whole, NULL, NULL, 0);
    }
    pthread_mutex_unlock(&lock);
    may_die();
    errno = error;
    return result;
}

static int watched_link(int from_at, const char *from, int to_at, const char *to, int flags) {
    char new[PATH_MAX];
    struct stat is;
    if (!resolve(to_at, to, new)) return real_linkat(from_at, from, to_at, to, flags);
    pthread_mutex_lock(&lock);
    int result = real_linkat(from_at, from, to_at, to, flags), error = errno;
    if (result == 0 && !stat(new, &is)) note(CREATE, is.st_ino, 0, 0, 0, new, NULL, NULL, 0);
    pthread_mutex_unlock(&lock);
    errno = error;
    return result;
}
