/* worker.c - drawing on a thread of its own. */
#include "apps/viewer/worker.h"
#include <stdlib.h>
#include <string.h>

struct worker {
    diffc_model *model; /* NULL: a mailbox only */
    SDL_Thread *thread;
    SDL_mutex *lock;
    SDL_cond *wake;
    uint32_t event;
    job waiting; /* the next one */
    bool has_job, quit;
    uint64_t wanted, under_way; /* numbers of runs: the one that is wanted last, the one that is drawn */
    double began;
    news news; /* what the window has not taken */
    bool told; /* an event for it is in the queue */
};

double view_seconds(void) { return (double)SDL_GetPerformanceCounter() / (double)SDL_GetPerformanceFrequency(); }

/* ---- what is counted -------------------------------------------------------------------------------------------- */

picture *picture_hold(picture *p)
{
    if (p) SDL_AtomicIncRef(&p->holders);
    return p;
}

void picture_drop(picture *p)
{
    if (!p || !SDL_AtomicDecRef(&p->holders)) return;
    result_free(&p->kept);
    free(p);
}

recipe *recipe_hold(recipe *r)
{
    if (r) SDL_AtomicIncRef(&r->holders);
    return r;
}

void recipe_drop(recipe *r)
{
    if (!r || !SDL_AtomicDecRef(&r->holders)) return;
    diffc_replay_close(r->replay);
    free(r);
}

bool job_make(job *j, const diffc_request *request, picture *start, recipe *r)
{
    *j = (job){.request = *request, .prompt = strdup(request->prompt ? request->prompt : "")};
    if (request->negative) j->negative = strdup(request->negative);
    if (!j->prompt || (request->negative && !j->negative)) {
        job_free(j);
        return false;
    }
    j->start = picture_hold(start);
    j->recipe = recipe_hold(r);
    j->request.prompt = j->prompt;
    j->request.negative = j->negative;
    j->request.image = start ? &start->kept.image : NULL;
    return true;
}

void job_free(job *j)
{
    free(j->prompt);
    free(j->negative);
    picture_drop(j->start);
    recipe_drop(j->recipe);
    *j = (job){0};
}

/* ---- the mailbox to the window ------------------------------------------------------------------------------------- */

/* With the lock held: wakes the window, once for all that it has not taken. */
static void ring(worker *w)
{
    if (w->told) return;
    SDL_Event e = {.type = w->event};
    w->told = SDL_PushEvent(&e) == 1;
}

void worker_tell_progress(worker *w, const diffc_progress *p)
{
    SDL_LockMutex(w->lock);
    w->news.progress = *p;
    w->news.moved = true;
    ring(w);
    SDL_UnlockMutex(w->lock);
}

void worker_tell_preview(worker *w, const diffc_preview *p)
{
    size_t n = 3 * (size_t)p->image->width * (size_t)p->image->height;
    uint8_t *pixels = malloc(n);
    if (!pixels) return; /* the picture itself still comes */
    memcpy(pixels, p->image->pixels, n);
    SDL_LockMutex(w->lock);
    diffc_image_free(&w->news.preview);
    w->news.preview = (diffc_image){p->image->width, p->image->height, 3, pixels};
    w->news.step = p->step;
    w->news.steps = p->steps;
    ring(w);
    SDL_UnlockMutex(w->lock);
}

void worker_tell_picture(worker *w, const diffc_result *r, const char *path)
{
    picture *p = calloc(1, sizeof *p);
    if (!p || !result_keep(&p->kept, r, false)) {
        free(p);
        return;
    }
    SDL_AtomicSet(&p->holders, 1);
    SDL_strlcpy(p->path, path ? path : "", sizeof p->path);
    SDL_LockMutex(w->lock);
    p->seconds = view_seconds() - w->began;
    picture **more = realloc(w->news.finished, sizeof *more * (size_t)(w->news.n_finished + 1));
    if (more) {
        w->news.finished = more;
        more[w->news.n_finished++] = p;
    }
    ring(w);
    SDL_UnlockMutex(w->lock);
    if (!more) picture_drop(p);
}

void worker_tell_note(worker *w, const char *line)
{
    SDL_LockMutex(w->lock);
    SDL_strlcpy(w->news.note, line, sizeof w->news.note);
    ring(w);
    SDL_UnlockMutex(w->lock);
}

void worker_tell_end(worker *w, const diffc_error *e, double seconds)
{
    SDL_LockMutex(w->lock);
    w->news.ended = true;
    w->news.cancelled = e && e->code == DIFFC_CANCELLED;
    w->news.error = e && e->code != DIFFC_CANCELLED ? *e : (diffc_error){0};
    w->news.running = w->has_job;
    w->news.seconds = seconds;
    ring(w);
    SDL_UnlockMutex(w->lock);
}

