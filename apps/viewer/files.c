/* files.c - the thread for pictures' files. */
#include "apps/viewer/files.h"
#include "apps/cli/names.h"
#include <fcntl.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

typedef struct entry {
    file_news news;
    struct entry *next;
} entry;
typedef struct queue {
    entry *first, *last;
} queue;

struct files {
    SDL_Thread *thread;
    SDL_mutex *lock;
    SDL_cond *wake;
    uint32_t event;
    const char *pattern;
    diffc_image_style style;
    long next; /* number to try next */
    bool quit;
    queue tasks, news;
};

static void put(queue *q, entry *e)
{
    e->next = NULL;
    if (q->last) q->last->next = e;
    else q->first = e;
    q->last = e;
}

static entry *get(queue *q)
{
    entry *e = q->first;
    if (e) q->first = e->next;
    if (!q->first) q->last = NULL;
    return e;
}

static void forget(queue *q)
{
    for (entry *e; (e = get(q));) {
        picture_drop(e->news.picture);
        recipe_drop(e->news.recipe);
        free(e);
    }
}

/* ---- what is done ---------------------------------------------------------------------------------------------- */

/* A file may be a picture, with or without parameters, or a text of parameters. */
static void read_file(file_news *n)
{
    diffc_error none = {0};
    recipe *r = calloc(1, sizeof *r);
    if (r && diffc_replay_open(&r->replay, n->path, &none) == DIFFC_OK) {
        SDL_AtomicSet(&r->holders, 1);
        n->recipe = r;
    } else free(r);
    picture *p = calloc(1, sizeof *p);
    if (p && diffc_image_read(&p->kept.image, n->path, false, &n->error) == DIFFC_OK) {
        SDL_AtomicSet(&p->holders, 1);
        SDL_strlcpy(p->path, n->path, sizeof p->path);
        n->picture = p;
    } else free(p);
    if (n->recipe) n->error = (diffc_error){0};
}

static void write_file(files *f, file_news *n)
{
    char *path = NULL;
    diffc_result r = n->picture->kept.result;
    r.image = &n->picture->kept.image;
    if (result_write(&r, f->pattern, name_has_number(f->pattern) ? &f->next : NULL, &f->style, &path, &n->error) && !n->error.code) {
        n->error = (diffc_error){.code = DIFFC_NO_MEMORY, .text = "out of memory"};
    }
    SDL_strlcpy(n->path, path ? path : "", sizeof n->path);
    free(path);
}

/* Runs a program with the file as its stdin; false: it is not there, or failed. */
static bool feed(char *const *argv, const char *file)
{
    posix_spawn_file_actions_t a;
    pid_t id;
    int status = 1;
    posix_spawn_file_actions_init(&a);
    posix_spawn_file_actions_addopen(&a, 0, file, O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&a, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&a, 2, "/dev/null", O_WRONLY, 0);
    bool began = posix_spawnp(&id, argv[0], &a, NULL, argv, environ) == 0;
    posix_spawn_file_actions_destroy(&a);
    if (began) waitpid(id, &status, 0); /* they leave a child behind that serves the clipboard */
    return began && WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* SDL's clipboard is for texts; these programs come with desktops or are easily had. */
static void copy_picture(file_news *n)
{
    char *wayland[] = {"wl-copy", "-t", "image/png", NULL}, *x11[] = {"xclip", "-selection", "clipboard", "-t", "image/png", "-i", NULL};
    const char *folder = getenv("XDG_RUNTIME_DIR");
    char file[512];
    const picture *p = n->picture;
    SDL_snprintf(file, sizeof file, "%s/diffc-copy-%d.png", folder && *folder ? folder : "/tmp", (int)getpid());
    if (diffc_image_write(file, &p->kept.image, p->kept.result.parameters, NULL, false, NULL, &n->error)) return;
    n->only_text = !(getenv("WAYLAND_DISPLAY") && feed(wayland, file)) && !feed(x11, file);
    unlink(file);
}

static int run(void *user)
{
    files *f = user;
    SDL_LockMutex(f->lock);
    for (;;) {
        entry *e = get(&f->tasks);
        if (!e && f->quit) break;
        if (!e) {
            SDL_CondWait(f->wake, f->lock);
            continue;
        }
        SDL_UnlockMutex(f->lock);
        if (e->news.task == FILE_READ) read_file(&e->news);
        if (e->news.task == FILE_WRITE) write_file(f, &e->news);
        if (e->news.task == FILE_COPY) copy_picture(&e->news);
        SDL_Event told = {.type = f->event};
        SDL_LockMutex(f->lock);
        put(&f->news, e);
        SDL_PushEvent(&told);
    }
    SDL_UnlockMutex(f->lock);
    return 0;
}

/* ---- the window's side ------------------------------------------------------------------------------------------- */

files *files_open(const char *pattern, const diffc_image_style *style, uint32_t event)
{
    files *f = calloc(1, sizeof *f);
    if (!f) return NULL;
    *f = (files){.event = event, .pattern = pattern, .style = *style, .next = 1, .lock = SDL_CreateMutex(), .wake = SDL_CreateCond()};
    if (f->lock && f->wake) f->thread = SDL_CreateThread(run, "files", f);
    if (f->thread) return f;
    files_close(f);
    return NULL;
}

static bool ask(files *f, file_task task, const char *path, picture *p)
{
    entry *e = calloc(1, sizeof *e);
    if (!e) return false;
    e->news.task = task;
    e->news.picture = picture_hold(p);
    SDL_strlcpy(e->news.path, path, sizeof e->news.path);
    SDL_LockMutex(f->lock);
    put(&f->tasks, e);
    SDL_CondSignal(f->wake);
    SDL_UnlockMutex(f->lock);
    return true;
}

bool files_read(files *f, const char *path) { return ask(f, FILE_READ, path, NULL); }
bool files_write(files *f, picture *p) { return ask(f, FILE_WRITE, "", p); }
bool files_copy(files *f, picture *p) { return ask(f, FILE_COPY, "", p); }

bool files_take(files *f, file_news *out)
{
    SDL_LockMutex(f->lock);
    entry *e = get(&f->news);
    SDL_UnlockMutex(f->lock);
    if (e) *out = e->news;
    free(e);
    return e != NULL;
}

void files_close(files *f)
{
    if (!f) return;
    if (f->thread) {
        SDL_LockMutex(f->lock);
        f->quit = true;
        SDL_CondSignal(f->wake);
        SDL_UnlockMutex(f->lock);
        SDL_WaitThread(f->thread, NULL);
    }
    forget(&f->tasks);
    forget(&f->news);
    if (f->wake) SDL_DestroyCond(f->wake);
    if (f->lock) SDL_DestroyMutex(f->lock);
    free(f);
}
