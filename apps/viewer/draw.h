/* draw.h - rectangles, pictures and text on the window: SDL's renderer, SDL_ttf, fonts found by fontconfig. All lengths are pixels of the renderer;
 * `px` turns the design's own unit (1/96 inch) into them. */
#ifndef DC_VIEW_DRAW_H
#define DC_VIEW_DRAW_H
#include "include/diffc.h"
#include <SDL.h>
#include <SDL_ttf.h>

/* What things are painted with. */
typedef enum ink {
    INK_BACK,  /* behind everything */
    INK_PANEL, /* of the settings and bars */
    INK_FIELD, /* what can be changed */
    INK_LINE,  /* borders */
    INK_TEXT,
    INK_DIM,    /* less important text */
    INK_ACCENT, /* focus, progress */
    INK_SELECT, /* behind selected text and rows */
    INK_ERROR,
    INK_SHADE, /* over what lies behind a dialog */
    INKS
} ink;

typedef enum letter { LETTER_SMALL, LETTER_NORMAL, LETTER_LARGE, LETTERS } text_size;

enum { MOST_FACES = 8, TEXT_CACHE = 512 };

typedef struct drawn_text {
    uint64_t key; /* 0: empty */
    uint32_t used;
    SDL_Texture *texture;
    int w, h;
} drawn_text;

typedef struct draw {
    SDL_Renderer *renderer;
    float scale; /* pixels a unit */
    bool light;
    TTF_Font *font[LETTERS][MOST_FACES]; /* of a face in every size; the first face is the program's, others have letters it lacks */
    char *face[MOST_FACES];
    int faces;
    uint32_t now; /* frames so far, for the cache */
    drawn_text cache[TEXT_CACHE];
} draw;

/* Errors: UNAVAILABLE (no font on the machine). Close with draw_close in any case. */
diffc_status draw_open(draw *d, SDL_Renderer *renderer, float scale, bool light, diffc_error *error);
/* Another size of all letters. */
diffc_status draw_rescale(draw *d, float scale, diffc_error *error);
void draw_close(draw *d);

static inline int px(const draw *d, float units) { return (int)(units * d->scale + 0.5f); }
SDL_Color ink_color(const draw *d, ink i);

void draw_fill(draw *d, SDL_Rect r, ink i);
void draw_frame(draw *d, SDL_Rect r, ink i, int thickness);
void draw_clip(draw *d, const SDL_Rect *r); /* NULL: nothing is cut */

int text_height(const draw *d, text_size size);
/* Width of the first n bytes. */
int text_width(draw *d, text_size size, const char *s, size_t n);
/* Draws n bytes with the top left corner at (x, y); cut with an ellipsis to `width` when that is > 0. Returns the width drawn. */
int text_draw(draw *d, text_size size, ink i, int x, int y, int width, const char *s, size_t n);
/* The same of a whole string; printf's arguments. Texts of up to 1,000 bytes. */
int text_print(draw *d, text_size size, ink i, int x, int y, int width, const char *format, ...) __attribute__((format(printf, 7, 8)));
/* The most bytes, at a letter's beginning, that fit into `width`. */
size_t text_fit(draw *d, text_size size, const char *s, size_t n, int width);
/* The number of bytes, at a letter's beginning, whose width is next to x. */
size_t text_at(draw *d, text_size size, const char *s, size_t n, int x);

/* RGB pixels as a texture (NULL when memory is out), smooth when enlarged or not. */
SDL_Texture *draw_texture(draw *d, const diffc_image *m, bool smooth);

#endif
