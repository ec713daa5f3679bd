/* selftest.h - the parts of the self-test; tests hand them devices that are wrong. */
#ifndef DC_PIPELINE_SELFTEST_H
#define DC_PIPELINE_SELFTEST_H
#include "backends/cases.h"
#include "pipeline/model.h"

/* An op of d beside the same on `beside`; counts in *t. Errors: CANCELLED, and what the op gives. */
dc_status selftest_op(diffc_selftest *t, dc_case_kind kind, dc_device *d, dc_device *beside, dc_error *e);

/* The device under test and the one beside it, each with the model. */
typedef struct selftest_pair {
    diffc_selftest *t;
    diffc_model *m, *beside;
    diffc_clip *clip, *clip_beside; /* NULL: not checked */
    int side;                       /* of the model's own pictures */
} selftest_pair;
/* The parts of the model, and a picture. */
dc_status selftest_parts(const selftest_pair *x, dc_error *e);

#endif
