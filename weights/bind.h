/* bind.h - from stored tensors to a model's layers, by tables. The only weights header that models include.
 *
 *     static const dc_bind resnet_binds[] = {
 *         {"norm1",         offsetof(resnet, norm1), "I",       0},
 *         {"conv1",         offsetof(resnet, conv1), "O I 3 3", 0},
 *         {"time_emb_proj", offsetof(resnet, time),  "O T",     0},
 *     };
 *     dc_bind_layers(b, r, resnet_binds, 3, (dc_dims){.I = 320, .O = 640, .T = 1280}, "down_blocks.%d.resnets.%d", i, j);
 *
 * NAME.weight and NAME.bias are implied. Problems are collected; dc_binder_finish makes one message of all of them. */
#ifndef DC_WEIGHTS_BIND_H
#define DC_WEIGHTS_BIND_H
#include "backends/ops.h"
#include "base/json.h"
#include "base/status.h"

typedef struct dc_weights dc_weights;
typedef struct dc_binder dc_binder;

/* Sizes by letter, used by the shape strings: "O I 3 3". */
typedef union dc_dims {
    struct {
        int A, B, C, D, E, F, G, H, I, J, K, L, M, N, O, P, Q, R, S, T, U, V, W, X, Y, Z;
    };
    int at[26];
} dc_dims;

enum {
    DC_BIND_NO_BIAS = 1,       /* only NAME.weight exists                                             */
    DC_BIND_BIAS_OPTIONAL = 2, /* taken when it is there                                              */
    DC_BIND_OPTIONAL = 4,      /* the whole layer may be missing: the field stays NULL                */
    DC_BIND_GEGLU = 8,         /* out = value rows, then gate rows                                    */
    DC_BIND_TABLE = 16,        /* rank 2 rows to gather, not a linear layer; a single row may have rank 1 */
    DC_BIND_BARE = 32,         /* the tensor is NAME itself, without .weight (and without a bias)     */
    DC_BIND_TRANSPOSED = 64,   /* a linear stored as [in,out]; the shape string still says "out in"   */
    DC_BIND_AS_LINEAR = 128,   /* shape "O I": a 1x1 convolution [O,I,1,1] is taken as well; shape "O I 1 1": [O,I] too */
    DC_BIND_INT8 = 256,        /* stands being rounded to 8 bits, weights and inputs, at precision int8 */
    DC_BIND_FLAT = 512         /* shape "O I 8 8": a convolution's weight as that of a linear layer of I * 64 inputs  */
};
typedef struct dc_bind {
    const char *name;  /* below the prefix. "to_q|to_k|to_v" stacks the rows of several tensors       */
    size_t offset;     /* of the `dc_param *` in the layer's struct                                   */
    const char *shape; /* of the weight, letters or numbers; rank 1 norm, 2 linear, 4 convolution.
                           For stacked names: of the whole; the parts must be equal                    */
    unsigned flags;
} dc_bind;

/* params receives the layers (and must not outlive w). what: "unet", for the message. */
dc_binder *dc_binder_new(const dc_weights *w, dc_params *params, const char *what);
void dc_bind_layers(dc_binder *b, void *layer, const dc_bind *rows, int n, dc_dims dims, const char *prefix_format, ...)
    __attribute__((format(printf, 6, 7)));
/* Is a tensor of this full name there? (for layers whose presence decides the architecture) */
bool dc_bind_has(const dc_binder *b, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Frees b. DATA when anything was missing or mis-shaped: one message with all of them (the first 20 named, the rest counted),
 * what the file looks like instead, and a hint. Unused tensors are noted to `log` (NULL: not). NO_MEMORY. */
dc_status dc_binder_finish(dc_binder *b, const dc_log *log, dc_error *e);

#endif
