/* preprocess.h - from a picture to what a picture tower is given, to the bit as Pillow with torchvision (open_clip, OpenAI) or with transformers'
 * image processor (its Pillow backend) makes it. Ref: open_clip transform.py; transformers image_processing_backends.py, image_transforms.py.
 *
 * Where the two families differ: which pixel is the middle of an odd remainder (open_clip rounds halves to even, transformers down), and
 * transparency, which open_clip resizes with the colours before it drops it, and transformers (since 5) lays on white. */
#ifndef DC_CLIP_PREPROCESS_H
#define DC_CLIP_PREPROCESS_H
#include "base/json.h"
#include "image/image.h"

typedef enum dc_clip_fit {
    DC_CLIP_FIT_NONE,     /* not resized */
    DC_CLIP_FIT_SHORTEST, /* the shorter side becomes `size`, the other in proportion, rounded down */
    DC_CLIP_FIT_LONGEST,  /* all of it fits into the square, rounded to nearest */
    DC_CLIP_FIT_EXACT     /* to width x height, whatever its proportions */
} dc_clip_fit;

typedef struct dc_clip_preprocess {
    bool openclip; /* the family */
    int side;      /* of the square that comes out */
    dc_clip_fit fit;
    int size, width, height; /* of the fit */
    dc_filter filter;
    bool crop;           /* to side x side, around the middle; what is missing is `fill` */
    uint8_t fill[3];     /* by channel */
    float value[3][256]; /* what each grey level becomes: rescaled and normalised */
} dc_clip_preprocess;

/* root: preprocessor_config.json, or NULL: transformers' defaults, for a tower that sees `side` pixels. Errors: DATA. */
dc_status dc_clip_preprocess_read(dc_clip_preprocess *p, const json_t *root, int side, const char *path, dc_error *e);
/* root: open_clip_config.json (its preprocess_cfg), or NULL: open_clip's defaults, which are OpenAI's. Errors: DATA. */
dc_status dc_clip_preprocess_read_openclip(dc_clip_preprocess *p, const json_t *root, int side, const char *path, dc_error *e);

/* A picture with sides shorter than this has less to show than the square that comes out; a larger one may be decoded smaller, down to this: twice
 * what it is resized to (what Pillow's thumbnail() leaves by default); 0: the picture's own size counts. */
int dc_clip_preprocess_least(const dc_clip_preprocess *p);
/* out [3, side, side], planes R, G, B. in: 1, 3 or 4 channels. Thread-safe. Errors: NO_MEMORY. */
dc_status dc_clip_preprocess_run(const dc_clip_preprocess *p, const dc_image *in, float *out, dc_error *e);

#endif
