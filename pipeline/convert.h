/* convert.h - what the two files of a conversion share. */
#ifndef DC_PIPELINE_CONVERT_H
#define DC_PIPELINE_CONVERT_H
#include "base/file.h"
#include "pipeline/model.h"
#include "weights/write.h"

typedef struct conversion {
    diffc_model *m; /* where the parts are; nothing of it is opened */
    diffc_options o;
    dc_write_options w;
    model_part part[DC_PARTS]; /* weights NULL: there is no such part */
    bool alone;                /* a file of one part, converted as that */
    bool (*on_progress)(void *user, const diffc_progress *);
    void *user;
    const char *what; /* under way, for on_progress */
    uint64_t written, total;
    uint64_t forgotten; /* of `written`, when what had been read was last let go */
    double began;
    diffc_conversion *done;
    dc_out_folder *folder;
    dc_error *e;
} conversion;

/* Writes a list and adds to what is done. */
dc_status convert_write(conversion *c, const char *path, dc_write_list *l, const char *what);
/* The noise schedule as scheduler_config.json; the caller json_decrefs. */
dc_status convert_scheduler(conversion *c, json_t **root);
/* Notes a part's tensors and bytes. */
void convert_note(conversion *c, dc_part p, int tensors, uint64_t bytes);
/* convert_folder.c: everything that a diffusers folder consists of, into c->folder. */
dc_status convert_to_folder(conversion *c);

#endif
