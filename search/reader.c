/* reader.c - pictures read, hashed, decoded and prepared on threads of their own, with a bounded number of them ahead. */
#include "base/checked.h"
#include "base/file.h"
#include "base/parallel.h"
#include "base/text.h"
#include "image/image.h"
#include "search/update.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>
#include <xxhash.h>

#define MOST_BYTES (256u << 20) /* of a picture file, as everywhere */
#define TRIES      3            /* at a file that changes while it is read */
#define FRESH      2000000000ll /* ns: a file changed this recently may change again within the clock's step */

/* ---- one picture ----------------------------------------------------------------------------------------------------- */

void dc_job_free(dc_job *j)
{
    if (!j) return;
    free(j->path);
    free(j->pixels);
    free(j->error);
    free(j);
}

static int64_t time_of(const struct timespec *t)
{
    return t->tv_sec > INT64_MAX / 2000000000 || t->tv_sec < 0 ? -1 : t->tv_sec * 1000000000ll + t->tv_nsec;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
    return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
           a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static void refuse(dc_job *j, const char *reason)
{
    free(j->error);
    j->error = dc_strdup(reason);
}

/* The reason without the path in front, which the record has anyway. */
static const char *without_path(const char *text, const char *path)
{
    size_t n = strlen(path);
    return !strncmp(text, path, n) && !strncmp(text + n, ": ", 2) ? text + n + 2 : text;
}

static bool too_large(const dc_reader_options *o, dc_job *j, uint32_t width, uint32_t height)
{
    if (o->max_megapixels <= 0 || (double)width * height <= o->max_megapixels * 1e6) return false;
    char *text = dc_format("picture: found %ux%u, expected at most %g megapixels", width, height, o->max_megapixels);
    refuse(j, text);
    free(text);
    return true;
}

static dc_status prepare(const dc_reader_options *o, dc_job *j, const char *full, dc_error *e)
{
    diffc_image image = {0};
    diffc_error why = {0};
    const diffc_embedder *m = o->embedder;
    diffc_status s = m->read(m->self, &image, full, &why);
    if (!s) {
        if (!j->width) j->width = image.width, j->height = image.height;
        j->pixels = dc_calloc(m->pixels, sizeof(float));
        if (!j->pixels) s = (diffc_status)dc_fail_memory(e, "a prepared picture", m->pixels * sizeof(float));
        else if (!too_large(o, j, (uint32_t)image.width, (uint32_t)image.height)) s = m->preprocess(m->self, &image, j->pixels, &why);
    }
    diffc_image_free(&image);
    if (s || j->error) {
        free(j->pixels);
        j->pixels = NULL;
    }
    if (e->code) return e->code;
    if (s && !j->error) refuse(j, without_path(why.text, full));
    if (s == DIFFC_NO_INPUT || s == DIFFC_NO_MEMORY || s == DIFFC_IO) j->modified = -1; /* not for what is in the file */
    return DC_OK;
}

/* Content known: nothing else to do. Else decoded, when it is not larger than wanted. */
static dc_status look_into(const dc_reader_options *o, dc_job *j, const char *full, dc_reader *lock, dc_error *e)
{
    char *bytes;
    size_t n;
    dc_error why = {0};
    XXH128_canonical_t hash;
    uint32_t width, height;
    if (dc_read_file(full, MOST_BYTES, &bytes, &n, &why)) {
        refuse(j, without_path(why.text, full));
        if (why.code != DC_DATA) j->modified = -1;
        return DC_OK;
    }
    XXH128_canonicalFromHash(&hash, XXH3_128bits(bytes, n));
    memcpy(j->hash, hash.digest, DC_HASH_BYTES);
    dc_reader_lock(lock);
    dc_status s = o->look_up(o->ctx, j->hash, &j->row, e);
    dc_reader_unlock(lock);
    const bool told = dc_image_size((const uint8_t *)bytes, n, &width, &height) && width <= INT_MAX && height <= INT_MAX;
    const bool large = !s && j->row < 0 && told && too_large(o, j, width, height);
    free(bytes);
    if (told && j->row < 0) j->width = (int)width, j->height = (int)height; /* which may be decoded smaller */
    return s || large || j->row >= 0 || !o->embedder ? s : prepare(o, j, full, e);
}

dc_job *dc_job_read(const dc_reader_options *o, char *path, bool known, dc_reader *lock, dc_error *e)
{
    dc_job *j = calloc(1, sizeof *j);
    char *full = j ? dc_path_join(o->root, path) : NULL;
    if (!full) {
        dc_fail_memory(e, "a picture", sizeof *j);
        free(path);
        free(j);
        return NULL;
    }
    *j = (dc_job){.path = path, .known = known};
    for (int i = 0; i < TRIES; i++) {
        struct stat before, after;
        struct timespec now;
        free(j->pixels);
        free(j->error);
        *j = (dc_job){.path = path, .known = known, .row = -1, .modified = -1};
        if (stat(full, &before)) {
            refuse(j, strerror(errno));
            break;
        }
        clock_gettime(CLOCK_REALTIME, &now);
        j->size = before.st_size;
        j->modified = time_of(&before.st_mtim);
        if (j->modified > time_of(&now) - FRESH) j->modified = -1;
        if (look_into(o, j, full, lock, e)) break;
        if (!stat(full, &after) && same_file(&before, &after)) break;
        if (i + 1 == TRIES) {
            refuse(j, "found it changed while it was read, expected it to stay");
            j->modified = -1;
        }
    }
    if (j->error) {
        free(j->pixels);
        j->pixels = NULL;
        j->row = -1;
    }
    if (!e->code && o->embedder && !j->error && !j->pixels && j->row < 0) dc_fail_memory(e, "why a picture cannot be read", 0);
    free(full);
    if (!e->code) return j;
    dc_job_free(j);
    return NULL;
}

/* ---- threads ------------------------------------------------------------------------------------------------------------ */

struct dc_reader {
    dc_reader_options o;
    pthread_t *thread;
    int started, working;
    pthread_mutex_t source, store, queue; /* next; look_up; what follows */
    pthread_cond_t room, more;
    dc_job **ready; /* a ring of o.ahead */
    int first, n;
    bool stop;
    dc_error e; /* the first of any thread */
};

void dc_reader_lock(dc_reader *r)
{
    if (r) pthread_mutex_lock(&r->store);
}
void dc_reader_unlock(dc_reader *r)
{
    if (r) pthread_mutex_unlock(&r->store);
}

/* Hands one over; false: nobody wants it any more. */
static bool hand_over(dc_reader *r, dc_job *j, const dc_error *e)
{
    pthread_mutex_lock(&r->queue);
    if (e->code && !r->e.code) r->e = *e;
    while (r->n == r->o.ahead && !r->stop) pthread_cond_wait(&r->room, &r->queue);
    bool taken = !r->stop && !r->e.code;
    if (taken) r->ready[(r->first + r->n++) % r->o.ahead] = j;
    pthread_cond_signal(&r->more);
    pthread_mutex_unlock(&r->queue);
    if (!taken) dc_job_free(j);
    return taken;
}

static void *work(void *ctx)
{
    dc_reader *r = ctx;
    for (bool on = true; on;) {
        char *path = NULL;
        bool known = false;
        pthread_mutex_lock(&r->source);
        on = r->o.next(r->o.ctx, &path, &known);
        pthread_mutex_unlock(&r->source);
        if (!on) break;
        dc_error e = {0};
        on = hand_over(r, dc_job_read(&r->o, path, known, r, &e), &e);
    }
    pthread_mutex_lock(&r->queue);
    r->working--;
    pthread_cond_signal(&r->more);
    pthread_mutex_unlock(&r->queue);
    return NULL;
}

dc_status dc_reader_new(dc_reader **out, const dc_reader_options *o, dc_error *e)
{
    dc_reader *r = calloc(1, sizeof *r);
    *out = NULL;
    if (!r) return dc_fail_memory(e, "threads", sizeof *r);
    r->o = *o;
    if (r->o.threads < 1) r->o.threads = dc_cpu_count();
    r->thread = dc_calloc((size_t)r->o.threads, sizeof *r->thread);
    r->ready = dc_calloc((size_t)r->o.ahead, sizeof *r->ready);
    pthread_mutex_init(&r->source, NULL);
    pthread_mutex_init(&r->store, NULL);
    pthread_mutex_init(&r->queue, NULL);
    pthread_cond_init(&r->room, NULL);
    pthread_cond_init(&r->more, NULL);
    bool fine = r->thread && r->ready;
    r->working = fine ? r->o.threads : 0;
    for (; fine && r->started < r->o.threads; r->started++)
        if (pthread_create(&r->thread[r->started], NULL, work, r)) break;
    pthread_mutex_lock(&r->queue);
    r->working -= fine ? r->o.threads - r->started : 0;
    pthread_mutex_unlock(&r->queue);
    if (!r->started) {
        dc_reader_free(r);
        return dc_fail(e, DC_NO_MEMORY, "threads: cannot start %d of them", o->threads);
    }
    *out = r;
    return DC_OK;
}

dc_status dc_reader_take(dc_reader *r, dc_job **out, bool *end, dc_error *e)
{
    struct timespec until;
    clock_gettime(CLOCK_REALTIME, &until);
    until.tv_nsec += 200000000;
    if (until.tv_nsec >= 1000000000) until.tv_sec++, until.tv_nsec -= 1000000000;
    *out = NULL;
    pthread_mutex_lock(&r->queue);
    int late = 0;
    while (!r->n && r->working && !r->e.code && !late) late = pthread_cond_timedwait(&r->more, &r->queue, &until);
    if (r->n && !r->e.code) {
        *out = r->ready[r->first];
        r->first = (r->first + 1) % r->o.ahead;
        r->n--;
        pthread_cond_signal(&r->room);
    }
    *end = !*out && !r->working;
    dc_status s = r->e.code;
    if (s) *e = r->e;
    pthread_mutex_unlock(&r->queue);
    return s;
}

void dc_reader_free(dc_reader *r)
{
    if (!r) return;
    pthread_mutex_lock(&r->queue);
    r->stop = true;
    pthread_cond_broadcast(&r->room);
    pthread_mutex_unlock(&r->queue);
    for (int i = 0; i < r->started; i++) pthread_join(r->thread[i], NULL);
    for (int i = 0; i < r->n; i++) dc_job_free(r->ready[(r->first + i) % r->o.ahead]);
    pthread_mutex_destroy(&r->source);
    pthread_mutex_destroy(&r->store);
    pthread_mutex_destroy(&r->queue);
    pthread_cond_destroy(&r->room);
    pthread_cond_destroy(&r->more);
    free(r->thread);
    free(r->ready);
    free(r);
}
