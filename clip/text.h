/* text.h - CLIP text towers: CLIP-L, OpenCLIP-H, OpenCLIP-bigG and whatever else config.json describes.
 * Ref: Radford et al. 2021, sec. 2.4; transformers CLIPTextModel, CLIPTextModelWithProjection. */
#ifndef DC_CLIP_TEXT_H
#define DC_CLIP_TEXT_H
#include "backends/ops.h"
#include "clip/encoder.h"

typedef struct dc_clip_text_config {
    int vocab_size, width, layers, heads, positions, inner; /* 49408, 768, 12, 12, 77, 3072 */
    int projection;                                         /* width of text_projection; 0: the model has none */
    bool must_project; /* CLIPTextModelWithProjection: the file must have text_projection; else it is taken when it is there */
    int eos_token_id;  /* 2 in old configs: then pooling is at the largest id */
    float norm_eps;
    dc_act act; /* hidden_act: quick_gelu or gelu */
} dc_clip_text_config;
/* root: config.json of a text encoder. Errors: DATA (what, where, found, expected). */
dc_status dc_clip_text_config_read(dc_clip_text_config *c, const json_t *root, const char *path, dc_error *e);

typedef struct dc_clip_text dc_clip_text;
/* Binds; w must outlive the model. */
dc_status dc_clip_text_open(dc_clip_text **out, const dc_clip_text_config *c, const dc_weights *w, dc_device *d, const dc_log *log, dc_error *e);
void dc_clip_text_close(dc_clip_text *m);
dc_params *dc_clip_text_params(dc_clip_text *m);
const dc_clip_text_config *dc_clip_text_configuration(const dc_clip_text *m);

/* ids [N,T] on the host, T <= positions.
 *   hidden  [N,T,width]  the state `skip` layers below the top (0: the top layer's output), without the final norm;
 *                        with `normed` the final layer norm is applied (what SD 1.x / 2.x condition on)
 *   pooled  [N,width]    final norm of the top layer at the end token; with a projection in the file, projected
 *                        [N,projection]. Only when `want_pooled`; else DC_NONE.
 * Taps (transformers' hidden_states): "hidden.K" (K = 0: embeddings), "last_hidden_state", "pooled". */
typedef struct dc_clip_text_out {
    dc_tensor hidden, pooled;
} dc_clip_text_out;
dc_clip_text_out dc_clip_text_forward(const dc_clip_text *m, dc_run *r, const int32_t *ids, int n, int t, int skip, bool normed, bool want_pooled);

#endif