void worker_take(worker *w, news *out)
{
    SDL_LockMutex(w->lock);
    *out = w->news;
    w->news = (news){.running = out->running};
    w->told = false;
    SDL_UnlockMutex(w->lock);
}

/* ---- the thread ------------------------------------------------------------------------------------------------------ */

/* Is the run that is drawn no longer wanted? */
static bool outdated(worker *w)
{
    SDL_LockMutex(w->lock);
    bool old = w->quit || w->wanted != w->under_way;
    SDL_UnlockMutex(w->lock);
    return old;
}

static bool on_progress(void *user, const diffc_progress *p)
{
    worker_tell_progress(user, p);
    return outdated(user);
}

static bool on_preview(void *user, const diffc_preview *p)
{
    worker_tell_preview(user, p);
    return outdated(user);
}

static diffc_status on_image(void *user, const diffc_result *r, diffc_error *error)
{
    (void)error;
    worker_tell_picture(user, r, NULL);
    return DIFFC_OK;
}

/* The next job, waited for; false: there will be none. */
static bool next_job(worker *w, job *j)
{
    SDL_LockMutex(w->lock);
    while (!w->has_job && !w->quit) SDL_CondWait(w->wake, w->lock);
    bool go = !w->quit;
    if (go) {
        *j = w->waiting;
        w->waiting = (job){0};
        w->has_job = false;
        w->under_way = w->wanted;
        w->began = view_seconds();
        w->news.began = w->news.running = true;
        ring(w);
    }
    SDL_UnlockMutex(w->lock);
    return go;
}

static int run(void *user)
{
    worker *w = user;
    job j;
    while (next_job(w, &j)) {
        diffc_error e = {0};
        double began = view_seconds();
        j.request.on_progress = on_progress;
        j.request.on_preview = on_preview;
        j.request.on_image = on_image;
        j.request.user = w;
        diffc_status s;
        /* a cancel that was meant for the run before this one may come late */
        do {
            e = (diffc_error){0};
            s = diffc_generate(w->model, &j.request, &e);
        } while (s == DIFFC_CANCELLED && !outdated(w));
        e.code = s;
        job_free(&j);
        worker_tell_end(w, s ? &e : NULL, view_seconds() - began);
    }
    return 0;
}

worker *worker_mailbox(uint32_t event)
{
    worker *w = calloc(1, sizeof *w);
    if (!w) return NULL;
    w->event = event;
    w->lock = SDL_CreateMutex();
    w->wake = SDL_CreateCond();
    w->began = view_seconds();
    if (w->lock && w->wake) return w;
    worker_close(w);
    return NULL;
}

worker *worker_open(diffc_model *model, uint32_t event)
{
    worker *w = worker_mailbox(event);
    if (!w) return NULL;
    w->model = model;
    w->thread = SDL_CreateThread(run, "drawing", w);
    if (w->thread) return w;
    worker_close(w);
    return NULL;
}

/* With the lock held: what is drawn now is not wanted any more. The run itself asks, too, should it only be about to begin. */
static void stop_run(worker *w)
{
    w->wanted++;
    job_free(&w->waiting);
    w->has_job = false;
    if (w->model) diffc_cancel(w->model);
}

void worker_draw(worker *w, job *j)
{
    SDL_LockMutex(w->lock);
    if (w->news.running || w->has_job) stop_run(w);
    else w->wanted++;
    w->waiting = *j;
    w->has_job = true;
    SDL_CondSignal(w->wake);
    SDL_UnlockMutex(w->lock);
    *j = (job){0};
}

void worker_cancel(worker *w)
{
    SDL_LockMutex(w->lock);
    if (w->news.running || w->has_job) stop_run(w);
    SDL_UnlockMutex(w->lock);
}

void worker_close(worker *w)
{
    if (!w) return;
    if (w->lock) SDL_LockMutex(w->lock);
    w->quit = true;
    stop_run(w);
    if (w->wake) SDL_CondSignal(w->wake);
    if (w->lock) SDL_UnlockMutex(w->lock);
    if (w->thread) SDL_WaitThread(w->thread, NULL);
    for (int i = 0; i < w->news.n_finished; i++) picture_drop(w->news.finished[i]);
    free(w->news.finished);
    diffc_image_free(&w->news.preview);
    if (w->wake) SDL_DestroyCond(w->wake);
    if (w->lock) SDL_DestroyMutex(w->lock);
    free(w);
}
