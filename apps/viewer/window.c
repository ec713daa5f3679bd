/* window.c - opening the window, its loop, and which part an event is for. */
#include "apps/viewer/files.h"
#include "apps/viewer/state.h"
#include <dlfcn.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

/* ---- what the parts share ------------------------------------------------------------------------------------------ */

void view_log(view *v, const char *event, json_t *o)
{
    struct timespec t;
    if (!v->log) {
        json_decref(o);
        return;
    }
    if (!o) o = json_object();
    clock_gettime(CLOCK_REALTIME, &t); /* so that what sends events can compare */
    json_object_set_new(o, "event", json_string(event));
    json_object_set_new(o, "at", json_real((double)t.tv_sec + 1e-9 * (double)t.tv_nsec));
    json_dumpf(o, v->log, JSON_COMPACT | JSON_REAL_PRECISION(16));
    fputc('\n', v->log);
    fflush(v->log);
    json_decref(o);
}

void view_say(view *v, bool bad, const char *format, ...)
{
    va_list a;
    va_start(a, format);
    vsnprintf(v->message, sizeof v->message, format, a);
    va_end(a);
    v->message_bad = bad;
    v->message_until = bad ? 0 : view_seconds() + 5;
    v->dirty = true;
    view_log(v, bad ? "error" : "message", json_pack("{s:s*}", "text", v->message));
}

void view_say_error(view *v, const diffc_error *e) { view_say(v, true, "%s%s%s", e->text, *e->hint ? "   " : "", e->hint); }

field *view_field(view *v)
{
    if (v->cover == COVER_OPEN) return &v->path;
    if (v->cover == COVER_FIND) return pane_field(v);
    if (v->cover || v->watched || v->full_screen) return NULL;
    return v->focus == FOCUS_PROMPT ? &v->prompt : v->focus == FOCUS_NEGATIVE ? &v->negative : NULL;
}

static SDL_Rect field_at(const view *v, const field *f) { return f == &v->prompt ? v->prompt_at : f == &v->negative ? v->negative_at : v->canvas_at; }

void view_focus(view *v, int focus)
{
    field *f = view_field(v);
    if (f) field_commit(f);
    v->typing = false;
    v->focus = focus;
    if (focus >= FOCUS_ROWS) rows_show(v);
    v->dirty = true;
}

/* ---- events ------------------------------------------------------------------------------------------------------------ */

static bool cover_key(view *v, SDL_Keysym key)
{
    bool enter = key.sym == SDLK_RETURN || key.sym == SDLK_KP_ENTER;
    switch (v->cover) {
    case COVER_NONE: return false;
    case COVER_LIST: return list_key(v, key);
    case COVER_FIND: return pane_key(v, key);
    case COVER_KEYS: break;
    case COVER_OPEN:
        if (!enter && key.sym != SDLK_ESCAPE) return textbox_key(v, v->canvas_at, &v->path, key), v->dirty = true;
        if (enter && *field_text(&v->path)) view_open_file(v, field_text(&v->path));
        break;
    case COVER_DROPPED:
        if (key.sym != SDLK_ESCAPE && key.sym != SDLK_r && key.sym != SDLK_i) return true;
        view_open_dropped(v, key.sym == SDLK_r, key.sym == SDLK_i);
        break;
    }
    v->cover = COVER_NONE;
    return v->dirty = true;
}

static void on_key(view *v, const SDL_KeyboardEvent *e)
{
    field *f = view_field(v);
    uint64_t version = f ? f->version : 0;
    v->dirty = true;
    v->deaf = cover_key(v, e->keysym); /* to the letter that comes behind a key which has closed a page */
    if (v->deaf) return;
    if (f && textbox_key(v, field_at(v, f), f, e->keysym)) {
        if (f->version != version) view_changed(v);
        return;
    }
    if (!v->watched && !v->full_screen && rows_key(v, e->keysym)) return;
    keys_down(v, e);
}

static void on_text(view *v, const char *text)
{
    field *f = view_field(v);
    if (v->cover == COVER_FIND) pane_text(v, text);
    else if (v->deaf && !v->cover) return;
    else if (f) {
        field_insert(f, text);
        if (!v->cover) view_changed(v);
    } else if (!v->cover && !v->watched) rows_text(v, text);
    v->dirty = true;
}

