/* vision.h - CLIP's picture towers (ViT): B/32, B/16, L/14, H/14, bigG and whatever else config.json describes.
 * Ref: Dosovitskiy et al. 2020; Radford et al. 2021; transformers CLIPVisionModelWithProjection, open_clip VisionTransformer. */
#ifndef DC_CLIP_VISION_H
#define DC_CLIP_VISION_H
#include "clip/encoder.h"

#define DC_CLIP_MOST_IMAGES 64 /* of one pass */

typedef struct dc_clip_vision_config {
    dc_clip_block block;
    int image, patch;  /* sides of the square picture and of its patches, in pixels: 224, 32 */
    int projection;    /* width of visual_projection; 0: the model has none */
    bool must_project; /* the file must have visual_projection; else it is taken when it is there */
    bool pre_norm;     /* the norm before the layers; open_clip's no_ln_pre has none */
} dc_clip_vision_config;
/* root: config.json of a CLIPModel or of a picture tower. Errors: DATA. */
dc_status dc_clip_vision_config_read(dc_clip_vision_config *c, const json_t *root, const char *path, dc_error *e);

typedef struct dc_clip_vision dc_clip_vision;
/* Binds; w must outlive the model. */
dc_status dc_clip_vision_open(dc_clip_vision **out, const dc_clip_vision_config *c, const dc_weights *w, dc_device *d, const dc_log *log,
                              dc_error *e);
void dc_clip_vision_close(dc_clip_vision *m);
dc_params *dc_clip_vision_params(dc_clip_vision *m);
const dc_clip_vision_config *dc_clip_vision_configuration(const dc_clip_vision *m);

/* The convolution that makes tokens of a picture has strides as long as its kernel: it is a linear layer of each patch. Tokens of a picture:
 * one for the class, whose patch is zeros, then (image / patch)^2; what is left at the right and below is not seen. */
int dc_clip_vision_tokens(const dc_clip_vision_config *c);
size_t dc_clip_vision_patch_values(const dc_clip_vision_config *c); /* floats of a picture's patches: tokens * 3 * patch * patch */
/* planes [3,image,image] of one picture -> its patches [tokens, 3*patch*patch]. */
void dc_clip_vision_patches(const dc_clip_vision_config *c, const float *planes, float *patches);

/* patches [N,tokens,3*patch*patch] on the host -> [N,projection], or without one [N,width].
 * Taps (transformers' hidden_states): "hidden.K" (K = 0: after the first norm), "pooled" (after the last one), "embeds". */
dc_tensor dc_clip_vision_forward(const dc_clip_vision *m, dc_run *r, const float *patches, int n);

#endif
