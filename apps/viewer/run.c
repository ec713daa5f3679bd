/* run.c - what is drawn: from the settings to the worker, and what comes back. */
#include "apps/viewer/files.h"
#include "apps/viewer/state.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

/* ---- beginning a run ------------------------------------------------------------------------------------------- */

static uint64_t rolled(void)
{
    uint64_t seed = (uint64_t)SDL_GetPerformanceCounter();
    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) != (ssize_t)sizeof seed) seed *= 0x9e3779b97f4a7c15u;
    return seed & 0xffffffff; /* as long as other programs take */
}

/* Templates (a {red|green} apple) stand for another text with every seed. */
static bool expand(view *v, const char *text, char **out)
{
    diffc_error e = {0};
    bool plain = v->request.prompt_syntax && !strcmp(v->request.prompt_syntax, "plain");
    if (plain || !diffc_prompt_is_template(text)) return true;
    if (diffc_prompt_expand(text, NULL, v->request.seed, out, &e) == DIFFC_OK) return true;
    view_say_error(v, &e);
    return false;
}

void view_draw(view *v, bool new_seed)
{
    job j;
    char *prompt = NULL, *negative = NULL;
    diffc_request q = v->request;
    if (v->watched) return;
    v->live_at = 0;
    v->altered = false;
    if (new_seed && !v->locked) q.seed = v->request.seed = rolled();
    const char *text = field_text(&v->prompt), *without = field_text(&v->negative);
    bool good = expand(v, text, &prompt) && expand(v, without, &negative);
    q.prompt_template = prompt ? text : NULL;
    q.negative_template = negative ? without : NULL;
    q.prompt = prompt ? prompt : text;
    q.negative = negative ? negative : *without ? without : v->setup->request->negative ? "" : NULL;
    if (good && !job_make(&j, &q, v->start, v->recipe)) {
        view_say(v, true, "out of memory");
        good = false;
    }
    if (good) {
        if (!v->live) {
            field_history_add(&v->prompt, text);
            field_history_add(&v->negative, without);
        }
        v->input_at = v->input_at ? v->input_at : view_seconds();
        view_log(v, "draw", json_pack("{s:s,s:I,s:i}", "prompt", q.prompt, "seed", (json_int_t)q.seed, "steps", q.steps));
        worker_draw(v->worker, &j);
    }
    diffc_free(prompt);
    diffc_free(negative);
    v->dirty = true;
}

void view_cancel(view *v)
{
    v->live_at = 0;
    view_log(v, "cancel", NULL);
    if (v->watched) v->watched->cancel(v->watched->user);
    else worker_cancel(v->worker);
}

/* ---- live mode ---------------------------------------------------------------------------------------------------- */

enum { LIVE_STEPS = 2 };
#define LIVE_WAIT 0.12 /* seconds without a further key */

void view_changed(view *v)
{
    v->altered = true;
    if (v->live) v->live_at = view_seconds() + LIVE_WAIT;
}

void view_set_live(view *v, bool on)
{
    if (v->watched) return;
    v->live = on;
    if (on) {
        v->steps_before_live = v->request.steps;
        v->guidance_before_live = v->request.guidance;
        if (v->setup->few_steps) v->request.steps = LIVE_STEPS, v->request.guidance = 1;
        else if (v->request.steps > 8) view_say(v, false, "Live: %d steps a picture; a model made for few steps answers sooner.", v->request.steps);
        v->live_at = view_seconds();
    } else if (v->steps_before_live) {
        v->request.steps = v->steps_before_live;
        v->request.guidance = v->guidance_before_live;
        v->live_at = 0;
    }
    v->dirty = true;
}

/* ---- what comes back ------------------------------------------------------------------------------------------------ */

static void begun(view *v)
{
    v->running = true;
    v->run_began = view_seconds();
    v->first_preview = 0;
    v->progress = (diffc_progress){0};
    v->step = v->steps = 0;
    v->canvas.looking = false;
    *v->message = 0;
    v->message_bad = false;
}

