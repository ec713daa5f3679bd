/* infotext.h - A1111's "parameters" text: a prompt, a negative prompt and a line of fields. Pure: text in, text out. What A1111 does is what its
 * create_infotext and parse_generation_parameters do. */
#ifndef DC_PIPELINE_INFOTEXT_H
#define DC_PIPELINE_INFOTEXT_H
#include "base/status.h"
#include "base/text.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ---- writing */

typedef enum info_kind { INFO_NONE /* left out, as Python's None */, INFO_TEXT, INFO_INT, INFO_UINT, INFO_REAL, INFO_BOOL } info_kind;
typedef struct info_value {
    const char *key;
    info_kind kind;
    union {
        const char *text;
        int64_t integer;
        uint64_t natural;
        double real;
        bool yes;
    };
} info_value;

/* The text: "prompt\nNegative prompt: negative\nKey: value, Key: value", each part only where there is something. A value with a comma, a colon
 * or a line break becomes a JSON string; one that is its key stands without it. negative may be NULL. The caller frees; NULL: out of memory. */
char *infotext_write(const char *prompt, const char *negative, const info_value *v, int n);
/* v as Python prints a float: the shortest digits that give it back, "7.0", "0.55", "1e-05". */
void info_real(char out[64], double v);

/* ---- reading */

/* A field as found; the note, when there is one, says why it cannot be followed (comfyui.c). All owned. */
typedef struct info_field {
    char *key, *value, *note;
} info_field;
typedef enum info_source { INFO_A1111, INFO_DIFFC, INFO_SDCPP, INFO_COMFYUI } info_source;
const char *info_source_name(info_source s); /* "A1111", .. */
typedef struct infotext {
    info_source source;
    char *prompt, *negative; /* negative NULL: the text has none */
    info_field *field;       /* in the order of the text; of a key that comes twice the last value */
    int n, room;
    bool failed, many; /* memory ran out; more than 256 fields: told by the function that filled it */
} infotext;

/* Reads n bytes of UTF-8 (1 MiB at most); `name` is for messages. A size "WxH" becomes two fields, "Size-1" and "Size-2". stable-diffusion.cpp's
 * dialect comes out in A1111's fields. Errors: DATA, NO_MEMORY. For infotext_free even after an error. */
dc_status infotext_read(infotext *out, const char *name, const char *text, size_t n, dc_error *e);
void infotext_free(infotext *x);

const char *info_get(const infotext *x, const char *key); /* NULL: no such field */
/* Sets or adds; note may be NULL. */
void info_set(infotext *x, const char *key, const char *value, const char *note);
__attribute__((format(printf, 3, 4))) void info_setf(infotext *x, const char *key, const char *format, ...);

/* ---- comfyui.c: the graph that ComfyUI puts into its pictures ("prompt", in API form), as fields of the same names. The sampler taken is the
 * one that a saved picture comes from and that begins with noise alone; nodes that change its work are fields with a note. text[n] is 0. Errors: DATA, NO_MEMORY. */
dc_status comfyui_read(infotext *out, const char *name, const char *text, size_t n, dc_error *e);

#endif
