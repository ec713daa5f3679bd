/* vector.h - small things about vectors and errors that several files here need. Private to this folder. */
#ifndef DC_SEARCH_VECTOR_H
#define DC_SEARCH_VECTOR_H
#include "base/status.h"
#include "include/diffc.h"
#include <math.h>
#include <stdbool.h>

/* Makes v of length 1, in double; false when it is 0 or not finite. */
static inline bool dc_unit(float *v, int n)
{
    double sum = 0;
    for (int i = 0; i < n; i++) sum += (double)v[i] * v[i];
    if (!isfinite(sum) || sum <= 0) return false;
    const double by = 1 / sqrt(sum);
    for (int i = 0; i < n; i++) v[i] = (float)(v[i] * by);
    return isfinite(by);
}

/* An error of a public function, as one of ours. */
static inline dc_status dc_take_error(dc_error *e, const diffc_error *from)
{
    dc_status s = dc_fail(e, (dc_status)from->code, "%s", from->text);
    if (from->hint[0]) dc_hint(e, "%s", from->hint);
    return s;
}

#endif
