/* vae.c - opening an autoencoder, and its two ways in the units of the diffusion model. */
#include "vae/vae.h"
#include "base/checked.h"
#include "vae/layers.h"
#include <stdlib.h>

/* One direction with its own parameters: only what a stage needs is prepared. */
typedef struct half {
    dc_params *params;
    kl_half kl;
    tiny_half tiny;
} half;

struct dc_vae {
    dc_vae_config c;
    half decoder, encoder;
    dc_param *unshift;   /* latent / scaling + shift, where there is a shift */
    float *unshift_data; /* its numbers */
};

/* ---- open and close -------------------------------------------------------------------------------------------------- */

/* SD's VAEs have no shift: one lincomb does it. Others need z / scaling + shift: a diagonal layer. */
static bool add_unshift(dc_vae *m)
{
    int L = m->c.latent_channels;
    float *w = m->unshift_data = dc_calloc((size_t)L * (size_t)(L + 1), sizeof *w);
    if (!w) return false;
    for (int i = 0; i < L; i++) w[i * L + i] = (float)(1 / m->c.scaling_factor), w[L * L + i] = (float)m->c.shift_factor;
    m->unshift = dc_params_add(m->decoder.params, &(dc_param_desc){.name = "vae: shift_factor",
                                                                   .kind = DC_PARAM_LINEAR,
                                                                   .out = L,
                                                                   .in = L,
                                                                   .kh = 1,
                                                                   .kw = 1,
                                                                   .n_weight = 1,
                                                                   .n_bias = 1,
                                                                   .weight = {{w, DC_F32, L}},
                                                                   .bias = {{w + L * L, DC_F32, L}}});
    return m->unshift != NULL;
}

static dc_status open_half(half *h, const dc_vae_config *c, const dc_weights *w, bool encoder, dc_device *d, dc_error *e)
{
    const char *what = encoder ? "vae encoder" : "vae decoder";
    h->params = dc_params_new(d, what);
    if (h->params) dc_params_wide(h->params); /* SDXL's decoder overflows float16 */
    dc_binder *b = h->params ? dc_binder_new(w, h->params, what) : NULL;
    if (!b) return dc_fail_memory(e, what, 0);
    bool fine;
    if (c->tiny) fine = encoder ? tiny_bind_encoder(&h->tiny, b, h->params, c) : tiny_bind_decoder(&h->tiny, b, h->params, c);
    else fine = encoder ? kl_bind_encoder(&h->kl, b, c) : kl_bind_decoder(&h->kl, b, c);
    dc_status s = fine ? DC_OK : dc_fail_memory(e, what, 0);
    dc_status bound = dc_binder_finish(b, NULL, e); /* no log: the other half's tensors are not unused */
    return s ? s : bound;
}

dc_status dc_vae_open(dc_vae **out, const dc_vae_config *c, const dc_weights *w, bool encoder, dc_device *d, const dc_log *log, dc_error *e)
{
    (void)log;
    *out = NULL;
    dc_vae *m = calloc(1, sizeof *m);
    if (!m) return dc_fail_memory(e, "vae", sizeof *m);
    m->c = *c;
    dc_status s = open_half(&m->decoder, c, w, false, d, e);
    if (!s && encoder) s = open_half(&m->encoder, c, w, true, d, e);
    if (!s && c->shift_factor != 0 && !add_unshift(m)) s = dc_fail_memory(e, "vae", 0);
    if (!s) *out = m;
    else dc_vae_close(m);
    return s;
}

static void free_half(half *h)
{
    kl_free(&h->kl);
    tiny_free(&h->tiny);
    dc_params_free(h->params);
}

void dc_vae_close(dc_vae *m)
{
    if (!m) return;
    free_half(&m->decoder);
    free_half(&m->encoder);
    free(m->unshift_data);
    free(m);
}

dc_params *dc_vae_params(dc_vae *m) { return m->decoder.params; }
dc_params *dc_vae_encoder_params(dc_vae *m) { return m->encoder.params; }
const dc_vae_config *dc_vae_configuration(const dc_vae *m) { return &m->c; }

/* ---- the two ways --------------------------------------------------------------------------------------------------------- */

/* Half as high, down to what dc_norm_rows and Winograd's tiles allow; then, decoding, with less kept. Encoding gains next to nothing before that. */
bool dc_vae_next_strips(const dc_vae_config *c, int h, bool encode, dc_vae_strips *s)
{
    const int now = s->rows ? s->rows : h, least = dc_norm_rows(h) > 4 ? dc_norm_rows(h) : 4;
    const int next = ((now + 1) / 2 + least - 1) / least * least;
    if (c->tiny || h <= least || (next >= now && s->again)) return false;
    s->again = encode || next >= now;
    if (next < now) s->rows = next;
    return true;
}

dc_tensor dc_vae_decode(const dc_vae *m, dc_run *r, dc_tensor latent) { return dc_vae_decode_strips(m, r, latent, (dc_vae_strips){0}); }
dc_vae_moments dc_vae_encode(const dc_vae *m, dc_run *r, dc_tensor picture) { return dc_vae_encode_strips(m, r, picture, (dc_vae_strips){0}); }

dc_tensor dc_vae_decode_strips(const dc_vae *m, dc_run *r, dc_tensor latent, dc_vae_strips how)
{
    if (dc_tapping(r)) how.rows = 0;
    const dc_vae_config *c = &m->c;
    dc_tensor z = latent;
    if (m->unshift) z = dc_linear(r, z, m->unshift, (dc_linear_opt){0});
    else if (c->scaling_factor != 1) z = dc_lincomb(r, &(dc_term){(float)(1 / c->scaling_factor), z}, 1);
    dc_scope(r, "decoder");
    dc_tensor picture = c->tiny ? tiny_decode(&m->decoder.tiny, r, c, z) : kl_decode(&m->decoder.kl, r, c, z, how);
    dc_scope_end(r);
    return picture;
}

dc_vae_moments dc_vae_encode_strips(const dc_vae *m, dc_run *r, dc_tensor picture, dc_vae_strips how)
{
    if (dc_tapping(r)) how.rows = 0;
    const dc_vae_config *c = &m->c;
    dc_vae_moments out = {0};
    dc_scope(r, "encoder");
    if (c->tiny) {
        out.mean = tiny_encode(&m->encoder.tiny, r, c, picture);
        if (c->scaling_factor != 1) out.mean = dc_lincomb(r, &(dc_term){(float)c->scaling_factor, out.mean}, 1);
    } else {
        dc_tensor moments = kl_encode(&m->encoder.kl, r, c, picture, how);
        out.mean = dc_view_channels(moments, 0, c->latent_channels);
        out.logvar = dc_view_channels(moments, c->latent_channels, c->latent_channels);
    }
    dc_scope_end(r);
    return out;
}
