/* terminal.h - pictures in the terminal, by libchafa; nothing is drawn where there is no terminal, or this build has no libchafa. */
#ifndef DC_CLI_TERMINAL_H
#define DC_CLI_TERMINAL_H
#include "include/diffc.h"
#include <stdio.h>

/* Could a picture be drawn on the terminal behind `to`? */
bool terminal_draws(FILE *to);
/* A picture of at most `rows` lines, and the line's end. False: none is drawn. */
bool terminal_show(FILE *to, const diffc_image *m, int rows);

/* A picture that changes, above the line that the cursor is in. */
typedef struct terminal_place {
    int rows; /* lines of what stands there; 0: nothing */
} terminal_place;
/* Draws over what stands there, else above the cursor's line, which is cleared then; leaves the cursor at that line's beginning. False: nothing is drawn. */
bool terminal_redraw(terminal_place *p, FILE *to, const diffc_image *m);
/* What stands there stays; the next one gets a place of its own. */
void terminal_leave(terminal_place *p);

#endif
