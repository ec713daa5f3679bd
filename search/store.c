/* store.c - the database of an index: opening, looking up, changing. vectors.c has the file beside it. */
#include "search/store.h"
#include "base/file.h"
#include "base/text.h"
#include "include/diffc.h"
#include "search/inside.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#define APPLICATION 0x64696666 /* "diff", in the database's header */
#define VERSION     1
#define MOST_PATH   PATH_MAX

/* What SQLite keeps of the schema is these texts: an index has exactly them, so that nothing else in a file can run (views, triggers, ...). In
 * the order of their names. */
static const char *const schema[] = {
    "CREATE TABLE dead(row INTEGER PRIMARY KEY)",
    "CREATE TABLE files(id INTEGER PRIMARY KEY, path BLOB NOT NULL, size INTEGER NOT NULL, modified INTEGER NOT NULL, hash BLOB, row INTEGER, "
    "width INTEGER, height INTEGER, error TEXT)",
    "CREATE UNIQUE INDEX files_path ON files(path)",
    "CREATE INDEX files_row ON files(row)",
    "CREATE TABLE meta(key TEXT PRIMARY KEY NOT NULL, value) WITHOUT ROWID",
    "CREATE TABLE vectors(row INTEGER PRIMARY KEY, hash BLOB NOT NULL, sum INTEGER NOT NULL)",
    "CREATE UNIQUE INDEX vectors_hash ON vectors(hash)",
};
enum { SCHEMA = sizeof schema / sizeof *schema };

static const char *const texts[STATEMENTS] = {
    [FIND] = "SELECT id, path, size, modified, hash, row, width, height, error FROM files WHERE path = ?",
    [FIND_HASH] = "SELECT row FROM vectors WHERE hash = ?",
    [EACH] = "SELECT id, path, size, modified, hash, row, width, height, error FROM files ORDER BY id",
    [EACH_FAILED] = "SELECT id, path, size, modified, hash, row, width, height, error FROM files WHERE row IS NULL ORDER BY path",
    [OF_ROW] = "SELECT id, path, size, modified, hash, row, width, height, error FROM files WHERE row = ? ORDER BY path",
    [DEAD] = "SELECT row FROM dead",
    [ADD] = "INSERT INTO vectors(row, hash, sum) VALUES(?, ?, ?)",
    [PUT] = "INSERT INTO files(path, size, modified, hash, row, width, height, error) VALUES(?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT(path) DO UPDATE "
            "SET size = excluded.size, modified = excluded.modified, hash = excluded.hash, row = excluded.row, width = excluded.width, "
            "height = excluded.height, error = excluded.error",
    [FORGET] = "DELETE FROM files WHERE id = ?",
    [BURY] = "INSERT OR IGNORE INTO dead(row) SELECT ?1 WHERE NOT EXISTS(SELECT 1 FROM files WHERE row = ?1)",
    [REVIVE] = "DELETE FROM dead WHERE row = ?",
    [SET] = "INSERT INTO meta(key, value) VALUES(?, ?) ON CONFLICT(key) DO UPDATE SET value = excluded.value",
    [GET] = "SELECT value FROM meta WHERE key = ?",
    [COUNT_DEAD] = "SELECT count(*) FROM dead",
};

/* ---- SQLite ------------------------------------------------------------------------------------------------------- */

dc_status store_failed(const dc_store *s, int code, dc_error *e)
{
    const char *said = s->db ? sqlite3_errmsg(s->db) : sqlite3_errstr(code);
    dc_status status;
    switch (code & 0xff) {
    case SQLITE_NOMEM: return dc_fail_memory(e, s->name, 0);
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
    case SQLITE_MISMATCH:
    case SQLITE_CONSTRAINT:
    case SQLITE_TOOBIG:
    case SQLITE_RANGE:
    case SQLITE_ERROR:
        status = dc_fail(e, DC_DATA, "%s: found a damaged index: %s", s->name, said);
        dc_hint(e, "`diffc index --rebuild` makes it anew from the pictures.");
        return status;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return dc_fail(e, DC_UNAVAILABLE, "%s: in use by another program: %s", s->name, said);
    case SQLITE_CANTOPEN:
    case SQLITE_PERM:
    case SQLITE_AUTH:
    case SQLITE_READONLY: return dc_fail(e, s->writer ? DC_NO_CREATE : DC_NO_INPUT, "%s: cannot be opened: %s", s->name, said);
    default: return dc_fail(e, DC_IO, "%s: %s", s->name, said);
    }
}

