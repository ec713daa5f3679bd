/* state.h - all that the window is, and what its parts do with it. Everything here belongs to the window's thread; what others do comes through the
 * mailboxes of worker.h, files.h and finder.h. */
#ifndef DC_VIEW_STATE_H
#define DC_VIEW_STATE_H
#include "apps/viewer/draw.h"
#include "apps/viewer/field.h"
#include "apps/viewer/view.h"
#include "apps/viewer/worker.h"
#include <jansson.h>
#include <stdio.h>

/* Where keys go. From FOCUS_ROWS on: the settings. */
enum { FOCUS_PROMPT, FOCUS_NEGATIVE, FOCUS_PICTURE, FOCUS_ROWS };

/* What lies over the window and takes the keys. */
typedef enum cover { COVER_NONE, COVER_KEYS, COVER_LIST, COVER_OPEN, COVER_DROPPED, COVER_FIND } cover;

/* The picture under way or chosen, as the canvas shows it. */
typedef struct canvas {
    SDL_Texture *preview; /* NULL: the chosen picture of the strip is shown */
    double zoom;          /* pixels of the window a pixel of the picture; 0: as large as fits */
    double x, y;          /* the picture's point in the middle of the canvas, 0..1 */
    bool held, dragging;  /* the key that compares; the mouse moves it */
    bool looking;         /* at a picture chosen during this run: no previews */
} canvas;

/* This run's pictures, oldest first. */
typedef struct strip_item {
    picture *picture;
    SDL_Texture *small, *full; /* full: of the ones shown lately */
} strip_item;
typedef struct strip {
    strip_item *item;
    int n, room;
    int chosen, marked; /* marked: compared with; -1: none */
    uint64_t bytes;     /* of all pixels */
    int scroll;         /* pixels */
} strip;

typedef struct view {
    const view_setup *setup; /* NULL while a run of txt2img is watched */
    const view_watched *watched;
    SDL_Window *window;
    draw d;
    worker *worker;
    uint32_t news_event, file_event, find_event;
    FILE *log;

    diffc_request request; /* the settings; its texts are in the fields */
    field prompt, negative;
    recipe *recipe; /* what the request borrows from; NULL */
    picture *start; /* start image; NULL */
    bool locked;    /* the seed stays */
    bool live;
    int steps_before_live;
    double guidance_before_live;
    double live_at; /* when the next live run begins; 0: none is due */

    SDL_Rect prompt_at, negative_at, rows_at, canvas_at, strip_at, status_at, panel_at;
    int focus, row_scroll;
    field entry; /* a number that is typed into the row with the focus */
    bool typing;
    int dragged_row; /* its slider follows the mouse; -1: none */
    cover cover;
    int list_row, list_at, list_scroll; /* COVER_LIST: of which row, the chosen one */
    field path;                         /* COVER_OPEN: a file's name */
    char dropped[512];                  /* COVER_DROPPED: the file, and what is in it */
    recipe *dropped_recipe;
    picture *dropped_picture;
    struct files *files; /* reads and writes pictures */
    struct pane *pane;   /* of COVER_FIND; NULL: never opened */

    canvas canvas;
    strip strip;
    bool running, quit, full_screen;
    bool dirty, canvas_dirty, status_dirty; /* what is to be drawn anew: everything, the picture and the status line, the status line */
    bool keeps;                             /* the renderer has what was drawn before: parts may be drawn alone */
    bool deaf;                              /* text is not taken: it is the letter of a key that closed a page */
    bool altered;                           /* the settings, since they were drawn last */
    double run_began, first_preview;
    diffc_progress progress;
    int step, steps;
    char message[1600]; /* of the status line */
    bool message_bad;
    double message_until; /* 0: stays until the next run */
    double input_at;      /* when the oldest input came that no frame has answered; 0: none */
} view;

