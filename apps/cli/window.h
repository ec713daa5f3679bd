/* window.h - the window, for txt2img. */
#ifndef DC_CLI_WINDOW_H
#define DC_CLI_WINDOW_H
#include "apps/cli/options.h"
#include "apps/viewer/view.h"

/* Shows what `what` makes, which runs on another thread and tells the hooks; returns its exit code, or why there is no window (then it did not run). */
int watch_in_window(diffc_model *m, const settings *s, const char *prompt, int (*what)(void *user, const view_hooks *hooks), void *user);
/* The best kind of preview that the model has: its tiny decoder, else colours by factors, else none. */
void choose_preview(diffc_model *m, diffc_request *q);

#endif