dc_status store_run(dc_store *s, const char *sql, dc_error *e)
{
    int code = sqlite3_exec(s->db, sql, NULL, NULL, NULL);
    return code == SQLITE_OK ? DC_OK : store_failed(s, code, e);
}

sqlite3_stmt *store_ask(dc_store *s, statement which, dc_error *e)
{
    sqlite3_stmt **at = &s->statement[which];
    if (!*at) {
        int code = sqlite3_prepare_v3(s->db, texts[which], -1, SQLITE_PREPARE_PERSISTENT, at, NULL);
        if (code != SQLITE_OK) return store_failed(s, code, e), NULL;
    }
    sqlite3_reset(*at);
    sqlite3_clear_bindings(*at);
    return *at;
}

dc_status store_step(dc_store *s, sqlite3_stmt *q, bool *row, dc_error *e)
{
    int code = sqlite3_step(q);
    if (row) *row = code == SQLITE_ROW;
    if (code == SQLITE_ROW || code == SQLITE_DONE) {
        if (code == SQLITE_DONE || !row) sqlite3_reset(q);
        return DC_OK;
    }
    dc_status status = store_failed(s, code, e);
    sqlite3_reset(q);
    return status;
}

dc_status store_damaged(const dc_store *s, const char *what, dc_error *e)
{
    dc_status status = dc_fail(e, DC_DATA, "%s: found a damaged index: %s", s->name, what);
    dc_hint(e, "`diffc index --rebuild` makes it anew from the pictures.");
    return status;
}

/* ---- meta ---------------------------------------------------------------------------------------------------------- */

static dc_status get_number(dc_store *s, const char *key, int64_t least, int64_t most, int64_t *out, dc_error *e)
{
    sqlite3_stmt *q = store_ask(s, GET, e);
    if (!q) return e->code;
    bool row;
    sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC);
    dc_status status = store_step(s, q, &row, e);
    if (status) return status;
    char what[100];
    snprintf(what, sizeof what, "%s: found %s, expected a number", key, row ? "something else" : "nothing");
    if (!row || sqlite3_column_type(q, 0) != SQLITE_INTEGER) status = store_damaged(s, what, e);
    else {
        *out = sqlite3_column_int64(q, 0);
        snprintf(what, sizeof what, "%s: found %lld, expected %lld to %lld", key, (long long)*out, (long long)least, (long long)most);
        if (*out < least || *out > most) status = store_damaged(s, what, e);
    }
    sqlite3_reset(q);
    return status;
}

/* *out: a new string; NULL where there is none. */
static dc_status get_text(dc_store *s, const char *key, char **out, dc_error *e)
{
    sqlite3_stmt *q = store_ask(s, GET, e);
    if (!q) return e->code;
    bool row;
    sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC);
    dc_status status = store_step(s, q, &row, e);
    *out = NULL;
    if (status || !row) return status;
    const int n = sqlite3_column_bytes(q, 0), type = sqlite3_column_type(q, 0);
    const void *bytes = sqlite3_column_blob(q, 0);
    if (type == SQLITE_NULL) status = DC_OK;
    else if ((type != SQLITE_BLOB && type != SQLITE_TEXT) || n > MOST_PATH || (n && memchr(bytes, 0, (size_t)n))) status = store_damaged(s, key, e);
    else if (!(*out = strndup(n ? bytes : "", (size_t)n))) status = dc_fail_memory(e, s->name, (unsigned)n);
    sqlite3_reset(q);
    return status;
}

