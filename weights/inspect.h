/* inspect.h - what a file or folder is, for people and scripts, without touching tensor data. */
#ifndef DC_WEIGHTS_INSPECT_H
#define DC_WEIGHTS_INSPECT_H
#include "base/json.h"
#include "base/status.h"

/* Keys of *out (json_decref it):
 *   path, kind ("safetensors", "safetensors index", "diffusers model", "component", "npy")
 *   files: role ("a UNet", ..), bytes, tensors (count), parameters, dtypes {name: count}, metadata {..},
 *          tensor_list [{name, dtype, shape}]
 *   folders: class, prediction, components {name: {class, files.. as above without tensor_list, or missing: true}}
 *   .npy: dtype, shape
 * Errors: NO_INPUT, DATA. */
dc_status dc_inspect(json_t **out, const char *path, dc_error *e);

#endif
