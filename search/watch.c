/* watch.c - inotify tells that something has changed, a run finds out what: it walks the folder in a fraction of a second, and so nothing that
 * inotify loses (a queue that ran over, files made in a folder before it was watched) stays unseen for longer than RESCAN. */
#include "search/watch.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/inotify.h>
#include <unistd.h>

#define QUIET    1.0   /* s without an event before a run: a copy of many files is one */
#define PATIENCE 10.0  /* s of events after which a run comes in any case */
#define RESCAN   600.0 /* s without events: file systems of the network tell none */
#define SOON     30.0  /* the same when not all folders can be watched */

typedef struct watcher {
    dc_update *u;
    int fd;
    bool partly; /* a folder could not be watched */
} watcher;

static dc_status on_folder(void *ctx, const char *path, dc_error *e)
{
    watcher *w = ctx;
    char *full = dc_path_join(w->u->root, path);
    if (!full) return dc_fail_memory(e, path, strlen(path));
    const uint32_t what = IN_CLOSE_WRITE | IN_MOVED_FROM | IN_MOVED_TO | IN_CREATE | IN_DELETE | IN_ATTRIB | IN_ONLYDIR;
    if (inotify_add_watch(w->fd, full, what) < 0 && errno != ENOENT && !w->partly) {
        const diffc_index_options *o = w->u->options;
        w->partly = true;
        if (o->log)
            o->log(o->user, DIFFC_LOG_WARNING,
                   errno == ENOSPC ? "not all folders can be watched (fs.inotify.max_user_watches): looking every 30 s"
                                   : "not all folders can be watched: looking every 30 s");
    }
    free(full);
    return DC_OK;
}

/* Takes the events that there are, waiting up to a quarter of a second; *any: was there one? */
static dc_status wait_events(watcher *w, bool *any, dc_error *e)
{
    char events[16384];
    struct pollfd p = {w->fd, POLLIN, 0};
    *any = poll(&p, 1, 250) > 0;
    if (!*any) return DC_OK;
    ssize_t n = read(w->fd, events, sizeof events);
    return n < 0 && errno != EINTR && errno != EAGAIN ? dc_fail(e, DC_IO, "%s: watching failed: %s", w->u->root, strerror(errno)) : DC_OK;
}

/* Returns when a run is due. */
static dc_status wait_change(watcher *w, dc_error *e)
{
    const diffc_index_options *o = w->u->options;
    const double began = dc_seconds();
    double first = 0, last = 0;
    for (;;) {
        bool any;
        dc_status s = wait_events(w, &any, e);
        if (s) return s;
        const diffc_index_progress p = {.stage = DIFFC_INDEX_WAIT, .seconds = dc_seconds() - began, .eta = -1};
        if (o->on_progress && o->on_progress(o->user, &p)) return dc_fail(e, DC_CANCELLED, "stopped");
        const double now = dc_seconds();
        if (any) last = now, first = first > 0 ? first : now;
        if (last > 0 && (now - last >= QUIET || now - first >= PATIENCE)) return DC_OK;
        if (!any && now - began >= (w->partly ? SOON : RESCAN)) return DC_OK;
    }
}

static bool did_something(const diffc_index_summary *x) { return x->added || x->changed || x->removed || x->failed; }

dc_status dc_watch_run(dc_update *u, dc_error *e)
{
    watcher w = {.u = u, .fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK)};
    if (w.fd < 0) return dc_fail(e, DC_UNAVAILABLE, "%s: cannot be watched: %s", u->root, strerror(errno));
    u->folder = on_folder;
    u->folder_ctx = &w;
    dc_status s = DC_OK;
    for (bool first = true; !s; first = false) {
        diffc_index_summary sum;
        s = dc_update_run(u, &sum, e);
        if (!s && (first || did_something(&sum)) && u->options->on_update) u->options->on_update(u->options->user, &sum);
        if (!s) s = wait_change(&w, e);
    }
    close(w.fd);
    return s;
}