/* ---- window.c */
void view_log(view *v, const char *event, json_t *o); /* takes o, which may be NULL */
/* A line for a while, or (bad) an error that stays. */
void view_say(view *v, bool bad, const char *format, ...) __attribute__((format(printf, 3, 4)));
void view_say_error(view *v, const diffc_error *e);
bool view_in_text(const view *v); /* do keys write text? */
field *view_field(view *v);       /* the field with the focus; NULL */
void view_focus(view *v, int focus);
bool inside(const SDL_Rect *r, int x, int y);

/* ---- run.c: what is drawn */
void view_draw(view *v, bool new_seed); /* draws the settings anew */
void view_changed(view *v);             /* a setting or text has changed: in live mode a run is due */
void view_set_live(view *v, bool on);
void view_cancel(view *v);
void view_take_news(view *v);
/* A picture from outside: its settings, or the picture as the one to start from. */
void view_open_file(view *v, const char *path);
void view_open_dropped(view *v, bool settings, bool start);
void view_take_files(view *v);
void view_take_recipe(view *v, recipe *r);
void view_take_start(view *v, picture *p); /* NULL: none any more */
void view_save(view *v);
void view_copy(view *v);

/* ---- layout.c: one frame */
void view_layout(view *v);
void view_frame(view *v);

/* ---- rows.c: the settings */
int rows_count(const view *v); /* that are shown */
void rows_draw(view *v);
bool rows_key(view *v, SDL_Keysym key);
/* Text for the row with the focus: a number that is typed. */
bool rows_text(view *v, const char *text);
void rows_click(view *v, int x, int y, int button);
void rows_drag(view *v, int x);
void rows_wheel(view *v, int x, int y, int by);
void rows_show(view *v); /* scrolls to the one with the focus */
/* The list of a row's choices, as a cover. */
void list_draw(view *v);
bool list_key(view *v, SDL_Keysym key);
void list_click(view *v, int x, int y);
void list_wheel(view *v, int by);

/* ---- canvas.c */
void canvas_preview(view *v, const diffc_image *m); /* NULL: no more */
void canvas_draw(view *v);
void canvas_zoom(view *v, double factor, int x, int y); /* about a point of the window */
void canvas_fit(view *v, double zoom);                  /* 0: as large as fits; 1: a pixel a pixel */
void canvas_pan(view *v, int dx, int dy);
void canvas_forget(view *v); /* textures */

/* ---- strip.c */
void strip_add(view *v, picture *p); /* takes it; shows it */
void strip_choose(view *v, int i);
void strip_remove(view *v, int i);
picture *strip_picture(const view *v); /* the chosen one; NULL */
SDL_Texture *strip_texture(view *v, int i);
void strip_draw(view *v);
void strip_click(view *v, int x, int y);
void strip_forget(view *v, bool all); /* textures; all: the pictures, too */

/* ---- keys.c */
bool keys_down(view *v, const SDL_KeyboardEvent *e);
void keys_up(view *v, const SDL_KeyboardEvent *e);
void keys_draw(view *v); /* the page of F1 */

/* ---- textbox.c: fields on the screen */
void textbox_draw(view *v, SDL_Rect at, const field *f, bool focus, const char *when_empty);
/* The place in the text below a point of the window. */
size_t textbox_at(view *v, SDL_Rect at, const field *f, int x, int y);
/* A line up (-1) or down; false: there is none. */
bool textbox_line(view *v, SDL_Rect at, field *f, int by, bool select);
/* A key for a field: true when it was one. */
bool textbox_key(view *v, SDL_Rect at, field *f, SDL_Keysym key);

/* ---- pane.c: the search pane */
void pane_open(view *v);
void pane_draw(view *v);
bool pane_key(view *v, SDL_Keysym key);
void pane_click(view *v, int x, int y, int clicks);
field *pane_field(view *v);
void pane_text(view *v, const char *text);
void pane_wheel(view *v, int by);
void pane_take(view *v);
void pane_forget(view *v); /* textures */
void pane_close(view *v);

#endif
