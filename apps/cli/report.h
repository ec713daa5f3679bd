/* report.h - what the program tells: errors on stderr (one line and a hint, or JSON), progress on a terminal. */
#ifndef DC_CLI_REPORT_H
#define DC_CLI_REPORT_H
#include "include/diffc.h"
#include <jansson.h>
#include <stdbool.h>

double seconds_now(void); /* of a clock that only goes forward */
void report_as_json(bool on);
/* Tells an error and returns its code. hint may be "". */
int report(diffc_status code, const char *hint, const char *format, ...) __attribute__((format(printf, 3, 4)));
int report_error(const diffc_error *e); /* the same for an error of the library */

/* A note or warning: "diffc: warning: ..." on stderr, or an object. */
void report_log(diffc_log_level level, const char *line);

/* Progress on stderr: a line that is written over, "sampling 5/20  3.1 it/s  0:05 left", or an object a line. Thread-compatible. */
typedef enum progress_kind { PROGRESS_NONE, PROGRESS_BAR, PROGRESS_JSON } progress_kind;
typedef struct progress {
    progress_kind kind;
    double last;
    diffc_progress shown; /* by the bar, for progress_again */
} progress;
/* word: --progress; NULL or "auto": a bar where stderr is a terminal and nobody asked for silence. 0 or DIFFC_USAGE. */
int progress_begin(progress *p, const char *word, bool silent);
void progress_tell(progress *p, const diffc_progress *x);
void progress_index(progress *p, const diffc_index_progress *x); /* the same for an index */
void progress_clear(progress *p);                                /* before other output and at the end */
void progress_again(const progress *p);                          /* the bar, where its line was cleared */
/* Another event of a JSON progress: takes the reference, adds "event". */
void progress_event(const progress *p, const char *event, json_t *o);

/* SIGINT and SIGTERM stop `model` cleanly; a second one ends the program at once. NULL before the model is open. */
void signals_install(void);
void signals_model(diffc_model *model);
void signals_clip(diffc_clip *clip); /* the same for a CLIP model */
/* For work that has no model: from now on the first signal is only noted, and signals_caught asked by the work. */
void signals_note(void);
bool signals_caught(void);
/* Exit code of a stopped run: 130 or 143. */
int signals_code(void);

#endif
