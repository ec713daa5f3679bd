/* selftest.h - the self-test's two halves; tests hand them devices that are wrong. */
#ifndef DC_PIPELINE_SELFTEST_H
#define DC_PIPELINE_SELFTEST_H
#include "pipeline/model.h"

/* Every op of d beside the same on `beside`; counts what failed in *t. Errors: CANCELLED, and what an op gives. */
dc_status selftest_ops(diffc_selftest *t, dc_device *d, dc_device *beside, dc_error *e);
/* The parts of o's model, its encoder of pictures (of the default one), and a picture. */
dc_status selftest_model(diffc_selftest *t, const diffc_options *o, dc_error *e);

#endif
