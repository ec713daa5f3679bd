/* tile.h - decoding and encoding in overlapping tiles: memory for one tile in place of the whole picture. Lossy: a tile's
 * group norms and attention see that tile only, so colours may differ a little from tile to tile; the overlaps are blended.
 * Tiles are as large as the pictures the VAE was trained at (sample_size) and overlap by a quarter.
 * Ref: diffusers AutoencoderKL.tiled_decode, _tiled_encode. (AutoencoderTiny is tiled in the same way, in tiles of 512.)
 *
 *     dc_run *r = dc_run_new(device);
 *     dc_vae_tiled_plan(vae, r, false, h, w, &e);            // dc_run_bytes(r): what it will take
 *     dc_vae_tiled_decode(vae, r, latent, h, w, picture, &e);
 *     dc_run_free(r); */
#ifndef DC_VAE_TILE_H
#define DC_VAE_TILE_H
#include "vae/vae.h"

/* Sizes are in latents throughout: h x w of the whole picture. */

/* Is the picture larger than one tile? If not, the functions below give what dc_vae_decode and dc_vae_encode give. */
bool dc_vae_is_tiled(const dc_vae_config *c, int h, int w);
/* Plans r for the largest tile. Errors: as dc_run_plan. */
dc_status dc_vae_tiled_plan(const dc_vae *m, dc_run *r, bool encode, int h, int w, dc_error *e);

/* One picture. r is planned and reserved again whenever the size of a tile changes (at the right and lower edge), and
 * released at the end; its taps, profile and cancel flag apply to each tile. The parameters must be prepared.
 * Buffers belong to the caller: latent [h,w,L] in model units, picture [h*f,w*f,3], mean and logvar [h,w,L] as dc_vae_encode
 * gives them (logvar is not touched for AutoencoderTiny). Errors: as dc_run_pass; NO_MEMORY. */
dc_status dc_vae_tiled_decode(const dc_vae *m, dc_run *r, const float *latent, int h, int w, float *picture, dc_error *e);
dc_status dc_vae_tiled_encode(const dc_vae *m, dc_run *r, const float *picture, int h, int w, float *mean, float *logvar, dc_error *e);

#endif
