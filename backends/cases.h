/* cases.h - random cases of every op: what a device gives for them, how far that is from what another gives, and how far it may be. The
 * self-test and the tests of devices go through them.
 *
 *     dc_case c;
 *     dc_case_draw(&c, kind, &rng, DC_CASE_PRODUCTS);
 *     if (!dc_case_make(&c, &e)) dc_case_run(device, &c, found, NULL, NULL, &e);   // and so on the reference device
 *     if (!(dc_case_error(&c, found, expected) <= dc_case_bound(&c, device))) ...
 *     dc_case_free(&c); */
#ifndef DC_BACKENDS_CASES_H
#define DC_BACKENDS_CASES_H
#include "backends/ops.h"

typedef enum dc_case_kind {
    DC_CASE_CONV,
    DC_CASE_STRIPS, /* group_sums, group_scale and conv2d over the strips of a picture */
    DC_CASE_LINEAR,
    DC_CASE_GEGLU, /* linear */
    DC_CASE_ATTENTION,
    DC_CASE_GROUP_NORM,
    DC_CASE_LAYER_NORM,
    DC_CASE_EMBED,
    DC_CASE_GATHER,
    DC_CASE_TIMESTEP,
    DC_CASE_LINCOMB, /* and lincomb_into */
    DC_CASE_ACTIVATE,
    DC_CASE_RESCALE,
    DC_CASE_STATS,
    DC_CASE_RGB8,
    DC_CASE_KINDS
} dc_case_kind;
const char *dc_case_name(dc_case_kind kind); /* "conv2d" */

/* Inputs are [n,h,w,c], drawn from the seed; what an op has not is 0. */
typedef struct dc_case {
    dc_case_kind kind;
    int64_t n, h, w, c, c2, o; /* c2: channels that are joined to c; o: that come out; embed: rows of the table */
    int kh, kw, stride, pad[4], up_h, up_w, groups, heads, head, keys, strip, parts, terms;
    int slice; /* the input is the last c of slice + c channels */
    int made;  /* by bits, place in `in`: inputs that a linear layer makes on the device, which so have the type of its activations */
    bool wide; /* dc_params_wide */
    bool norm, residual, add, bias, causal, tokens, shared, transposed, int8, into, flip, bad; /* bad: some numbers are not finite */
    dc_act act, pre_act;
    dc_dtype type; /* of weights */
    uint64_t seed;
    float *in[4]; /* x, x2, add, residual; q, k, v; terms in one */
    int32_t *ids;
    uint8_t *source[4]; /* weight, bias, scale, shift */
    float *maker;       /* weights of what makes inputs, [4][dc_case_widest][DC_CASE_MADE_OF] */
} dc_case;
/* Most channels of an input. */
static inline int64_t dc_case_widest(const dc_case *c) { return (c->o > c->c + c->c2 ? c->o : c->c + c->c2) + c->slice; }

#define DC_CASE_MADE_OF 4 /* numbers that a pixel of such an input is made of */

/* Most products of a case of random shape: the reference device needs some tenths of a second for them. */
#define DC_CASE_PRODUCTS 40000000
void dc_case_draw(dc_case *c, dc_case_kind kind, uint64_t *rng, int64_t most_products);
/* Sizes of Stable Diffusion's layers, as far as the reference device has an end with them. The i-th of a kind; false: there are no more. */
bool dc_case_known(dc_case *c, dc_case_kind kind, int i);
void dc_case_describe(const dc_case *c, char *out, size_t size); /* one line */
int64_t dc_case_count(const dc_case *c);                         /* numbers that come out, as floats */

/* Inputs and weights. Errors: NO_MEMORY. dc_case_free is fine after them. */
dc_status dc_case_make(dc_case *c, dc_error *e);
void dc_case_free(dc_case *c);
/* What d gives, into out, and, when it is asked the same once more, into again (NULL: it is not). before(run) is called before the pass is planned
 * (NULL: nothing is). Errors: as dc_run_pass. */
dc_status dc_case_run(dc_device *d, const dc_case *c, float *out, float *again, void (*before)(dc_run *r), dc_error *e);

/* The relative error over all numbers, or, if that is more, a sixteenth of the largest of a single one: beside the root mean square and itself. NaN in
 * place of a number, or a number in place of NaN, gives infinity. */
double dc_case_error(const dc_case *c, const float *found, const float *expected);
/* The same of any n numbers of which at least `size` is expected. */
double dc_relative_error(const float *found, const float *expected, int64_t n, double size);
/* The most that d may be off by its precision. Where the bounds come from: docs/selftest.md. */
double dc_case_bound(const dc_case *c, const dc_device *d);
/* Of an op in whose sums k products meet. */
double dc_error_bound(const dc_device *d, double k, bool winograd);

#endif
