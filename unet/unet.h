/* unet.h - UNet2DConditionModel as its config.json describes it. Ref: diffusers models/unets/unet_2d_condition.py. */
#ifndef DC_UNET_UNET_H
#define DC_UNET_UNET_H
#include "backends/ops.h"
#include "base/json.h"
#include "weights/bind.h"

#define DC_UNET_LEVELS 8  /* most resolutions                                    */
#define DC_UNET_LAYERS 16 /* most resnets in a block (up blocks have one more than down blocks) */

/* One block: resnets, each followed by a transformer if `attention` says so. */
typedef struct dc_unet_block {
    int resnets;               /* 0: there is no such block (the mid block of distilled models)       */
    bool attention;            /* down and up: a transformer after every resnet; mid: after the first */
    bool only_cross;           /* attn1 looks at the text as well (only_cross_attention)              */
    int heads;                 /* TRAP: head COUNT, diffusers calls it attention_head_dim             */
    int depth[DC_UNET_LAYERS]; /* layers of transformer j                                             */
} dc_unet_block;

typedef struct dc_unet_config {
    int in_channels, out_channels, levels;
    int width[DC_UNET_LEVELS]; /* block_out_channels, top level first                   */
    dc_unet_block down[DC_UNET_LEVELS], mid;
    dc_unet_block up[DC_UNET_LEVELS]; /* in up order: deepest level first                      */
    int context;                      /* cross_attention_dim                                   */
    bool linear_projection;           /* proj_in and proj_out are stored as linear layers      */
    int groups;
    float norm_eps;
    int conv_in_kernel, conv_out_kernel;
    int downsample_padding; /* 1; 0: one row and column, at the bottom and right     */
    bool flip_sin_to_cos;
    float freq_shift;
    int time_dim;                /* width of the time embedding                           */
    bool text_time;              /* SDXL: pooled text + size embedding                    */
    int add_time_dim, add_input; /* addition_time_embed_dim, projection_class_embeddings_input_dim */
    int time_cond;               /* time_cond_proj_dim (LCM guidance embedding); 0: none  */
    int sample_size;             /* latent size it was trained at                         */
} dc_unet_config;
/* Absent keys have diffusers' defaults. Errors: DATA. A block type, a value or an unknown key that would make it another
 * architecture is an error that names it; other unknown keys are ignored. */
dc_status dc_unet_config_read(dc_unet_config *c, const json_t *root, const char *path, dc_error *e);

typedef struct dc_unet dc_unet;
dc_status dc_unet_open(dc_unet **out, const dc_unet_config *c, const dc_weights *w, dc_device *d, const dc_log *log, dc_error *e);
void dc_unet_close(dc_unet *m);
dc_params *dc_unet_params(dc_unet *m);
const dc_unet_config *dc_unet_configuration(const dc_unet *m);

/* Keys and values of the text for every cross-attention, which are the same in every step: dc_unet_texts of them. Made from context
 * [N,T,context] and kept (dc_keep) in r, whose buffer they need as long as passes of other runs read them. */
int dc_unet_texts(const dc_unet *m);
void dc_unet_text_forward(const dc_unet *m, dc_run *r, dc_tensor context, dc_tensor *text);

/* N images come out. With guidance parts of them (negative, positive ones) have the same latents, which are then given once, and all that comes
 * before the first difference (time embedding with sizes, text) is computed once: the same bytes as if they were given for each. */
typedef struct dc_unet_in {
    int n;                       /* N: 0, as many as x has; or a multiple, k times as many              */
    dc_tensor x;                 /* [N,h,w,C] or [N/k,h,w,C] noisy latent                               */
    dc_tensor extra;             /* as x, in_channels-C: mask and masked latent of inpaint models; or DC_NONE */
    dc_tensor timestep;          /* [N] or [1] F32                                                      */
    dc_tensor context;           /* [N,T,context], or [1,T,context] for all; or                         */
    const dc_tensor *text;       /* what dc_unet_text_forward made of it                            */
    const dc_tensor *text_first; /* of the first images where their text has another length: `text` is of the others; or NULL */
    dc_tensor pooled;            /* [N,P] and                                                           */
    dc_tensor time_ids;          /* [N,6] (text_time): original h, w, crop top, left, target h, w       */
    dc_tensor guidance;          /* [N] or [1] F32, w of LCM's guidance embedding (time_cond); or DC_NONE */
} dc_unet_in;
/* -> [N,h,w,out_channels]. Taps are named as diffusers names its modules. */
dc_tensor dc_unet_forward(const dc_unet *m, dc_run *r, dc_unet_in in);

#endif
