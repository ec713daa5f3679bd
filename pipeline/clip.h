/* clip.h - an open CLIP model, shared by what opens it (clip_open.c), runs it (clip.c) and times it (bench.c). */
#ifndef DC_PIPELINE_CLIP_H
#define DC_PIPELINE_CLIP_H
#include "clip/preprocess.h"
#include "clip/vision.h"
#include "pipeline/model.h"

#define CLIP_BATCH 32 /* pictures or texts of one pass */

struct diffc_clip {
    char *path, *name;
    dc_device *device;
    atomic_int cancel;
    dc_log log;
    void (*log_fn)(void *user, diffc_log_level level, const char *line);
    void *log_user;
    dc_weights *file;                    /* all tensors, as the file names them */
    dc_weights *text_part, *vision_part; /* those of a tower, in transformers' names; NULL: there is none */
    dc_clip_text *text;
    dc_clip_vision *vision;
    dc_tokenizer *tokenizer;
    int tokens; /* that fit a text */
    dc_clip_preprocess prepare;
    bool fast_decode;
    dc_run *text_run, *vision_run;
    int text_planned[2], vision_planned; /* for how many texts of how many tokens, and pictures */
    float *patches;                      /* of CLIP_BATCH pictures; NULL before the first */
    char id[128], summary[512];
    diffc_clip_info info;
};

dc_status clip_open(diffc_clip **out, const diffc_options *o, dc_error *e);
void clip_close(diffc_clip *m);

#endif