static void on_press(view *v, const SDL_MouseButtonEvent *e, int x, int y)
{
    if (v->cover == COVER_LIST) list_click(v, x, y);
    else if (v->cover == COVER_FIND) pane_click(v, x, y, e->clicks);
    else if (v->cover == COVER_KEYS) v->cover = COVER_NONE;
    else if (v->cover) return;
    else if (inside(&v->strip_at, x, y)) strip_click(v, x, y);
    else if (inside(&v->canvas_at, x, y)) {
        if (!v->watched) view_focus(v, FOCUS_PICTURE);
        v->canvas.dragging = e->button == SDL_BUTTON_LEFT;
        if (e->clicks == 2) canvas_fit(v, v->canvas.zoom > 0 ? 0 : 1);
    } else if (inside(&v->rows_at, x, y)) rows_click(v, x, y, e->button);
    else
        for (int k = FOCUS_PROMPT; k <= FOCUS_NEGATIVE; k++) {
            const SDL_Rect *at = k == FOCUS_PROMPT ? &v->prompt_at : &v->negative_at;
            if (!inside(at, x, y)) continue;
            view_focus(v, k);
            field *f = view_field(v);
            size_t to = textbox_at(v, *at, f, x, y);
            if (e->clicks == 1) field_place(f, to, (SDL_GetModState() & KMOD_SHIFT) != 0);
            if (e->clicks == 2) field_select_word(f, to);
            if (e->clicks == 3) field_edit(f, EDIT_SELECT_ALL, false);
        }
    v->dirty = true;
}

static void on_motion(view *v, const SDL_MouseMotionEvent *e, int x, int y, double by)
{
    field *f = view_field(v);
    if (!(e->state & SDL_BUTTON_LMASK)) return;
    if (v->canvas.dragging) canvas_pan(v, (int)(e->xrel * by), (int)(e->yrel * by));
    else if (v->dragged_row >= 0) rows_drag(v, x);
    else if (f && !v->cover && inside(&v->panel_at, x, y)) {
        const SDL_Rect at = field_at(v, f);
        if (field_place(f, textbox_at(v, at, f, x, y), true)) v->dirty = true;
    }
}

static void on_wheel(view *v, const SDL_MouseWheelEvent *e, int x, int y)
{
    int by = e->direction == SDL_MOUSEWHEEL_FLIPPED ? -e->y : e->y;
    if (!by) return;
    if (v->cover == COVER_LIST) list_wheel(v, by);
    else if (v->cover == COVER_FIND) pane_wheel(v, by);
    else if (v->cover) return;
    else if (inside(&v->canvas_at, x, y)) canvas_zoom(v, by > 0 ? 1.25 : 0.8, x, y);
    else if (inside(&v->rows_at, x, y)) rows_wheel(v, x, y, by);
    else if (inside(&v->strip_at, x, y) && v->strip.n) strip_choose(v, v->strip.chosen - by);
    v->dirty = true;
}

static void on_window(view *v, const SDL_WindowEvent *e)
{
    if (e->event == SDL_WINDOWEVENT_CLOSE) v->quit = true;
    if (e->event == SDL_WINDOWEVENT_SIZE_CHANGED) {
        view_layout(v);
        view_log(v, "resized", json_pack("{s:i,s:i}", "width", e->data1, "height", e->data2));
    }
    if (e->event == SDL_WINDOWEVENT_FOCUS_LOST) v->canvas.held = false;
    v->dirty = true;
}

/* Textures are gone, as when a driver starts anew: pictures are still there. */
static void on_reset(view *v)
{
    diffc_error e = {0};
    draw_rescale(&v->d, v->d.scale, &e);
    canvas_forget(v);
    strip_forget(v, false);
    pane_forget(v);
    v->dirty = true;
}

static const char *name_of(const SDL_Event *e)
{
    switch (e->type) {
    case SDL_KEYDOWN: return SDL_GetKeyName(e->key.keysym.sym);
    case SDL_TEXTINPUT: return e->text.text;
    case SDL_MOUSEBUTTONDOWN: return "button";
    case SDL_MOUSEWHEEL: return "wheel";
    default: return NULL;
    }
}

