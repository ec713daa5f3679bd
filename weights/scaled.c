/* scaled.c - fp8 weights that have a factor each, in a tensor of its own, as ComfyUI's files do: X.weight is to be multiplied by
 * X.scale_weight (files marked scaled_fp8) or X.weight_scale (newer ones). Factors of activations (scale_input) are about fp8 arithmetic,
 * which we do not do. */
#include "backends/ops.h"
#include "base/text.h"
#include "weights/reader.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *const kinds[] = {"scale_weight", "weight_scale"};

static dc_status take(dc_stored *t, const dc_stored *factor, dc_error *e)
{
    uint64_t n = 1;
    for (int i = 0; i < factor->rank; i++) n *= (uint64_t)factor->dim[i];
    if (n != 1 || (factor->dtype != DC_F32 && factor->dtype != DC_F16 && factor->dtype != DC_BF16))
        return dc_fail(e, DC_DATA, "%s: tensor %s: found %llu values of %s, expected one real number, the factor of %s", factor->file, factor->name,
                       (unsigned long long)n, dc_dtype_name(factor->dtype), t->name);
    dc_source_floats(&(dc_source){.data = factor->data, .dtype = factor->dtype, .rows = 1}, 0, 1, &t->scale);
    if (isfinite(t->scale) && t->scale != 0) return DC_OK;
    return dc_fail(e, DC_DATA, "%s: tensor %s: found %g, expected a finite factor of %s other than 0", factor->file, factor->name, (double)t->scale,
                   t->name);
}

dc_status dc_take_scales(dc_stored *tensor, int n, dc_error *e)
{
    dc_status s = DC_OK;
    for (int i = 0; !s && i < n; i++) {
        dc_stored *t = &tensor[i];
        if ((t->dtype != DC_F8_E4M3 && t->dtype != DC_F8_E5M2) || !dc_ends_with(t->name, ".weight")) continue;
        for (size_t k = 0; !s && !t->scale && k < sizeof kinds / sizeof *kinds; k++) {
            size_t stem = strlen(t->name) - strlen("weight");
            char *name = dc_format("%.*s%s", (int)stem, t->name, kinds[k]);
            if (!name) return dc_fail_memory(e, t->name, stem);
            const dc_stored *factor = bsearch(&(dc_stored){.name = name}, tensor, (size_t)n, sizeof *tensor, dc_stored_by_name);
            if (factor) s = take(t, factor, e);
            free(name);
        }
    }
    return s;
}

bool dc_is_scale(const char *name)
{
    static const char *const others[] = {"scale_input", "input_scale", "scaled_fp8"};
    for (size_t k = 0; k < sizeof kinds / sizeof *kinds; k++)
        if (dc_ends_with(name, kinds[k])) return true;
    for (size_t k = 0; k < sizeof others / sizeof *others; k++)
        if (dc_ends_with(name, others[k])) return true;
    return false;
}
