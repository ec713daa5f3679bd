/* trace.c - every named activation as a .npy file: DIR/PART/NAME.npy, or DIR/unet/step-000/NAME.npy. */
#include "base/npy.h"
#include "pipeline/model.h"
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* mkdir -p */
static dc_status make_folders(char *path, dc_error *e)
{
    for (char *at = path + 1;; at++) {
        if (*at && *at != '/') continue;
        char held = *at;
        *at = 0;
        int bad = mkdir(path, 0777) != 0 && errno != EEXIST;
        if (bad) return dc_fail(e, DC_NO_CREATE, "%s: trace folder: cannot be made (%s)", path, strerror(errno));
        *at = held;
        if (!held) return DC_OK;
    }
}

static void write_tap(void *user, const char *name, const float *data, int rank, const int64_t *dim)
{
    job *j = user;
    char *folder =
        j->trace_step < 0 ? dc_format("%s/%s", j->q->trace, j->trace_part) : dc_format("%s/%s/step-%03d", j->q->trace, j->trace_part, j->trace_step);
    char *path = folder ? dc_format("%s/%s.npy", folder, name) : NULL;
    dc_status s = path ? make_folders(folder, j->e) : dc_fail_memory(j->e, "a path", 0);
    if (!s) s = dc_npy_write_f32(path, data, rank, dim, j->e);
    if (s && !j->stop) j->stop = s; /* reported when the pass is over */
    free(folder);
    free(path);
}

void trace_attach(job *j, dc_run *r)
{
    if (j->q->trace) dc_run_set_tap(r, write_tap, j);
}

void trace_part(job *j, const char *part, int step)
{
    j->trace_part = part;
    j->trace_step = step;
}
