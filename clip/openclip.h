/* openclip.h - open_clip_config.json in the words of transformers' config.json. Ref: open_clip model.py CLIPVisionCfg, CLIPTextCfg and their
 * defaults, factory.py. */
#ifndef DC_CLIP_OPENCLIP_H
#define DC_CLIP_OPENCLIP_H
#include "base/json.h"

/* root: {"model_cfg": {embed_dim, quick_gelu, vision_cfg, text_cfg}, ..} or the model_cfg alone. *out: {"text_config": .., "vision_config": ..,
 * "projection_dim": ..}, of the caller. Errors: DATA (also for parts of open_clip that are not CLIP's: ResNets, timm's and Hugging Face's
 * towers, other poolings, changed blocks; each by name), NO_MEMORY. */
dc_status dc_openclip_config(json_t **out, const json_t *root, const char *path, dc_error *e);

#endif