static void on_event(view *v, const SDL_Event *e)
{
    int w, h, x = 0, y = 0;
    SDL_GetWindowSize(v->window, &w, NULL);
    SDL_GetRendererOutputSize(v->d.renderer, &h, NULL);
    const double by = w > 0 ? (double)h / w : 1; /* pixels a unit of the mouse */
    const char *name = name_of(e);
    if (name) {
        view_log(v, "input", json_pack("{s:s*}", "what", name));
        if (!v->input_at) v->input_at = view_seconds() - (SDL_GetTicks() - e->common.timestamp) / 1000.0;
    }
    if (e->type == SDL_MOUSEBUTTONDOWN) x = (int)(e->button.x * by), y = (int)(e->button.y * by);
    if (e->type == SDL_MOUSEMOTION) x = (int)(e->motion.x * by), y = (int)(e->motion.y * by);
    if (e->type == SDL_MOUSEWHEEL) x = (int)(e->wheel.mouseX * by), y = (int)(e->wheel.mouseY * by);

    switch (e->type) {
    case SDL_QUIT: v->quit = true; break;
    case SDL_WINDOWEVENT: on_window(v, &e->window); break;
    case SDL_KEYDOWN: on_key(v, &e->key); break;
    case SDL_KEYUP: keys_up(v, &e->key); break;
    case SDL_TEXTINPUT: on_text(v, e->text.text); break;
    case SDL_TEXTEDITING:
        if (view_field(v)) v->dirty |= field_compose(view_field(v), e->edit.text, e->edit.start, e->edit.length);
        break;
    case SDL_MOUSEBUTTONDOWN: on_press(v, &e->button, x, y); break;
    case SDL_MOUSEBUTTONUP: v->canvas.dragging = false, v->dragged_row = -1; break;
    case SDL_MOUSEMOTION: on_motion(v, &e->motion, x, y, by); break;
    case SDL_MOUSEWHEEL: on_wheel(v, &e->wheel, x, y); break;
    case SDL_DROPFILE:
        view_open_file(v, e->drop.file);
        SDL_free(e->drop.file);
        break;
    case SDL_RENDER_TARGETS_RESET:
    case SDL_RENDER_DEVICE_RESET: on_reset(v); break;
    default:
        if (e->type == v->news_event) view_take_news(v);
        else if (e->type == v->file_event) view_take_files(v);
        else if (e->type == v->find_event) pane_take(v);
    }
}

/* ---- the loop ------------------------------------------------------------------------------------------------------------ */

/* Milliseconds until something is due without an event. */
static int next_due(const view *v)
{
    double now = view_seconds(), wait = 0.2; /* a signal is noticed within it */
    if (v->live_at) wait = SDL_min(wait, v->live_at - now);
    if (*v->message && v->message_until) wait = SDL_min(wait, v->message_until - now);
    return wait > 0 ? (int)(wait * 1000) + 1 : 0;
}

static void timers(view *v)
{
    double now = view_seconds();
    if (v->live_at && now >= v->live_at) view_draw(v, false);
    if (*v->message && v->message_until && now >= v->message_until) *v->message = 0, v->dirty = true;
    bool (*stopped)(void) = v->setup ? v->setup->stopped : v->watched->stopped;
    if (stopped()) v->quit = true;
}

static bool must_draw(const view *v) { return v->dirty || v->canvas_dirty || v->status_dirty; }

static void loop(view *v)
{
    SDL_Event e;
    while (!v->quit) {
        if (!must_draw(v) && SDL_WaitEventTimeout(&e, next_due(v))) on_event(v, &e);
        while (!v->quit && SDL_PollEvent(&e)) on_event(v, &e);
        timers(v);
        if (!must_draw(v) || v->quit) continue;
        double began = view_seconds();
        view_frame(v);
        double now = view_seconds();
        if (v->log && !v->input_at) view_log(v, "frame", json_pack("{s:f}", "frame_ms", 1000 * (now - began)));
        if (v->input_at) view_log(v, "answered", json_pack("{s:f,s:f}", "ms", 1000 * (now - v->input_at), "frame_ms", 1000 * (now - began)));
        v->input_at = 0;
    }
    view_log(v, "closed", NULL);
}

/* ---- opening and closing ---------------------------------------------------------------------------------------------------- */

static diffc_status fail(diffc_error *error, diffc_status code, const char *hint, const char *format, ...)
{
    va_list a;
    va_start(a, format);
    *error = (diffc_error){.code = code};
    vsnprintf(error->text, sizeof error->text, format, a);
    va_end(a);
    snprintf(error->hint, sizeof error->hint, "%s", hint);
    return code;
}

static int forgive(void *display, void *event)
{
    (void)display, (void)event;
    return 0;
}

/* SDL wakes the window's thread by an X event to the window, over a connection of its own. One that is under way while the window goes comes back as an
 * error, for which Xlib would end the program. Asked for twice: before SDL starts, since at its end it puts back what it has found, before the last
 * errors are read; and behind that, in the place of its own handler. Nothing, where there is no X. */
