/* parts.h - the parts of a Stable Diffusion or CLIP model in one file: found by their names, given the names of diffusers and transformers,
 * and described by the configuration that those would have for them.
 *
 *     dc_weights_open(&file, "model.safetensors", e);
 *     dc_weights_part(&unet, file, DC_PART_UNET, e);      // NULL: there is none in it
 *     dc_part_config(&config, unet, DC_PART_UNET, NULL, e);     // config.json as diffusers would have written it
 */
#ifndef DC_WEIGHTS_PARTS_H
#define DC_WEIGHTS_PARTS_H
#include "base/json.h"
#include "weights/weights.h"

/* In the order of a Stable Diffusion model's folders, which has DC_PARTS of them. Behind those: what only CLIP models have, the encoder of
 * pictures. */
typedef enum dc_part { DC_PART_TEXT, DC_PART_TEXT_2, DC_PART_UNET, DC_PART_VAE, DC_PARTS, DC_PART_VISION = DC_PARTS } dc_part;
const char *dc_part_folder(dc_part p); /* "text_encoder", "text_encoder_2", "unet", "vae": their folder in a diffusers model */

/* The tensors of one part under the names of diffusers and transformers, whatever dialect the file speaks (CompVis, open_clip,
 * ComfyUI's prefixes, or diffusers' own); tensors of no part (averages, schedules, counters) are left out. *out is a view: w must
 * outlive it. NULL: the file has no such part. Errors: DATA (two tensors of one name, a fused tensor that cannot be split), NO_MEMORY. */
dc_status dc_weights_part(dc_weights **out, const dc_weights *w, dc_part p, dc_error *e);

/* The same tensors under the names that the file itself has for them. */
dc_status dc_weights_part_as_is(dc_weights **out, const dc_weights *w, dc_part p, dc_error *e);

bool dc_weights_has_part(const dc_weights *w, dc_part p);
/* used[i], i of dc_weights_count(w): does tensor i belong to one of the parts? */
void dc_weights_mark_parts(const dc_weights *w, bool *used);

/* The configuration of a part (a view of dc_weights_part), from the shapes of its tensors and the habits of the published models:
 * what shapes cannot tell (heads, activation, sizes pictures were trained at) is as in Stable Diffusion 1.x, 2.x or XL, whichever
 * it resembles. unet: the UNet's configuration (NULL: not known), by which a VAE's scaling factor is told.
 * The caller json_decrefs *out. Errors: DATA (a tensor that is needed to tell is missing), NO_MEMORY. */
dc_status dc_part_config(json_t **out, const dc_weights *part, dc_part p, const json_t *unet, dc_error *e);

/* What a file says of the prediction, besides its shapes. */
typedef struct dc_prediction_marks {
    bool v, epsilon;  /* by a key (v_pred), metadata (modelspec.prediction_type), or what is known of the kind; neither: not told */
    bool zero_snr;    /* ztsnr: the schedule ends at pure noise */
    const char *from; /* what told, for messages */
} dc_prediction_marks;
/* scheduler_config.json for a file: w the whole, unet_config of its UNet. marks (may be NULL) is what was found. */
dc_status dc_scheduler_config(json_t **out, dc_prediction_marks *marks, const dc_weights *w, const json_t *unet_config, dc_error *e);

#endif