static void ended(view *v, const news *n)
{
    v->running = n->running;
    canvas_preview(v, NULL);
    if (n->error.code) view_say_error(v, &n->error);
    else if (n->cancelled && !n->running) view_say(v, false, "stopped");
    view_log(v,
             n->error.code  ? "failed"
             : n->cancelled ? "stopped"
                            : "done",
             json_pack("{s:f,s:s*}", "seconds", n->seconds, "error", n->error.code ? n->error.text : NULL));
}

static void arrived(view *v, picture *p)
{
    const diffc_result *r = &p->kept.result;
    bool look = v->canvas.looking; /* at another one: the strip grows, the canvas stays */
    int chosen = v->strip.chosen;
    view_log(v, "picture",
             json_pack("{s:I,s:i,s:i,s:f}", "seed", (json_int_t)r->seed, "width", p->kept.image.width, "height", p->kept.image.height, "seconds",
                       p->seconds));
    /* in live mode the last draft gives way, unless it was saved */
    picture *last = v->strip.n ? v->strip.item[v->strip.n - 1].picture : NULL;
    if (v->live && last && !*last->path && last->kept.result.steps == r->steps && !look) strip_remove(v, v->strip.n - 1);
    strip_add(v, p);
    v->canvas.looking = false;
    if (look && chosen < v->strip.n) strip_choose(v, chosen);
}

void view_take_news(view *v)
{
    news n;
    worker_take(v->worker, &n);
    bool another = n.began && n.running; /* the run that ended, if one did, was before this one */
    if (n.ended && another) ended(v, &n);
    if (n.began) begun(v);
    if (*n.note) view_say(v, false, "%s", n.note);
    if (n.moved) v->progress = n.progress;
    if (n.preview.pixels) {
        v->step = n.step, v->steps = n.steps;
        if (!v->first_preview) v->first_preview = view_seconds() - v->run_began;
        canvas_preview(v, &n.preview);
        view_log(v, "preview",
                 json_pack("{s:i,s:i,s:i,s:i}", "step", n.step, "steps", n.steps, "width", n.preview.width, "height", n.preview.height));
    }
    for (int i = 0; i < n.n_finished; i++) arrived(v, n.finished[i]);
    if (n.ended && !another) ended(v, &n);
    diffc_image_free(&n.preview);
    free(n.finished);
    v->dirty |= n.began || n.ended || n.n_finished;
    v->status_dirty |= n.moved;
}

/* ---- pictures from outside ------------------------------------------------------------------------------------------- */

void view_open_file(view *v, const char *path)
{
    if (v->watched || !v->files) return;
    if (!files_read(v->files, path)) view_say(v, true, "out of memory");
    else view_say(v, false, "reading %s", path);
}

/* Size of pictures drawn from one of this size: its own, but made smaller where it is much larger than what the model draws; multiples of 8. */
static void size_from(view *v, const diffc_image *m)
{
    const diffc_request *own = v->setup->request;
    double most = own->width && own->height ? 1.5 * 1.5 * own->width * own->height : 768.0 * 768.0, area = (double)m->width * m->height;
    double by = area > most ? sqrt(most / area) : 1;
    v->request.width = SDL_clamp((int)lround(m->width * by / 8) * 8, 8, 4096);
    v->request.height = SDL_clamp((int)lround(m->height * by / 8) * 8, 8, 4096);
}

void view_take_start(view *v, picture *p)
{
    picture_drop(v->start);
    v->start = picture_hold(p);
    if (p) {
        size_from(v, &p->kept.image);
        view_say(v, false, "starts from a picture of %dx%d, drawn as %dx%d; U lets go of it", p->kept.image.width, p->kept.image.height,
                 v->request.width, v->request.height);
    } else {
        v->request.width = v->setup->request->width;
        v->request.height = v->setup->request->height;
        view_say(v, false, "starts from noise again");
    }
    view_log(v, "start", json_pack("{s:b,s:i,s:i}", "picture", p != NULL, "width", v->request.width, "height", v->request.height));
    if (v->focus >= FOCUS_ROWS) view_focus(v, FOCUS_PICTURE); /* rows have come or gone */
    view_changed(v);
    v->dirty = true;
}

