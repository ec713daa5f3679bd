/* map.c - files mapped for reading (file.h). */
#include "base/faults.h"
#include "base/file.h"
#include "base/text.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

dc_status dc_map_open(dc_map *m, const char *path, dc_error *e)
{
    struct stat st;
    int fd;
    *m = (dc_map){.fd = -1};
    dc_status s = dc_open_regular(&fd, &st, path, e);
    if (s) return s;
    m->fd = fd;
    m->size = (uint64_t)st.st_size;
    m->modified[0] = st.st_mtim.tv_sec;
    m->modified[1] = st.st_mtim.tv_nsec;
    m->path = dc_strdup(path);
    if (!m->path) {
        dc_map_close(m);
        return dc_fail_memory(e, path, strlen(path));
    }
    if (m->size) {
        void *at = mmap(NULL, m->size, PROT_READ, MAP_PRIVATE, fd, 0);
        if (at == MAP_FAILED) {
            s = errno == ENOMEM ? dc_fail_memory(e, path, m->size) : dc_fail(e, DC_IO, "%s: cannot be mapped: %s", path, strerror(errno));
            dc_map_close(m);
            return s;
        }
        m->range = dc_fault_watch(at, m->size);
        if (m->range < 0) {
            munmap(at, m->size);
            s = dc_fail(e, DC_IO, "%s: cannot be mapped: found %d files mapped already, expected fewer", path, DC_FAULT_RANGES);
            dc_map_close(m);
            return s;
        }
        m->data = at;
    }
    return DC_OK;
}

void dc_map_close(dc_map *m)
{
    if (m->data) {
        dc_fault_unwatch(m->range);
        munmap((void *)m->data, m->size);
    }
    if (m->path && m->fd >= 0) close(m->fd); /* a zeroed map has no path: its fd 0 is not ours */
    free(m->path);
    *m = (dc_map){.fd = -1};
}

dc_status dc_map_check(const dc_map *m, dc_error *e)
{
    struct stat st;
    if (!m->path) return DC_OK;
    if (fstat(m->fd, &st) != 0) return dc_fail(e, DC_IO, "%s: cannot be asked for its size: %s", m->path, strerror(errno));
    uint64_t size = (uint64_t)st.st_size;
    dc_status s = DC_OK;
    if (size < m->size)
        s = dc_fail(e, DC_IO, "%s: file: found it cut short while in use: %llu bytes, expected %llu", m->path, (unsigned long long)size,
                    (unsigned long long)m->size);
    else if (m->data && dc_fault_seen(m->range)) s = dc_fail(e, DC_IO, "%s: file: reading failed while in use, expected all its bytes", m->path);
    else if (size != m->size || st.st_mtim.tv_sec != m->modified[0] || st.st_mtim.tv_nsec != m->modified[1])
        s = dc_fail(e, DC_IO, "%s: file: found it changed while in use, expected the same as when it was opened", m->path);
    if (s) dc_hint(e, "Another program wrote to it, as a download or a copy does: try again when that has ended.");
    return s;
}

bool dc_map_lost(const dc_map *m) { return m->data && dc_fault_seen(m->range); }

dc_status dc_map_read(const dc_map *m, uint64_t at, void *to, uint64_t n, const char *part, dc_error *e)
{
    for (uint64_t done = 0; done < n;) {
        ssize_t got = pread(m->fd, (char *)to + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return dc_fail(e, DC_IO, "%s: %s, byte %llu: reading failed: %s", m->path, part, (unsigned long long)(at + done), strerror(errno));
        if (got == 0)
            return dc_fail(e, DC_DATA, "%s: %s, byte %llu: found the end of the file, expected %llu more bytes", m->path, part,
                           (unsigned long long)(at + done), (unsigned long long)(n - done));
        done += (uint64_t)got;
    }
    return DC_OK;
}

void dc_map_forget(const void *at, size_t bytes)
{
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE), from = ((uintptr_t)at + page - 1) / page * page, to = ((uintptr_t)at + bytes) / page * page;
    if (to > from) madvise((void *)from, to - from, MADV_DONTNEED);
}
