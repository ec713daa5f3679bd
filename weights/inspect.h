/* inspect.h - what a file or folder is, for people and scripts, without touching tensor data. */
#ifndef DC_WEIGHTS_INSPECT_H
#define DC_WEIGHTS_INSPECT_H
#include "base/json.h"
#include "base/status.h"

/* hashes: also sha256 and autov2 of each file (all of it is read then, unless it is remembered: hash.h).
 * Describes a weights file (safetensors, torch, GGUF: told by its first bytes), an index of shards (.json), a diffusers model or one of its
 * component folders, or a .npy. *out (json_decref it) always has
 *     path, kind: "safetensors", "torch" or "gguf", each with " index" behind it for shards, "diffusers model", "component" or "npy"
 * and by kind:
 *     safetensors, torch, gguf, index: WEIGHTS, model (when it holds parts of one), tensor_list: [{name, dtype, shape}] in name order
 *     component: class or architectures, what of its config tells its size and use, and, when it has weights, file, WEIGHTS
 *     diffusers model: class, prediction ("epsilon" when the scheduler does not say), components: {name: as a component, or
 *         missing: why its folder or weights cannot be read}
 *     npy: dtype ("f4", ..), shape
 * where WEIGHTS is
 *     role ("a UNet", .., "unknown"), bytes (of all tensors), tensors (how many), parameters (numbers in them),
 *     dtypes {name: tensors of it}, metadata {..}, and for shards: files [name, ..]
 * and model is
 *     architecture, prediction ("epsilon", "v", ..), prediction_from, zero_terminal_snr (with a UNet), parts {folder: {what of its
 *     configuration tells its size and use, tensors, parameters}}, missing [folder, ..], unused {tensors, names: the first 20}
 * Errors: NO_INPUT (no such path, an empty folder), DATA (damaged: the same checks as loading), DENIED, NO_MEMORY. */
dc_status dc_inspect(json_t **out, const char *path, bool hashes, dc_error *e);

#endif