dc_status store_set(dc_store *s, const char *key, int64_t value, dc_error *e)
{
    sqlite3_stmt *q = store_ask(s, SET, e);
    if (!q) return e->code;
    sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, value);
    return store_step(s, q, NULL, e);
}

static dc_status set_text(dc_store *s, const char *key, const char *value, dc_error *e)
{
    sqlite3_stmt *q = store_ask(s, SET, e);
    if (!q) return e->code;
    sqlite3_bind_text(q, 1, key, -1, SQLITE_STATIC);
    if (value) sqlite3_bind_blob(q, 2, value, (int)strlen(value), SQLITE_STATIC);
    return store_step(s, q, NULL, e);
}

static void forget_texts(dc_store *s)
{
    for (int i = 0; i < 3; i++) {
        free(s->text[i]);
        s->text[i] = NULL;
    }
}

static dc_status read_meta(dc_store *s, dc_error *e)
{
    int64_t dims = 0;
    forget_texts(s);
    dc_status status = get_text(s, "model", &s->text[0], e);
    if (!status) status = get_text(s, "root", &s->text[1], e);
    if (!status) status = get_text(s, "model_path", &s->text[2], e);
    if (!status && !s->text[0]) status = store_damaged(s, "model: found nothing, expected its name", e);
    if (!status) status = get_number(s, "dims", 1, STORE_DIMS, &dims, e);
    if (!status) status = get_number(s, "rows", 0, INT64_MAX >> 20, &s->info.rows, e);
    if (!status) status = get_number(s, "generation", 1, INT64_MAX >> 1, &s->generation, e);
    if (status) return status;
    s->info.is = (dc_store_identity){s->text[0], (int)dims, s->text[1], s->text[2]};
    s->info.width = ((int)dims + 31) / 32 * 32;
    sqlite3_stmt *q = store_ask(s, COUNT_DEAD, e);
    bool row;
    if (!q || store_step(s, q, &row, e)) return e->code;
    s->info.dead = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return s->info.dead <= s->info.rows ? DC_OK : store_damaged(s, "more dead rows than rows", e);
}

/* ---- opening --------------------------------------------------------------------------------------------------------- */

