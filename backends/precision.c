/* precision.c - what all devices say alike: precisions by name, and how an op is done. */
#include "backends/backend.h"
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

static const char *const precisions[] = {"auto", "f32", "bf16", "f16", "int8"};

const char *dc_precision_name(dc_precision p) { return precisions[p]; }

dc_status dc_find_precision(const char *name, dc_precision *out, dc_error *e)
{
    *out = DC_PRECISION_AUTO;
    for (size_t i = 0; name && i < sizeof precisions / sizeof *precisions; i++)
        if (!strcmp(name, precisions[i])) {
            *out = (dc_precision)i;
            return DC_OK;
        }
    return name ? dc_fail(e, DC_USAGE, "precision: found %s, expected auto, f32, bf16, f16 or int8", name) : DC_OK;
}

dc_status dc_refuse_precision(const dc_device *d, const char *expected, dc_error *e)
{
    dc_status s =
        dc_fail(e, DC_UNAVAILABLE, "precision %s: not available on device %s, expected %s", precisions[d->precision], d->be->name, expected);
    dc_hint(e, "Weights stay in the file's type in memory in any case; precision is the type of the arithmetic.");
    return s;
}

void dc_choose(dc_choice *out, const char *algorithm, const char *reason, ...)
{
    va_list args;
    va_start(args, reason);
    vsnprintf(out->reason, sizeof out->reason, reason, args);
    va_end(args);
    snprintf(out->algorithm, sizeof out->algorithm, "%s", algorithm);
}
