/* preview.h - where txt2img's previews go: into a file, the terminal, the stream of events. */
#ifndef DC_CLI_PREVIEW_H
#define DC_CLI_PREVIEW_H
#include "apps/cli/report.h"
#include "apps/cli/options.h"
#include "apps/cli/terminal.h"

typedef struct previews {
    const char *pattern;     /* of the file's name; NULL: none is written */
    bool terminal, pictures; /* previews are drawn in the terminal; finished pictures are */
    bool failed;             /* a file could not be written: was told */
    terminal_place place;
} previews;

/* What the options (of a run, or of a line of prompts) ask for; the file is told to be impossible before any work. 0 or an exit code. */
int previews_begin(previews *p, const settings *s, bool window, const progress *line);
/* Does anybody look at previews, window apart? */
bool previews_wanted(const previews *p);
/* first: of the pictures that are sampled together. */
void previews_tell(previews *p, progress *line, const diffc_preview *x, bool first);
/* A finished picture, in the place of its last preview; the progress line is clear. */
void previews_finish(previews *p, const diffc_image *m);

#endif