static dc_status make_schema(dc_store *s, const dc_store_identity *is, dc_error *e)
{
    dc_status status = store_run(s, "BEGIN IMMEDIATE", e);
    for (int i = 0; i < SCHEMA && !status; i++) status = store_run(s, schema[i], e);
    char pragmas[100];
    snprintf(pragmas, sizeof pragmas, "PRAGMA application_id = %d; PRAGMA user_version = %d", APPLICATION, VERSION);
    if (!status) status = store_run(s, pragmas, e);
    if (!status) status = set_text(s, "model", is->model, e);
    if (!status) status = set_text(s, "root", is->root, e);
    if (!status) status = set_text(s, "model_path", is->model_path, e);
    if (!status) status = store_set(s, "dims", is->dims, e);
    if (!status) status = store_set(s, "rows", 0, e);
    if (!status) status = store_set(s, "generation", 1, e);
    if (!status) status = store_run(s, "COMMIT", e);
    if (status) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

/* *empty: a database without anything. Otherwise it has our schema, or this is an error. */
static dc_status check_schema(dc_store *s, bool *empty, dc_error *e)
{
    sqlite3_stmt *q = NULL;
    int code = sqlite3_prepare_v2(s->db, "SELECT sql FROM sqlite_schema WHERE sql IS NOT NULL ORDER BY name", -1, &q, NULL);
    int n = 0;
    bool same = true;
    while (code == SQLITE_OK || code == SQLITE_ROW) {
        code = sqlite3_step(q);
        if (code != SQLITE_ROW) break;
        const char *text = (const char *)sqlite3_column_text(q, 0);
        same = same && n < SCHEMA && text && !strcmp(text, schema[n]);
        n++;
    }
    dc_status status = code == SQLITE_DONE ? DC_OK : store_failed(s, code, e);
    sqlite3_finalize(q);
    *empty = !n;
    if (status || !n) return status;
    return same && n == SCHEMA ? DC_OK : store_damaged(s, "found other tables than an index of this version has", e);
}

/* WAL needs memory shared between programs, which file systems of the network do not have: there readers and the writer take turns. */
static bool on_network(const char *folder)
{
    struct statfs f;
    static const unsigned long network[] = {0x6969 /* NFS */,    0x517b /* SMB */,      0xff534d42 /* CIFS */, 0xfe534d42 /* SMB2 */,
                                            0x01021997 /* 9P */, 0x65735546 /* FUSE */, 0x5346414f /* AFS */,  0x00c36400 /* Ceph */};
    if (statfs(folder, &f)) return false;
    for (size_t i = 0; i < sizeof network / sizeof *network; i++)
        if ((unsigned long)f.f_type == network[i] || ((unsigned long)f.f_type & 0xffffffff) == network[i]) return true;
    return false;
}

static dc_status configure(dc_store *s, dc_error *e)
{
    static const int switches[][2] = {
        {SQLITE_DBCONFIG_DEFENSIVE, 1}, {SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0}, {SQLITE_DBCONFIG_ENABLE_TRIGGER, 0}, {SQLITE_DBCONFIG_ENABLE_VIEW, 0}};
    for (size_t i = 0; i < sizeof switches / sizeof *switches; i++) sqlite3_db_config(s->db, switches[i][0], switches[i][1], NULL);
    sqlite3_limit(s->db, SQLITE_LIMIT_LENGTH, 1 << 20);
    sqlite3_busy_timeout(s->db, 10000);
    return store_run(s, "PRAGMA cell_size_check = ON; PRAGMA mmap_size = 0; PRAGMA temp_store = MEMORY", e);
}

/* On a medium that cannot be written, and without a writer's log, SQLite is told that nothing will change: else it wants to write beside the
 * file even to read it. Such a name is a URI; for the caller to free. */
static char *unchanging_name(const dc_store *s)
{
    dc_text t = {0};
    char *log = dc_format("%s-wal", s->name);
    if (log && faccessat(AT_FDCWD, s->folder, W_OK, AT_EACCESS) && access(log, F_OK)) {
        dc_text_append(&t, "file:", 5);
        for (const char *at = s->name; *at; at++)
            if (strchr("?#%", *at)) dc_text_printf(&t, "%%%02x", (unsigned char)*at);
            else dc_text_append(&t, at, 1);
        dc_text_append(&t, "?immutable=1", 12);
    }
    free(log);
    return t.failed ? NULL : t.at;
}

static dc_status open_database(dc_store *s, dc_error *e)
{
    char *unchanging = s->writer ? NULL : unchanging_name(s);
    const int how = s->writer ? SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE : SQLITE_OPEN_READONLY;
    int code = sqlite3_open_v2(unchanging ? unchanging : s->name, &s->db, how | SQLITE_OPEN_NOMUTEX | (unchanging ? SQLITE_OPEN_URI : 0), NULL);
    free(unchanging);
    if (code != SQLITE_OK) return store_failed(s, code, e);
    sqlite3_extended_result_codes(s->db, 1);
    return configure(s, e);
}

/* A path for SQLite and the file beside it: never one that SQLite takes for something else ("file:...", ":memory:"). */
static char *inside_of(const char *folder, const char *name) { return dc_format("%s%s/%s", strchr("/.", folder[0]) ? "" : "./", folder, name); }

static dc_status make(dc_store **out, const char *folder, bool writer, dc_error *e)
{
    dc_store *s = calloc(1, sizeof *s);
    if (s) {
        s->writer = writer;
        s->lock = s->vectors = -1;
        s->folder = inside_of(folder, "");
        s->name = inside_of(folder, "index.sqlite");
    }
    *out = s;
    return s && s->folder && s->name ? DC_OK : dc_fail_memory(e, folder, sizeof *s);
}

static dc_status finish(dc_store **out, dc_store *s, dc_status status)
{
    if (status) dc_store_close(s);
    *out = status ? NULL : s;
    return status;
}

/* One attempt: the file of vectors may be replaced between reading its name and opening it. */
static dc_status open_snapshot(dc_store *s, bool *again, dc_error *e)
{
    bool empty = false;
    dc_status status = store_run(s, "BEGIN", e);
    if (!status) status = check_schema(s, &empty, e);
    if (!status && empty) status = store_damaged(s, "found an empty database", e);
    if (!status) status = read_meta(s, e);
    if (!status) status = store_map(s, again, e);
    if (status) sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    return status;
}

dc_status dc_store_open(dc_store **out, const char *folder, dc_error *e)
{
    dc_store *s;
    dc_status status = make(&s, folder, false, e);
    if (status) return finish(out, s, status);
    if (access(s->name, F_OK)) {
        status = dc_fail(e, DC_NO_INPUT, "%s: index: found none", folder);
        dc_hint(e, "`diffc index FOLDER` makes one of a folder of pictures.");
        return finish(out, s, status);
    }
    status = open_database(s, e);
    for (int i = 0; i < 5 && !status; i++) {
        bool again = false;
        dc_error first = {0};
        status = open_snapshot(s, &again, &first);
        if (!status || !again || i == 4) {
            if (status) *e = first;
            break;
        }
        status = DC_OK;
    }
    return finish(out, s, status);
}

static dc_status take_lock(dc_store *s, dc_error *e)
{
    char *path = dc_path_join(s->folder, "lock");
    if (!path) return dc_fail_memory(e, s->folder, 0);
    s->lock = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0666);
    dc_status status = DC_OK;
    if (s->lock < 0) status = dc_fail(e, DC_NO_CREATE, "%s: cannot be written: %s", path, strerror(errno));
    else if (flock(s->lock, LOCK_EX | LOCK_NB)) {
        char pid[16] = "";
        ssize_t n = pread(s->lock, pid, sizeof pid - 1, 0);
        pid[n > 0 ? strspn(pid, "0123456789") : 0] = 0;
        status = dc_fail(e, errno == EWOULDBLOCK ? DC_UNAVAILABLE : DC_IO, "%s: index: found another program that writes it%s%s, expected none",
                         s->folder, *pid ? ", process " : "", pid);
        dc_hint(e, "Searching works meanwhile; wait until the other one has ended, or stop it.");
        close(s->lock);
        s->lock = -1;
    } else {
        char pid[16];
        int n = snprintf(pid, sizeof pid, "%ld\n", (long)getpid());
        if (ftruncate(s->lock, 0) || pwrite(s->lock, pid, (size_t)n, 0) != n) errno = 0; /* only told in messages */
    }
    free(path);
    return status;
}

