/* inspect.h - what a file or folder is, for people and scripts, without touching tensor data. */
#ifndef DC_WEIGHTS_INSPECT_H
#define DC_WEIGHTS_INSPECT_H
#include "base/json.h"
#include "base/status.h"

/* Describes a weights file (safetensors, GGUF), an index of shards (.json), a diffusers model or one of its component folders, or a
 * .npy. *out (json_decref it) always has
 *     path, kind: "safetensors", "gguf", "safetensors index", "diffusers model", "component" or "npy"
 * and by kind:
 *     safetensors, gguf, index: WEIGHTS, tensor_list: [{name, dtype, shape}] in name order
 *     component: class or architectures, what of its config tells its size and use, and, when it has weights, file, WEIGHTS
 *     diffusers model: class, prediction ("epsilon" when the scheduler does not say), components: {name: as a component, or
 *         missing: why its folder or weights cannot be read}
 *     npy: dtype ("f4", ..), shape
 * where WEIGHTS is
 *     role ("a UNet", .., "unknown"), bytes (of all tensors), tensors (how many), parameters (numbers in them),
 *     dtypes {name: tensors of it}, metadata {..}, and for shards: files [name, ..]
 * Errors: NO_INPUT (no such path, an empty folder), DATA (damaged: the same checks as loading), DENIED, NO_MEMORY. */
dc_status dc_inspect(json_t **out, const char *path, dc_error *e);

#endif
