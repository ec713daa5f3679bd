/* vectors.c - the file of vectors beside the database: appended to, mapped, written anew, checked. */
#include "base/checked.h"
#include "base/half.h"
#include "base/text.h"
#include "search/inside.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

/* Numbers as this machine has them: little-endian, as every machine diffc runs on is. */
typedef struct vectors_header {
    char mark[8]; /* "diffcvec" */
    uint32_t version, dims, width, kind /* 1: IEEE half precision */;
    int64_t generation;
    uint8_t zeros[32];
} vectors_header;
_Static_assert(sizeof(vectors_header) == STORE_HEADER, "as documented");

static char *vectors_path(const dc_store *s, int64_t generation) { return dc_format("%svectors.%" PRId64, s->folder, generation); }
static uint64_t row_bytes(const dc_store *s) { return 2 * (uint64_t)s->info.width; }
static uint64_t place(const dc_store *s, int64_t row) { return STORE_HEADER + (uint64_t)row * row_bytes(s); }

static vectors_header header_of(const dc_store *s, int64_t generation)
{
    return (vectors_header){"diffcvec", 1, (uint32_t)s->info.is.dims, (uint32_t)s->info.width, 1, generation, {0}};
}

static dc_status check_header(const dc_store *s, const void *bytes, uint64_t size, const char *path, dc_error *e)
{
    vectors_header expected = header_of(s, s->generation);
    dc_status status = DC_OK;
    uint64_t least = place(s, s->info.rows);
    if (size < STORE_HEADER || memcmp(bytes, &expected, sizeof expected) != 0)
        status = dc_fail(e, DC_DATA, "%s: found another header than the index tells, expected vectors of %d numbers", path, s->info.is.dims);
    else if (size < least)
        status = dc_fail(e, DC_DATA, "%s: found %" PRIu64 " bytes, expected at least %" PRIu64 " for %" PRId64 " vectors", path, size, least,
                         s->info.rows);
    dc_hint(e, "`diffc index --rebuild` makes the index anew from the pictures.");
    return status;
}

/* ---- reading ------------------------------------------------------------------------------------------------------------ */

dc_status store_map(dc_store *s, bool *again, dc_error *e)
{
    char *path = vectors_path(s, s->generation);
    if (!path) return dc_fail_memory(e, s->folder, 0);
    dc_map_close(&s->map);
    *again = access(path, F_OK) != 0;
    dc_status status = dc_map_open(&s->map, path, e);
    if (!status) status = check_header(s, s->map.data, s->map.size, path, e);
    free(path);
    return status;
}

const uint16_t *dc_store_rows(const dc_store *s) { return s->info.rows ? (const uint16_t *)(const void *)(s->map.data + STORE_HEADER) : NULL; }

dc_status dc_store_lost(const dc_store *s, dc_error *e)
{
    return dc_map_lost(&s->map) ? dc_fail(e, DC_IO, "%s: reading failed while in use, expected all its bytes", s->map.path) : DC_OK;
}

/* ---- writing ------------------------------------------------------------------------------------------------------------- */