/* Is `fast` the name of that model with fast_decode? */
static bool is_fast_one(const char *fast, const char *model)
{
    const size_t n = strlen(model);
    return !strncmp(fast, model, n) && !strcmp(fast + n, DIFFC_ID_FAST);
}

static dc_status check_identity(dc_store *s, const dc_store_identity *is, dc_error *e)
{
    if (!strcmp(s->info.is.model, is->model) && s->info.is.dims == is->dims) return DC_OK;
    dc_status status = dc_fail(e, DC_USAGE, "%s: model: found an index of %s, %d numbers a picture; expected one of %s, %d", s->folder,
                               s->info.is.model, s->info.is.dims, is->model, is->dims);
    const bool with = is_fast_one(s->info.is.model, is->model);
    if (with || is_fast_one(is->model, s->info.is.model))
        dc_hint(e, "The index was made %s --fast-decode: go on so, make it anew with --rebuild, or another one beside it with --index FOLDER.",
                with ? "with" : "without");
    else dc_hint(e, "Name the index's own model (-m), make it anew with --rebuild, or another one beside it with --index FOLDER.");
    return status;
}

dc_status dc_store_write(dc_store **out, const char *folder, const dc_store_identity *is, bool rebuild, dc_error *e)
{
    dc_store *s;
    *out = NULL;
    if (is->dims < 1 || is->dims > STORE_DIMS) return dc_fail(e, DC_DATA, "vectors: found %d numbers, expected 1 to %d", is->dims, STORE_DIMS);
    dc_status status = make(&s, folder, true, e);
    if (!status && mkdir(s->folder, 0777) && errno != EEXIST) status = dc_fail(e, DC_NO_CREATE, "%s: cannot be made: %s", folder, strerror(errno));
    if (!status) status = take_lock(s, e);
    if (!status && rebuild) status = store_wipe(s, e);
    if (!status) status = open_database(s, e);
    if (!status) status = store_run(s, on_network(s->folder) ? "PRAGMA journal_mode = DELETE" : "PRAGMA journal_mode = WAL", e);
    if (!status) status = store_run(s, "PRAGMA synchronous = FULL", e);
    bool empty = false;
    if (!status) status = check_schema(s, &empty, e);
    if (!status && empty) status = make_schema(s, is, e);
    if (!status) status = read_meta(s, e);
    if (!status) status = check_identity(s, is, e);
    if (!status) status = store_open_vectors(s, e);
    return finish(out, s, status);
}