static void forgive_x_errors(void)
{
    void *x11 = dlopen("libX11.so.6", RTLD_LAZY | (getenv("DISPLAY") ? 0 : RTLD_NOLOAD)), *found = x11 ? dlsym(x11, "XSetErrorHandler") : NULL;
    void *(*set)(int (*)(void *, void *));
    memcpy(&set, &found, sizeof set);
    if (set) set(forgive);
}

static diffc_status open_window(view *v, const char *title, double scale, bool light, const char *log, diffc_error *error)
{
    SDL_SetHint(SDL_HINT_NO_SIGNAL_HANDLERS, "1"); /* the program has its own */
    SDL_SetHint(SDL_HINT_IME_SHOW_UI, "1");
    SDL_SetHint(SDL_HINT_VIDEO_ALLOW_SCREENSAVER, "1");
    SDL_SetHint(SDL_HINT_FRAMEBUFFER_ACCELERATION, "0"); /* not through OpenGL, which without a GPU is another program on the CPU */
    if (log && !(v->log = fopen(log, "w"))) return fail(error, DIFFC_NO_CREATE, "", "%.600s: cannot be written", log);
    /* SDL settles for drivers that show nothing; they are meant only where somebody names them */
    forgive_x_errors();
    bool started = SDL_Init(SDL_INIT_VIDEO) == 0, named = getenv("SDL_VIDEODRIVER") != NULL;
    const char *driver = started ? SDL_GetCurrentVideoDriver() : "";
    if (!started || (!named && (!strcmp(driver, "offscreen") || !strcmp(driver, "dummy"))))
        return fail(error, DIFFC_UNAVAILABLE, "Without one, --preview writes previews to a file; Xvfb is a display in memory.",
                    "window: found no display%s%.300s, expected one that DISPLAY or WAYLAND_DISPLAY names", started ? "" : ": ",
                    started ? "" : SDL_GetError());
    forgive_x_errors();
    if (TTF_Init()) return fail(error, DIFFC_UNAVAILABLE, "", "window: SDL_ttf does not start: %.300s", TTF_GetError());
    float dpi = 96;
    if (SDL_GetDisplayDPI(0, &dpi, NULL, NULL) || dpi < 72 || dpi > 600) dpi = 96;
    float large = scale > 0 ? (float)scale : dpi > 140 ? dpi / 96 : 1;
    v->window = SDL_CreateWindow(title, SDL_WINDOWPOS_UNDEFINED, SDL_WINDOWPOS_UNDEFINED, (int)(1120 * large), (int)(800 * large),
                                 SDL_WINDOW_RESIZABLE | SDL_WINDOW_ALLOW_HIGHDPI);
    if (!v->window) return fail(error, DIFFC_UNAVAILABLE, "", "window: cannot be opened: %.300s", SDL_GetError());
    SDL_SetWindowMinimumSize(v->window, 480, 360);
    /* Everything is drawn by the CPU unless SDL_RENDER_DRIVER says otherwise: that works everywhere, and a frame is due only when something changes */
    SDL_Renderer *r = SDL_CreateRenderer(v->window, -1, getenv("SDL_RENDER_DRIVER") ? 0 : SDL_RENDERER_SOFTWARE);
    if (!r) return fail(error, DIFFC_UNAVAILABLE, "", "window: nothing can be drawn: %.300s", SDL_GetError());
    SDL_RendererInfo about;
    v->keeps = SDL_GetRendererInfo(r, &about) == 0 && (about.flags & SDL_RENDERER_SOFTWARE);
    int w, pixels;
    SDL_GetWindowSize(v->window, &w, NULL);
    SDL_GetRendererOutputSize(r, &pixels, NULL);
    if (scale <= 0 && pixels > w) large = (float)pixels / (float)w;
    diffc_status s = draw_open(&v->d, r, large, light, error);
    if (s) return s;
    v->strip.marked = v->dragged_row = -1;
    v->news_event = SDL_RegisterEvents(3);
    v->file_event = v->news_event + 1;
    v->find_event = v->news_event + 2;
    v->prompt.max = v->negative.max = 16384;
    SDL_StartTextInput();
    return DIFFC_OK;
}

static void close_window(view *v)
{
    files_close(v->files); /* what is to be saved is */
    pane_close(v);
    canvas_forget(v);
    strip_forget(v, true);
    field_free(&v->prompt);
    field_free(&v->negative);
    field_free(&v->entry);
    field_free(&v->path);
    view_open_dropped(v, false, false);
    picture_drop(v->start);
    recipe_drop(v->recipe);
    SDL_Renderer *r = v->d.renderer;
    draw_close(&v->d);
    if (r) SDL_DestroyRenderer(r);
    if (v->window) SDL_DestroyWindow(v->window);
    if (TTF_WasInit()) TTF_Quit();
    SDL_Quit();
    if (v->log) fclose(v->log);
    free(v);
}

