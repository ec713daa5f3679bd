/* An index of any bytes. The first byte tells of what: 0 a database beside good vectors, 1 vectors beside a good database, 2 a picture whose size
 * is asked, 3 a term of a query. Refused with a message, or what it says. */
#include "base/file.h"
#include "search/query.h"
#include "search/store.h"
#include "image/image.h"
#include "search/update.h"
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n);

static void need(bool x)
{
    if (!x) abort();
}

static char folder[40];

static void write_file(const char *name, const uint8_t *bytes, size_t n)
{
    char path[80];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    need(fd >= 0 && write(fd, bytes, n) == (ssize_t)n && close(fd) == 0);
}

static void remove_folder(void)
{
    static const char *const names[] = {"index.sqlite", "index.sqlite-wal", "index.sqlite-shm", "index.sqlite-journal", "vectors.1"};
    char path[80];
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        snprintf(path, sizeof path, "%s/%s", folder, names[i]);
        unlink(path);
    }
    rmdir(folder);
}

/* The good ones, from the corpus' own seeds. */
static uint8_t *good[2];
static size_t good_n[2];

static void begin(void)
{
    static const char *const names[] = {CORPUS "/database", CORPUS "/vectors"};
    strcpy(folder, access("/dev/shm", W_OK) ? "/tmp/fuzz-index-XXXXXX" : "/dev/shm/fuzz-index-XXXXXX");
    need(mkdtemp(folder));
    atexit(remove_folder);
    for (int i = 0; i < 2; i++) {
        char *text;
        need(!dc_read_file(names[i], 1 << 20, &text, &good_n[i], NULL));
        good[i] = (uint8_t *)text;
    }
    dc_store *s;
    write_file("index.sqlite", good[0] + 1, good_n[0] - 1);
    write_file("vectors.1", good[1] + 1, good_n[1] - 1);
    need(!dc_store_open(&s, folder, NULL)); /* else nothing behind the schema would be reached */
    dc_store_close(s);
}

static dc_status look(void *ctx, const dc_record *r, dc_error *e)
{
    (void)e;
    need(dc_index_path_ok(r->path) && r->row < dc_store_about(ctx)->rows && (r->row >= 0 || r->error));
    return DC_OK;
}

static void use_index(void)
{
    dc_store *s;
    dc_error e = {0};
    if (dc_store_open(&s, folder, &e)) {
        need(!s && e.code && e.text[0]);
        return;
    }
    const dc_store_info *i = dc_store_about(s);
    uint8_t *dead = NULL;
    dc_record r;
    int64_t row;
    unsigned sum = 0;
    for (int64_t k = 0; k < i->rows * i->width; k++) sum += dc_store_rows(s)[k];
    need(sum || !sum);
    dc_store_each(s, look, s, NULL);
    dc_store_each_failed(s, look, s, NULL);
    dc_store_each_of_row(s, 1, look, s, NULL);
    dc_store_find(s, "0.jpg", &r, NULL);
    dc_store_find_hash(s, (const uint8_t[DC_HASH_BYTES]){0}, &row, NULL);
    if (!dc_store_dead(s, &dead, NULL)) free(dead);
    dc_status code = dc_store_check(s, &e);
    need(code == e.code);
    dc_store_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t n)
{
    if (!*folder) begin();
    if (!n) return 0;
    const int what = *bytes++ & 3;
    n--;
    if (what < 2) {
        write_file("index.sqlite", what ? good[0] + 1 : bytes, what ? good_n[0] - 1 : n);
        write_file("vectors.1", what ? bytes : good[1] + 1, what ? n : good_n[1] - 1);
        use_index();
    } else if (what == 2) {
        uint32_t w, h;
        if (dc_image_size(bytes, n, &w, &h)) need(n >= 11);
    } else {
        char *word = malloc(n + 1);
        dc_term_of_query t;
        dc_error e = {0};
        need(word);
        memcpy(word, bytes, n);
        word[n] = 0;
        if (!dc_term_parse(word, &t, &e)) need(t.text >= word && t.text < word + n && t.weight >= 0 && t.weight <= 1e6);
        else need(e.code == DC_USAGE);
        free(word);
    }
    return 0;
}
