/* worker.h - the thread that draws, and the mailboxes between it and the window. One slot each way for what may be passed over (the next run; the
 * preview and progress of this one), a list for finished pictures, which may not. Neither side ever waits for the other. */
#ifndef DC_VIEW_WORKER_H
#define DC_VIEW_WORKER_H
#include "apps/cli/result.h"
#include "include/diffc.h"
#include <SDL.h>

/* A finished picture; counted, since the strip, a save under way and a start image may share it. */
typedef struct picture {
    SDL_atomic_t holders;
    kept_result kept;
    double seconds; /* its run took */
    char path[512]; /* where it was written; "": nowhere yet */
} picture;
picture *picture_hold(picture *p);
void picture_drop(picture *p); /* NULL is fine */

/* A text of a picture that was opened (--from, a file that was dropped), which requests borrow from; counted likewise. */
typedef struct recipe {
    SDL_atomic_t holders;
    diffc_replay *replay;
} recipe;
recipe *recipe_hold(recipe *r);
void recipe_drop(recipe *r);

/* What is to be drawn, with its own copies of what may change meanwhile. */
typedef struct job {
    diffc_request request;
    char *prompt, *negative;
    picture *start; /* the start image; NULL */
    recipe *recipe; /* NULL */
} job;
/* A copy of the request as a job; false when memory is out. */
bool job_make(job *j, const diffc_request *request, picture *start, recipe *r);
void job_free(job *j);

/* What has come from the worker since the last time; the window takes it whole. */
typedef struct news {
    diffc_image preview; /* NULL pixels: none */
    int step, steps;     /* of the preview */
    bool moved;          /* progress is new */
    diffc_progress progress;
    picture **finished; /* n_finished of them, in an array that is the window's to free */
    int n_finished;
    bool began, ended; /* a run, since then */
    bool cancelled;    /* it, by us */
    diffc_error error; /* of the run that ended; code 0: none */
    char note[512];    /* the last of the library's notes and warnings; "" */
    bool running;      /* now */
    double seconds;    /* of the run that ended */
} news;

typedef struct worker worker;
/* event: an SDL event type that is pushed when there is news and none was untaken. */
worker *worker_open(diffc_model *model, uint32_t event);
/* Draws it as soon as it can, in place of what is drawn or waiting now. Takes what the job holds. */
void worker_draw(worker *w, job *j);
void worker_cancel(worker *w);
void worker_take(worker *w, news *out);
/* Stops and joins: within a second. NULL is fine. */
void worker_close(worker *w);

/* For a run that somebody else makes (txt2img --window): the same mailbox, without a thread. */
worker *worker_mailbox(uint32_t event);
void worker_tell_progress(worker *w, const diffc_progress *p);
void worker_tell_preview(worker *w, const diffc_preview *p);
void worker_tell_note(worker *w, const char *line);
/* path: where it was written; NULL. */
void worker_tell_picture(worker *w, const diffc_result *r, const char *path);
void worker_tell_end(worker *w, const diffc_error *e, double seconds); /* NULL: without an error */

double view_seconds(void); /* of a clock that only goes forward */

#endif
