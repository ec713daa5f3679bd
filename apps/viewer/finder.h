/* finder.h - pictures of an index by what they show: queries answered by a thread of its own, thumbnails as they come.
 *
 * The latest query counts: one that is asked while another is under way takes its place. Nothing here waits for the thread but finder_close, and
 * nothing is printed: errors are part of a result. Index and model are opened at the first query, the index again where it has been open for some
 * seconds, so that what has been added meanwhile is found. By one thread at a time, that of the window. */
#ifndef DC_VIEWER_FINDER_H
#define DC_VIEWER_FINDER_H
#include "include/diffc.h"

enum { FINDER_SIDE = 160 }; /* pixels a thumbnail has at most, across and down */

typedef struct finder_match {
    char *path; /* as it can be opened: bytes as in the file system, diffc_escape shows them */
    float score;
    int width, height;     /* of the picture, as the index knows it; 0: it does not */
    diffc_image thumbnail; /* RGB; no pixels: not there yet */
    bool failed;           /* there will be none: the picture is gone, damaged or too large */
} finder_match;

/* Zero-initialise. */
typedef struct finder_result {
    uint64_t query; /* which one it answers, as finder_ask numbered it */
    char *error;    /* NULL, or text and advice, a line each; there are no matches then */
    finder_match *match;
    int n;
} finder_result;

typedef struct finder finder;

/* index: its folder; NULL: ".diffc" here or in the nearest folder around. options (NULL: the defaults): device, cpu_level, precision, exact and threads
 * count, as borrowed strings that must last; the model is the index's own. event: of SDL_RegisterEvents, pushed when there is something to take; 0:
 * none. NULL: memory or threads are out. */
finder *finder_open(const char *index, const diffc_options *options, uint32_t event);
/* Asks for the `top` best of a term (a text, or a picture: diffc_query); returns its number, from 1, or 0 when memory is out. "" finds nothing. */
uint64_t finder_ask(finder *f, const char *query, int top);
/* Brings *r, always the same one, up to date: another query's matches in the place of those there, thumbnails that came since. False: nothing new. */
bool finder_take(finder *f, finder_result *r);
/* Is a query under way, or thumbnails of its matches? */
bool finder_busy(finder *f);
void finder_result_free(finder_result *r); /* also resets it to the zero state */
/* Within a second, but for a model that takes longer to be opened. NULL is fine. */
void finder_close(finder *f);

#endif