static dc_status write_at(const char *path, int fd, const void *bytes, uint64_t n, uint64_t at, dc_error *e)
{
    for (uint64_t done = 0; done < n;) {
        ssize_t got = pwrite(fd, (const char *)bytes + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return dc_fail(e, DC_IO, "%s: writing failed: %s", path, strerror(got < 0 ? errno : ENOSPC));
        done += (uint64_t)got;
    }
    return DC_OK;
}

static dc_status read_at(const char *path, int fd, void *bytes, uint64_t n, uint64_t at, dc_error *e)
{
    for (uint64_t done = 0; done < n;) {
        ssize_t got = pread(fd, (char *)bytes + done, n - done, (off_t)(at + done));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return dc_fail(e, DC_IO, "%s: reading failed: %s", path, got < 0 ? strerror(errno) : "it ends too early");
        done += (uint64_t)got;
    }
    return DC_OK;
}

/* Of all generations but one; 0: all. What cannot be removed is only in the way of nothing. */
static void remove_vectors(const dc_store *s, int64_t but)
{
    char keep[40];
    snprintf(keep, sizeof keep, "vectors.%" PRId64, but);
    DIR *d = opendir(s->folder);
    for (struct dirent *f; d && (f = readdir(d));)
        if (!strncmp(f->d_name, "vectors.", 8) && strcmp(f->d_name, keep) != 0) unlinkat(dirfd(d), f->d_name, 0);
    if (d) closedir(d);
}

dc_status store_wipe(dc_store *s, dc_error *e)
{
    static const char *const ends[] = {"", "-wal", "-shm", "-journal"};
    for (size_t i = 0; i < sizeof ends / sizeof *ends; i++) {
        char *path = dc_format("%s%s", s->name, ends[i]);
        if (!path) return dc_fail_memory(e, s->name, 0);
        int failed = unlink(path) && errno != ENOENT ? errno : 0;
        free(path);
        if (failed) return dc_fail(e, DC_NO_CREATE, "%s%s: cannot be removed: %s", s->name, ends[i], strerror(failed));
    }
    remove_vectors(s, 0);
    return DC_OK;
}

static dc_status make_file(dc_store *s, int64_t generation, int *fd, char **path, dc_error *e)
{
    vectors_header h = header_of(s, generation);
    *path = vectors_path(s, generation);
    if (!*path) return dc_fail_memory(e, s->folder, 0);
    *fd = open(*path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
    if (*fd < 0) return dc_fail(e, DC_NO_CREATE, "%s: cannot be written: %s", *path, strerror(errno));
    return write_at(*path, *fd, &h, sizeof h, 0, e);
}

dc_status store_open_vectors(dc_store *s, dc_error *e)
{
    struct stat st;
    uint8_t head[STORE_HEADER];
    char *path = vectors_path(s, s->generation);
    dc_status status = path ? DC_OK : dc_fail_memory(e, s->folder, 0);
    if (!status && !s->info.rows) { /* nothing is promised yet: whatever is there goes */
        free(path);
        status = make_file(s, s->generation, &s->vectors, &path, e);
        if (!status) status = store_sync(s, e);
        if (!status) dc_sync_folder_of(path);
    } else if (!status) {
        s->vectors = open(path, O_RDWR | O_CLOEXEC);
        if (s->vectors < 0 || fstat(s->vectors, &st)) {
            status = dc_fail(e, errno == ENOENT ? DC_DATA : DC_NO_CREATE, "%s: cannot be opened: %s", path, strerror(errno));
            dc_hint(e, "`diffc index --rebuild` makes the index anew from the pictures.");
        }
        uint64_t size = status ? 0 : (uint64_t)st.st_size;
        if (!status && size >= STORE_HEADER) status = read_at(path, s->vectors, head, sizeof head, 0, e);
        if (!status) status = check_header(s, head, size, path, e);
        if (!status && size > place(s, s->info.rows) && ftruncate(s->vectors, (off_t)place(s, s->info.rows)))
            status = dc_fail(e, DC_IO, "%s: cannot be cut to what is counted: %s", path, strerror(errno));
    }
    if (!status) remove_vectors(s, s->generation);
    if (!status && !(s->row = dc_calloc((size_t)s->info.width, 2))) status = dc_fail_memory(e, "a vector", row_bytes(s));
    free(path);
    return status;
}

dc_status store_append(dc_store *s, int64_t row, const float *unit, uint64_t *sum, dc_error *e)
{
    for (int i = 0; i < s->info.is.dims; i++)
        if (!isfinite(unit[i]) || fabsf(unit[i]) > 2)
            return dc_fail(e, DC_INTERNAL, "vector: found a number of %g, expected a length of 1", (double)unit[i]);
    for (int i = 0; i < s->info.is.dims; i++) s->row[i] = dc_f32_to_f16(unit[i]);
    *sum = XXH3_64bits(s->row, row_bytes(s));
    return write_at(s->folder, s->vectors, s->row, row_bytes(s), place(s, row), e);
}

dc_status store_sync(dc_store *s, dc_error *e)
{
    return fdatasync(s->vectors) ? dc_fail(e, DC_IO, "%s: writing failed: %s", s->folder, strerror(errno)) : DC_OK;
}

/* ---- written anew ----------------------------------------------------------------------------------------------------------- */

typedef struct move {
    dc_store *s;
    const char *path;
    int to;
    int64_t next;
} move;

static dc_status update_row(dc_store *s, sqlite3_stmt *q, int64_t from, int64_t to, dc_error *e)
{
    sqlite3_reset(q);
    sqlite3_bind_int64(q, 1, to);
    sqlite3_bind_int64(q, 2, from);
    return store_step(s, q, NULL, e);
}

/* Rows that live, in their order, to the beginning of the new file: a row's number never grows, so none is taken twice on the way. */
static dc_status move_rows(move *m, const uint8_t *dead, dc_error *e)
{
    dc_store *s = m->s;
    sqlite3_stmt *vectors = NULL, *files = NULL;
    dc_status status = DC_OK;
    if (sqlite3_prepare_v2(s->db, "UPDATE vectors SET row = ? WHERE row = ?", -1, &vectors, NULL) ||
        sqlite3_prepare_v2(s->db, "UPDATE files SET row = ? WHERE row = ?", -1, &files, NULL))
        status = store_failed(s, sqlite3_errcode(s->db), e);
    for (int64_t i = 0; i < s->info.rows && !status; i++) {
        if (dead && dead[i >> 3] >> (i & 7) & 1) continue;
        status = read_at(s->folder, s->vectors, s->row, row_bytes(s), place(s, i), e);
        if (!status) status = write_at(m->path, m->to, s->row, row_bytes(s), place(s, m->next), e);
        if (!status && m->next != i) status = update_row(s, vectors, i, m->next, e);
        if (!status && m->next != i) status = update_row(s, files, i, m->next, e);
        m->next++;
    }
    sqlite3_finalize(vectors);
    sqlite3_finalize(files);
    return status;
}

static dc_status compact(dc_store *s, dc_error *e)
{
    uint8_t *dead = NULL;
    char *path = NULL;
    move m = {.s = s, .to = -1};
    dc_status status = dc_store_dead(s, &dead, e);
    if (!status) status = make_file(s, s->generation + 1, &m.to, &path, e);
    if (!status) status = dc_store_begin(s, e);
    m.path = path;
    if (!status) status = move_rows(&m, dead, e);
    if (!status && fdatasync(m.to)) status = dc_fail(e, DC_IO, "%s: writing failed: %s", path, strerror(errno));
    if (!status) dc_sync_folder_of(path);
    if (!status) status = store_run(s, "DELETE FROM dead", e);
    if (!status) status = store_set(s, "rows", m.next, e);
    if (!status) status = store_set(s, "generation", s->generation + 1, e);
    if (!status) status = dc_store_commit(s, e);
    if (!status) {
        close(s->vectors);
        s->vectors = m.to;
        s->generation++;
        s->info.rows = s->next = m.next;
        s->info.dead = 0;
        remove_vectors(s, s->generation);
    } else {
        dc_store_abandon(s);
        if (m.to >= 0) {
            close(m.to);
            unlink(path);
        }
    }
    free(path);
    free(dead);
    return status;
}

dc_status dc_store_sweep(dc_store *s, dc_error *e)
{
    bool row;
    sqlite3_stmt *q = store_ask(s, COUNT_DEAD, e);
    dc_status status = q ? store_step(s, q, &row, e) : e->code;
    if (status) return status;
    s->info.dead = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    if (s->info.dead) status = store_run(s, "DELETE FROM vectors WHERE row IN (SELECT row FROM dead)", e);
    if (!status && s->info.dead > 256 && s->info.dead > s->info.rows / 4) status = compact(s, e);
    return status;
}

/* ---- checking ------------------------------------------------------------------------------------------------------------------ */

static dc_status expect_none(dc_store *s, const char *sql, const char *what, dc_error *e)
{
    sqlite3_stmt *q = NULL;
    int code = sqlite3_prepare_v2(s->db, sql, -1, &q, NULL);
    if (!code) code = sqlite3_step(q);
    dc_status status = code == SQLITE_DONE ? DC_OK : code == SQLITE_ROW ? store_damaged(s, what, e) : store_failed(s, code, e);
    sqlite3_finalize(q);
    return status;
}

static dc_status check_sums(dc_store *s, dc_error *e)
{
    sqlite3_stmt *q = NULL;
    int code = sqlite3_prepare_v2(s->db, "SELECT row, sum FROM vectors ORDER BY row", -1, &q, NULL);
    dc_status status = DC_OK;
    while (!code && !status && (code = sqlite3_step(q)) == SQLITE_ROW) {
        const int64_t row = sqlite3_column_int64(q, 0);
        code = 0;
        char what[80];
        snprintf(what, sizeof what, "row %" PRId64 " is not what was written", row);
        if (row < 0 || row >= s->info.rows) status = store_damaged(s, "found a content with a row that is not there", e);
        else if (XXH3_64bits(s->map.data + place(s, row), row_bytes(s)) != (uint64_t)sqlite3_column_int64(q, 1)) status = store_damaged(s, what, e);
    }
    if (!status && code && code != SQLITE_DONE) status = store_failed(s, code, e);
    sqlite3_finalize(q);
    return status ? status : dc_store_lost(s, e);
}

dc_status dc_store_check(dc_store *s, dc_error *e)
{
    dc_status status = expect_none(s, "SELECT * FROM pragma_integrity_check WHERE integrity_check <> 'ok'", "SQLite's integrity check fails", e);
    if (!status)
        status =
            expect_none(s, "SELECT 1 FROM files WHERE row IS NOT NULL AND (row NOT IN (SELECT row FROM vectors) OR row IN (SELECT row FROM dead))",
                        "a file has a row without a vector", e);
    if (!status)
        status = expect_none(
            s, "SELECT 1 FROM vectors WHERE row NOT IN (SELECT row FROM dead) AND row NOT IN (SELECT row FROM files WHERE row IS NOT NULL)",
            "a row is neither dead nor of a file", e);
    if (!status)
        status =
            expect_none(s, "SELECT 1 FROM files JOIN vectors USING(row) WHERE files.hash IS NOT vectors.hash", "a file has another one's row", e);
    return status ? status : check_sums(s, e);
}
