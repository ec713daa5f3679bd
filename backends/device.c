/* device.c - the devices there are, and opening one by name. */
#include "backends/backend.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const dc_backend *const backends[] = {&dc_backend_cpu, &dc_backend_ref};

/* ---- precision -------------------------------------------------------------------------------------------------- */

static const char *const precisions[] = {"auto", "f32", "bf16", "f16", "int8"};

const char *dc_precision_name(dc_precision p) { return precisions[p]; }

static dc_status find_precision(const char *name, dc_precision *out, dc_error *e)
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

/* ---- devices ---------------------------------------------------------------------------------------------------- */

dc_status dc_device_open(dc_device **out, const dc_device_options *o, dc_error *e)
{
    const char *name = o->name ? o->name : "auto";
    *out = NULL;
    if (!strcmp(name, "cuda")) {
        dc_status s = dc_fail(e, DC_UNAVAILABLE, "device cuda: not part of this build, expected auto or cpu");
        return s;
    }
    if (!strcmp(name, "auto")) name = "cpu";
    const dc_backend *be = NULL;
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(backends[i]->name, name)) be = backends[i];
    if (!be) return dc_fail(e, DC_USAGE, "device: found %s, expected auto, cpu or cuda", name);
    dc_precision precision;
    dc_status s = find_precision(o->precision, &precision, e);
    if (s) return s;
    dc_device *d = calloc(1, sizeof *d);
    if (!d) return dc_fail_memory(e, "a device", sizeof *d);
    *d = (dc_device){.be = be, .precision = precision, .exact = o->exact, .cancel = o->cancel, .log = o->log};
    s = be->open(d, o, e);
    if (s) free(d);
    else *out = d;
    return s;
}

void dc_device_close(dc_device *d)
{
    if (!d) return;
    d->be->close(d);
    free(d);
}

const char *dc_device_name(const dc_device *d) { return d->be->name; }
const char *dc_device_summary(const dc_device *d) { return d->summary; }
const char *dc_device_precision(const dc_device *d) { return precisions[d->precision]; }

dc_status dc_dots(dc_device *d, const dc_dots_args *a, dc_error *e)
{
    if (a->width < 1 || a->width > DC_DOTS_WIDTH || a->width % 32)
        return dc_fail(e, DC_INTERNAL, "rows: found %d numbers in one, expected a multiple of 32 up to %d", a->width, DC_DOTS_WIDTH);
    dc_status s = a->n < 1 || a->queries < 1 ? DC_OK : d->be->dots(d, a);
    if (s == DC_NO_MEMORY) return dc_fail_memory(e, "queries beside rows", (unsigned long long)a->width * sizeof(float));
    return s ? dc_fail(e, s, "stopped") : DC_OK;
}

void dc_choose(dc_choice *out, const char *algorithm, const char *reason, ...)
{
    va_list args;
    va_start(args, reason);
    vsnprintf(out->reason, sizeof out->reason, reason, args);
    va_end(args);
    snprintf(out->algorithm, sizeof out->algorithm, "%s", algorithm);
}