static void relay(void *self, const char *line) { worker_tell_note(self, line); }

/* The picture of -i: a copy, since the strip may outlive it. */
static void begin_from(view *v, const diffc_image *m)
{
    picture *p = calloc(1, sizeof *p);
    size_t n = 3 * (size_t)m->width * (size_t)m->height;
    if (p && (p->kept.image.pixels = malloc(n))) {
        memcpy(p->kept.image.pixels, m->pixels, n);
        p->kept.image.width = m->width, p->kept.image.height = m->height, p->kept.image.channels = 3;
        SDL_AtomicSet(&p->holders, 1);
        view_take_start(v, p);
    }
    picture_drop(p);
}

static void begin(view *v)
{
    const view_setup *s = v->setup;
    v->request = *s->request;
    v->locked = s->seed_given;
    field_set(&v->prompt, s->request->prompt ? s->request->prompt : "");
    field_set(&v->negative, s->request->negative ? s->request->negative : "");
    view_layout(v);
    view_log(v, "opened", json_pack("{s:s}", "driver", SDL_GetCurrentVideoDriver()));
    if (s->request->image) begin_from(v, s->request->image);
    if (s->live) view_set_live(v, true);
    if (s->begin) view_draw(v, false);
}

diffc_status view_run(const view_setup *setup, diffc_error *error)
{
    view *v = calloc(1, sizeof *v);
    if (!v) return fail(error, DIFFC_NO_MEMORY, "", "window: out of memory");
    v->setup = setup;
    char title[200];
    snprintf(title, sizeof title, "diffc - %.150s", diffc_model_summary(setup->model));
    diffc_status s = open_window(v, title, setup->scale, setup->light, setup->event_log, error);
    if (!s && (!(v->worker = worker_open(setup->model, v->news_event)) || !(v->files = files_open(setup->output, &setup->style, v->file_event))))
        s = fail(error, DIFFC_NO_MEMORY, "", "window: out of memory");
    if (!s) {
        *setup->relay = (view_relay){relay, v->worker};
        begin(v);
        loop(v);
    }
    if (v->window) SDL_HideWindow(v->window);
    worker_close(v->worker);
    *setup->relay = (view_relay){0};
    close_window(v);
    return s;
}

/* ---- a run of txt2img that is watched --------------------------------------------------------------------------------------- */

typedef struct watching {
    view *v;
    view_hooks hooks;
    int code;
} watching;

static void hook_progress(void *self, const diffc_progress *p) { worker_tell_progress(self, p); }
static void hook_preview(void *self, const diffc_preview *p) { worker_tell_preview(self, p); }
static void hook_picture(void *self, const diffc_result *r, const char *path) { worker_tell_picture(self, r, path); }

static int work(void *user)
{
    watching *w = user;
    double began = view_seconds();
    w->code = w->v->watched->work(w->v->watched->user, &w->hooks);
    worker_tell_end(w->v->worker, w->code ? &(diffc_error){.code = (diffc_status)w->code, .text = "it failed: the terminal says why"} : NULL,
                    view_seconds() - began);
    return 0;
}

diffc_status view_watch(const view_watched *watched, int *code, diffc_error *error)
{
    view *v = calloc(1, sizeof *v);
    if (!v) return fail(error, DIFFC_NO_MEMORY, "", "window: out of memory");
    v->watched = watched;
    char title[200];
    snprintf(title, sizeof title, "diffc - %.150s", watched->prompt ? watched->prompt : "txt2img");
    diffc_status s = open_window(v, title, watched->scale, watched->light, watched->event_log, error);
    if (!s && !(v->worker = worker_mailbox(v->news_event))) s = fail(error, DIFFC_NO_MEMORY, "", "window: out of memory");
    if (!s) {
        watching w = {.v = v, .hooks = {v->worker, hook_progress, hook_preview, hook_picture}};
        v->running = true;
        v->run_began = view_seconds();
        view_layout(v);
        SDL_Thread *t = SDL_CreateThread(work, "txt2img", &w);
        if (t) loop(v);
        else s = fail(error, DIFFC_NO_MEMORY, "", "window: no thread can be started");
        SDL_HideWindow(v->window);
        if (t) SDL_WaitThread(t, NULL); /* the work goes on to its end */
        *code = w.code;
    }
    worker_close(v->worker);
    close_window(v);
    return s;
}
