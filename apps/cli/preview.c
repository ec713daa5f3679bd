/* preview.c - see preview.h. */
#include "apps/cli/preview.h"
#include "apps/cli/names.h"
#include <stdlib.h>
#include <string.h>

#define DEFAULT_PATH "preview.png"

static int check_path(const char *pattern)
{
    diffc_error e = {0};
    if (!strcmp(pattern, "-")) return report(DIFFC_USAGE, "--preview-terminal draws them.", "preview-path: found -, expected the name of a file");
    char *path = name_make(pattern, 1, &(diffc_result){0});
    int code = !path ? report(DIFFC_NO_MEMORY, "", "out of memory") : diffc_output_check(path, &e) ? report_error(&e) : 0;
    free(path);
    return code;
}

int previews_begin(previews *p, const settings *s, bool window, const progress *line)
{
    const bool none = s->preview_kind && !strcmp(s->preview_kind, "none");
    const bool draws = (s->preview_terminal || s->show) && line->kind != PROGRESS_JSON && terminal_draws(stderr);
    p->terminal = draws && s->preview_terminal && !none;
    p->pictures = draws;
    /* --preview alone means the file */
    const char *path = s->preview_path ? s->preview_path : s->preview_kind && !s->preview_terminal && !window ? DEFAULT_PATH : NULL;
    p->pattern = none ? NULL : path;
    return p->pattern && !s->dry_run ? check_path(p->pattern) : 0;
}

bool previews_wanted(const previews *p) { return p->pattern || p->terminal; }

/* A preview that cannot be written costs nobody the picture. */
static void write_file(previews *p, progress *line, const diffc_preview *x)
{
    diffc_error e = {0};
    const diffc_image_style fleeting = {.fleeting = true};
    char *path = name_make(p->pattern, x->index + 1, &(diffc_result){.image = x->image});
    diffc_status s = path ? diffc_image_write(path, x->image, NULL, &fleeting, false, NULL, &e) : DIFFC_NO_MEMORY;
    if (s && !p->failed) {
        p->failed = true;
        progress_clear(line);
        report_log(DIFFC_LOG_WARNING, *e.text ? e.text : "out of memory for a preview");
    } else if (!s) {
        progress_event(line, "preview",
                       json_pack("{s:s,s:i,s:i,s:i,s:i,s:i,s:i,s:f}", "path", path, "step", x->step, "steps", x->steps, "image", x->index, "images",
                                 x->count, "width", x->image->width, "height", x->image->height, "seconds", x->seconds));
    }
    free(path);
}

void previews_tell(previews *p, progress *line, const diffc_preview *x, bool first)
{
    if (p->pattern && (first || name_has_number(p->pattern))) write_file(p, line, x);
    if (!p->terminal || !first) return;
    terminal_redraw(&p->place, stderr, x->image);
    progress_again(line);
}

void previews_finish(previews *p, const diffc_image *m)
{
    if (p->pictures) terminal_redraw(&p->place, stderr, m);
    terminal_leave(&p->place);
}