void dc_store_close(dc_store *s)
{
    if (!s) return;
    dc_store_abandon(s);
    for (int i = 0; i < STATEMENTS; i++) sqlite3_finalize(s->statement[i]);
    sqlite3_close(s->db);
    dc_map_close(&s->map);
    if (s->vectors >= 0) close(s->vectors);
    if (s->lock >= 0) close(s->lock);
    forget_texts(s);
    free(s->folder);
    free(s->name);
    free(s->row);
    free(s);
}

const dc_store_info *dc_store_about(const dc_store *s) { return &s->info; }

/* ---- looking up -------------------------------------------------------------------------------------------------------- */

bool dc_index_path_ok(const char *path)
{
    size_t n = strlen(path);
    if (!n || n >= MOST_PATH || path[0] == '/') return false;
    for (const char *at = path; at;) {
        size_t part = strcspn(at, "/");
        if (!part || (part <= 2 && !strncmp(at, "..", part))) return false;
        at = at[part] ? at + part + 1 : NULL;
    }
    return true;
}

/* Rows that there are, with those of the transaction under way. */
static int64_t rows_now(const dc_store *s) { return s->writing ? s->next : s->info.rows; }

/* The columns of FIND and its like. Pointers are into the statement. */
static dc_status take_record(dc_store *s, sqlite3_stmt *q, dc_record *r, char path[MOST_PATH], dc_error *e)
{
    const void *bytes = sqlite3_column_blob(q, 1), *hash = sqlite3_column_blob(q, 4);
    const int n = sqlite3_column_bytes(q, 1), hash_n = sqlite3_column_bytes(q, 4);
    if (n < 1 || n >= MOST_PATH || !bytes || memchr(bytes, 0, (size_t)n)) return store_damaged(s, "found something else than a path", e);
    memcpy(path, bytes, (size_t)n);
    path[n] = 0;
    if (!dc_index_path_ok(path)) {
        dc_status status = dc_fail(e, DC_DENIED, "%s: path: found %s, which leaves the folder", s->name, path);
        dc_hint(e, "diffc writes no such index; `diffc index --rebuild` makes it anew.");
        return status;
    }
    *r = (dc_record){.id = sqlite3_column_int64(q, 0), .path = path, .size = sqlite3_column_int64(q, 2), .modified = sqlite3_column_int64(q, 3)};
    r->row = sqlite3_column_type(q, 5) == SQLITE_INTEGER ? sqlite3_column_int64(q, 5) : -1;
    r->width = sqlite3_column_int(q, 6);
    r->height = sqlite3_column_int(q, 7);
    r->error = (const char *)sqlite3_column_text(q, 8);
    if (hash_n == DC_HASH_BYTES) memcpy(r->hash, hash, DC_HASH_BYTES);
    if (r->row < -1 || r->row >= rows_now(s)) return store_damaged(s, "found a file with a row that is not there", e);
    if (r->row < 0 && !r->error) r->error = "";
    return DC_OK;
}

