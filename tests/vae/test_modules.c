/* Whole autoencoders, both ways, against diffusers' (tests/golden/modules): with taps, and without (the fused form). */
#include "opened.h"

typedef struct fixture {
    opened o;
    const dc_stored *in; /* latent or picture */
    float *x, *out, *logvar;
} fixture;

static dc_tensor input(fixture *f, dc_run *r)
{
    return dc_upload(r, DC_F32, 4, (int64_t[4]){f->in->dim[0], f->in->dim[2], f->in->dim[3], f->in->dim[1]}, f->x);
}
static void decode_pass(void *ctx, dc_run *r) { dc_download(r, dc_vae_decode(((fixture *)ctx)->o.vae, r, input(ctx, r)), ((fixture *)ctx)->out); }
static void encode_pass(void *ctx, dc_run *r)
{
    fixture *f = ctx;
    dc_vae_moments m = dc_vae_encode(f->o.vae, r, input(f, r));
    dc_download(r, m.mean, f->out);
    dc_download(r, m.logvar, f->logvar);
}

/* One way: `in` and `out` are the golden's names; logvar NULL when there is none. */
static void check(fixture *f, bool encode, bool taps, const char *in, const char *out, const char *logvar, double narrow)
{
    dc_run *r = dc_run_new(f->o.device);
    f->in = golden_find(&f->o.g, in);
    f->x = to_nhwc(f->in->data, f->in->dim[0], f->in->dim[1], f->in->dim[2], f->in->dim[3], 0, f->in->dim[1]);
    f->out = malloc(golden_find(&f->o.g, out)->bytes);
    f->logvar = malloc(golden_find(&f->o.g, out)->bytes);
    f->o.g.compared = 0;
    snprintf(f->o.g.prefix, sizeof f->o.g.prefix, "%s.tap.", encode ? "encode" : "decode");
    if (taps) dc_run_set_tap(r, golden_tap, &f->o.g);
    run_once(r, encode ? encode_pass : decode_pass, f);
    if (taps) assert_int_equal(f->o.g.compared, golden_count(&f->o.g)); /* every golden module was seen */
    compare_out(&f->o, out, f->out, narrow);
    if (logvar) compare_out(&f->o, logvar, f->logvar, 0);
    free(f->x), free(f->out), free(f->logvar);
    dc_run_free(r);
}

static void kl(const char *way, bool taps, double narrow)
{
    fixture f = {0};
    open_golden(&f.o, "sd1", "vae.safetensors", "vae");
    open_vae(&f.o, way, TEST_DATA "/golden/models/sd1/vae/config.json", TEST_DATA "/golden/models/sd1/vae", true);
    check(&f, false, taps, "decode.in.scaled_latent", "decode.out", NULL, narrow);
    check(&f, true, taps, "encode.in.image", "encode.mean", narrow > 0 ? NULL : "encode.logvar", narrow);
    close_opened(&f.o);
}

static void tiny(const char *way)
{
    fixture f = {0};
    open_golden(&f.o, "taesd", "taesd.safetensors", "taesd");
    open_vae(&f.o, way, TEST_DATA "/golden/models/taesd/config.json", TEST_DATA "/golden/models/taesd", true);
    check(&f, false, false, "decode.in.latent", "decode.out", NULL, 0);
    check(&f, true, false, "encode.in.image", "encode.out", NULL, 0);
    close_opened(&f.o);
}

static void kl_modules(void **state) { kl(way_of(state), true, 0); }
static void kl_fused(void **state) { kl(way_of(state), false, 0); }
static void kl_narrow(void **state) { kl(way_of(state), false, 1.25); } /* 0.41 measured for decoding */
static void taesd(void **state) { tiny(way_of(state)); }

int main(void)
{
    const struct CMUnitTest tests[] = {ON_EVERY_LEVEL(kl_modules), ON_EVERY_LEVEL(kl_fused), ON_EVERY_LEVEL(taesd), ON_NARROW(kl_narrow)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