/* Fields that do not mean what they did where the picture was made. */
static int list_changes(const diffc_replay *r, char *out, size_t size)
{
    int n = 0;
    *out = 0;
    for (int i = 0; i < r->n_fields; i++) {
        if (r->field[i].fate == DIFFC_HONOURED || !strcmp(r->field[i].name, "Model") || !strcmp(r->field[i].name, "Model hash")) continue;
        SDL_strlcat(out, n++ ? ", " : "", size);
        SDL_strlcat(out, r->field[i].name, size);
    }
    return n;
}

void view_take_recipe(view *v, recipe *r)
{
    diffc_error e = {0};
    diffc_request q = *v->setup->request;
    char changes[512];
    q.image = NULL;
    /* without the model, which may be drawing: its name and hash are not compared */
    if (diffc_replay_apply(r->replay, NULL, &q, &e)) {
        view_say_error(v, &e);
        return;
    }
    q.preview = v->request.preview;
    q.preview_interval = v->request.preview_interval;
    q.image = v->start ? &v->start->kept.image : NULL;
    q.count = 1;
    field_set(&v->prompt, q.prompt ? q.prompt : "");
    field_set(&v->negative, q.negative ? q.negative : "");
    v->request = q;
    recipe_drop(v->recipe);
    v->recipe = recipe_hold(r);
    v->locked = v->altered = true;
    v->live = false;
    v->steps_before_live = 0;
    if (list_changes(r->replay, changes, sizeof changes)) view_say(v, false, "settings of %s; not the same here: %s", r->replay->source, changes);
    else view_say(v, false, "settings of %s: Enter draws the picture again", r->replay->source);
    view_log(v, "replay", json_pack("{s:s,s:I,s:i}", "source", r->replay->source, "seed", (json_int_t)q.seed, "steps", q.steps));
    v->dirty = true;
}

void view_save(view *v)
{
    picture *p = strip_picture(v);
    if (!p) view_say(v, false, "there is no picture to save yet");
    else if (*p->path) view_say(v, false, "it is saved: %s", p->path);
    else if (!v->files || !files_write(v->files, p)) view_say(v, true, "out of memory");
}

void view_copy(view *v)
{
    picture *p = strip_picture(v);
    if (!p) view_say(v, false, "there is no picture to copy yet");
    else if (!v->files || !files_copy(v->files, p)) view_say(v, true, "out of memory");
}

/* ---- what has become of files -------------------------------------------------------------------------------------------- */

/* Lets go of the file that was dropped, after taking its settings or the picture. */
void view_open_dropped(view *v, bool settings, bool start)
{
    if (settings && v->dropped_recipe) view_take_recipe(v, v->dropped_recipe);
    if (start && v->dropped_picture) view_take_start(v, v->dropped_picture);
    recipe_drop(v->dropped_recipe);
    picture_drop(v->dropped_picture);
    v->dropped_recipe = NULL;
    v->dropped_picture = NULL;
}

static void was_read(view *v, file_news *n)
{
    view_open_dropped(v, false, false);
    v->dropped_recipe = n->recipe;
    v->dropped_picture = n->picture;
    n->recipe = NULL;
    n->picture = NULL;
    SDL_strlcpy(v->dropped, n->path, sizeof v->dropped);
    if (v->dropped_recipe && v->dropped_picture) v->cover = COVER_DROPPED;
    else view_open_dropped(v, true, true);
}

void view_take_files(view *v)
{
    file_news n;
    while (files_take(v->files, &n)) {
        if (n.error.code) view_say_error(v, &n.error);
        else if (n.task == FILE_READ) was_read(v, &n);
        else if (n.task == FILE_WRITE) {
            SDL_strlcpy(n.picture->path, n.path, sizeof n.picture->path);
            view_say(v, false, "saved as %s", n.path);
            view_log(v, "saved", json_pack("{s:s*}", "path", n.path));
        } else {
            if (n.only_text) SDL_SetClipboardText(n.picture->kept.result.parameters);
            view_say(v, false, n.only_text ? "copied its parameters; with xclip or wl-copy installed, the picture" : "copied");
        }
        picture_drop(n.picture);
        recipe_drop(n.recipe);
    }
    v->dirty = true;
}