dc_status dc_store_find(dc_store *s, const char *path, dc_record *out, dc_error *e)
{
    sqlite3_stmt *q = store_ask(s, FIND, e);
    bool row;
    *out = (dc_record){.row = -1};
    if (!q) return e->code;
    sqlite3_bind_blob(q, 1, path, (int)strlen(path), SQLITE_STATIC);
    dc_status status = store_step(s, q, &row, e);
    char found[MOST_PATH];
    if (!status && row) {
        status = take_record(s, q, out, found, e);
        out->path = path;
        out->error = out->error ? "" : NULL; /* the statement's text ends here */
        sqlite3_reset(q);
    }
    return status;
}

dc_status dc_store_find_hash(dc_store *s, const uint8_t hash[DC_HASH_BYTES], int64_t *out, dc_error *e)
{
    sqlite3_stmt *q = store_ask(s, FIND_HASH, e);
    bool row;
    *out = -1;
    if (!q) return e->code;
    sqlite3_bind_blob(q, 1, hash, DC_HASH_BYTES, SQLITE_STATIC);
    dc_status status = store_step(s, q, &row, e);
    if (status || !row) return status;
    *out = sqlite3_column_int64(q, 0);
    sqlite3_reset(q);
    return *out >= 0 && *out < rows_now(s) ? DC_OK : store_damaged(s, "found a content with a row that is not there", e);
}

static dc_status each(dc_store *s, sqlite3_stmt *q, dc_store_each_fn *fn, void *ctx, dc_error *e)
{
    bool row = true;
    dc_status status = q ? DC_OK : e->code;
    char path[MOST_PATH];
    while (!status && row) {
        dc_record r;
        status = store_step(s, q, &row, e);
        if (!status && row) status = take_record(s, q, &r, path, e);
        if (!status && row) status = fn(ctx, &r, e);
    }
    if (q) sqlite3_reset(q);
    return status;
}

dc_status dc_store_each(dc_store *s, dc_store_each_fn *fn, void *ctx, dc_error *e) { return each(s, store_ask(s, EACH, e), fn, ctx, e); }
dc_status dc_store_each_failed(dc_store *s, dc_store_each_fn *fn, void *ctx, dc_error *e)
{
    return each(s, store_ask(s, EACH_FAILED, e), fn, ctx, e);
}

dc_status dc_store_each_of_row(dc_store *s, int64_t row, dc_store_each_fn *fn, void *ctx, dc_error *e)
{
    sqlite3_stmt *q = store_ask(s, OF_ROW, e);
    if (q) sqlite3_bind_int64(q, 1, row);
    return each(s, q, fn, ctx, e);
}

dc_status dc_store_dead(dc_store *s, uint8_t **bits, dc_error *e)
{
    *bits = NULL;
    if (!s->info.dead) return DC_OK;
    *bits = calloc(1, (size_t)s->info.rows / 8 + 1);
    if (!*bits) return dc_fail_memory(e, "dead rows", (uint64_t)s->info.rows / 8 + 1);
    sqlite3_stmt *q = store_ask(s, DEAD, e);
    bool row = true;
    dc_status status = q ? DC_OK : e->code;
    while (!status && row) {
        status = store_step(s, q, &row, e);
        if (status || !row) break;
        int64_t i = sqlite3_column_int64(q, 0);
        if (i < 0 || i >= s->info.rows) status = store_damaged(s, "found a dead row that is not there", e);
        else (*bits)[i >> 3] |= (uint8_t)(1 << (i & 7));
    }
    if (q) sqlite3_reset(q);
    if (status) {
        free(*bits);
        *bits = NULL;
    }
    return status;
}

