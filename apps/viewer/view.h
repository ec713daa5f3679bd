/* view.h - the window's face to the program: what the module diffc-view.so exports. It is a module of its own, opened when a window is asked for, so
 * that the program starts without SDL and runs where it is not installed. */
#ifndef DC_VIEW_VIEW_H
#define DC_VIEW_VIEW_H
#include "include/diffc.h"

#define VIEW_MODULE "diffc-view.so"

/* Where the library's notes and warnings go while the window is open: it fills this in, and empties it again. */
typedef struct view_relay {
    void (*say)(void *self, const char *line); /* from any thread; NULL: there is no window */
    void *self;
} view_relay;

typedef struct view_setup {
    diffc_model *model;           /* open, resident; the window's alone until view_run returns */
    const diffc_options *options; /* it was opened with: for the search pane's model */
    const diffc_request *request; /* what it begins with; strings live until it returns */
    bool begin;                   /* a prompt was given: draw it at once */
    bool seed_given;              /* and keep its seed */
    bool live, light;
    bool few_steps;          /* the model that comes with diffc: live mode draws in 2 steps without guidance */
    double scale;            /* of everything; 0: as the screen asks */
    const char *output;      /* pattern of saved pictures' names */
    diffc_image_style style; /* of JPEG and WebP */
    const char *index;       /* of the search pane; NULL: the nearest */
    const char *event_log;   /* what happened and when, an object a line; NULL */
    view_relay *relay;
    bool (*stopped)(void); /* by a signal: the window closes */
} view_setup;

/* The window: returns when it is closed. Errors: UNAVAILABLE (no display, no font), USAGE, NO_CREATE (the log), NO_MEMORY. */
typedef diffc_status view_run_function(const view_setup *setup, diffc_error *error);
DIFFC_API view_run_function view_run;

/* A run that is shown in a window: `work` is called on a thread of its own and tells what happens. */
typedef struct view_hooks {
    void *self;
    void (*progress)(void *self, const diffc_progress *p);
    void (*preview)(void *self, const diffc_preview *p);
    void (*picture)(void *self, const diffc_result *r, const char *path); /* path: where it was written */
} view_hooks;
typedef struct view_watched {
    int (*work)(void *user, const view_hooks *hooks); /* returns an exit code */
    void *user;
    const char *prompt; /* for the title */
    void (*cancel)(void *user);
    bool light;
    double scale;
    const char *event_log;
    bool (*stopped)(void);
} view_watched;
/* Returns when the window is closed and the work is done: closing it does not stop the work (Esc does). *code: what it returned. Errors as above: then
 * the work was not begun. */
typedef diffc_status view_watch_function(const view_watched *watched, int *code, diffc_error *error);
DIFFC_API view_watch_function view_watch;

#endif
