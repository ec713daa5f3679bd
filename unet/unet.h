/* unet.h - UNet2DConditionModel as its config.json describes it. Ref: diffusers models/unets/unet_2d_condition.py. */
#ifndef DC_UNET_UNET_H
#define DC_UNET_UNET_H
#include "backends/ops.h"
#include "base/json.h"
#include "weights/bind.h"

#define DC_UNET_LEVELS 8
#define DC_UNET_BLOCK_DEPTH 16 /* most layers in a block */

typedef struct dc_unet_config {
    int   in_channels, out_channels, levels;
    int   width[DC_UNET_LEVELS];                 /* block_out_channels, top level first                   */
    int   layers[DC_UNET_LEVELS];                /* resnets per down block; up blocks have one more       */
    int   down_depth[DC_UNET_LEVELS];            /* transformer blocks per attention; 0: no attention     */
    int   up_depth[DC_UNET_LEVELS];              /* in up order (deepest first)                           */
    int   mid_depth;                             /* 0: mid block without attention                        */
    bool  mid;                                   /* false: no mid block                                   */
    int   mid_resnets;                           /* 2, or 1 + attentions                                  */
    int   heads[DC_UNET_LEVELS];                 /* TRAP: head COUNT, diffusers calls it attention_head_dim */
    int   context;                               /* cross_attention_dim                                   */
    bool  linear_projection, only_cross_attention[DC_UNET_LEVELS], upcast_attention, mid_only_cross_attention;
    int   groups;
    float norm_eps;
    bool  flip_sin_to_cos;
    float freq_shift;
    bool  text_time;                             /* SDXL: pooled text + size embedding                    */
    int   add_time_dim, add_input;               /* addition_time_embed_dim, projection_class_embeddings_input_dim */
    int   time_cond;                             /* time_cond_proj_dim (LCM guidance embedding); 0: none  */
    int   sample_size;                           /* latent size it was trained at                         */
} dc_unet_config;
/* Errors: DATA. An unknown architecture key or block type is an error that names it; other unknown keys are ignored. */
dc_status dc_unet_config_read(dc_unet_config *c, const json_t *root, const char *path, dc_error *e);

typedef struct dc_unet dc_unet;
dc_status  dc_unet_open(dc_unet **out, const dc_unet_config *c, const dc_weights *w, dc_device *d, const dc_log *log, dc_error *e);
void       dc_unet_close(dc_unet *m);
dc_params *dc_unet_params(dc_unet *m);
const dc_unet_config *dc_unet_configuration(const dc_unet *m);

typedef struct dc_unet_in {
    dc_tensor x;            /* [N,h,w,C] noisy latent                                                      */
    dc_tensor extra;        /* [N,h,w,in_channels-C]: mask and masked latent of inpaint models; or DC_NONE */
    dc_tensor timestep;     /* [N] or [1] F32                                                              */
    dc_tensor context;      /* [N,T,context]                                                               */
    dc_tensor pooled;       /* [N,P] and                                                                   */
    dc_tensor time_ids;     /* [N,6] (text_time): original h, w, crop top, left, target h, w               */
    dc_tensor guidance;     /* [N] F32, w of LCM's guidance embedding (time_cond); or DC_NONE              */
} dc_unet_in;
/* -> [N,h,w,out_channels]. Taps are named as diffusers names its modules. */
dc_tensor dc_unet_forward(const dc_unet *m, dc_run *r, dc_unet_in in);

#endif