/* ---- changing ------------------------------------------------------------------------------------------------------------ */

dc_status dc_store_begin(dc_store *s, dc_error *e)
{
    dc_status status = store_run(s, "BEGIN IMMEDIATE", e);
    s->writing = !status;
    s->next = s->info.rows;
    return status;
}

dc_status dc_store_commit(dc_store *s, dc_error *e)
{
    dc_status status = s->next > s->info.rows ? store_sync(s, e) : DC_OK;
    if (!status && s->next > s->info.rows) status = store_set(s, "rows", s->next, e);
    if (!status) status = store_run(s, "COMMIT", e);
    if (status) return status;
    s->info.rows = s->next;
    s->writing = false;
    return DC_OK;
}

void dc_store_abandon(dc_store *s)
{
    if (!s->writing) return;
    for (int i = 0; i < STATEMENTS; i++) sqlite3_reset(s->statement[i]);
    sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
    s->writing = false;
    s->next = s->info.rows;
}

dc_status dc_store_add(dc_store *s, const uint8_t hash[DC_HASH_BYTES], const float *unit, int64_t *row, dc_error *e)
{
    uint64_t sum;
    dc_status status = store_append(s, s->next, unit, &sum, e);
    sqlite3_stmt *q = status ? NULL : store_ask(s, ADD, e);
    if (!q) return e->code;
    *row = s->next;
    sqlite3_bind_int64(q, 1, *row);
    sqlite3_bind_blob(q, 2, hash, DC_HASH_BYTES, SQLITE_STATIC);
    sqlite3_bind_int64(q, 3, (int64_t)sum);
    status = store_step(s, q, NULL, e);
    if (!status) s->next++;
    return status;
}

/* One statement about one row. */
static dc_status about_row(dc_store *s, statement which, int64_t row, dc_error *e)
{
    sqlite3_stmt *q = store_ask(s, which, e);
    if (!q) return e->code;
    sqlite3_bind_int64(q, 1, row);
    return store_step(s, q, NULL, e);
}

dc_status dc_store_put(dc_store *s, const dc_record *r, dc_error *e)
{
    dc_record old;
    dc_status status = dc_store_find(s, r->path, &old, e);
    sqlite3_stmt *q = status ? NULL : store_ask(s, PUT, e);
    if (!q) return e->code;
    sqlite3_bind_blob(q, 1, r->path, (int)strlen(r->path), SQLITE_STATIC);
    sqlite3_bind_int64(q, 2, r->size);
    sqlite3_bind_int64(q, 3, r->modified);
    if (r->row >= 0) {
        sqlite3_bind_blob(q, 4, r->hash, DC_HASH_BYTES, SQLITE_STATIC);
        sqlite3_bind_int64(q, 5, r->row);
        sqlite3_bind_int(q, 6, r->width);
        sqlite3_bind_int(q, 7, r->height);
    } else {
        sqlite3_bind_text(q, 8, r->error, -1, SQLITE_STATIC);
    }
    status = store_step(s, q, NULL, e);
    if (!status && old.id && old.row >= 0 && old.row != r->row) status = about_row(s, BURY, old.row, e);
    if (!status && r->row >= 0) status = about_row(s, REVIVE, r->row, e);
    return status;
}

dc_status dc_store_forget(dc_store *s, const dc_record *r, dc_error *e)
{
    dc_status status = about_row(s, FORGET, r->id, e);
    return status || r->row < 0 ? status : about_row(s, BURY, r->row, e);
}
