/* container.c - what the readers of all formats do alike: order, names that are there twice, errors about a tensor. */
#include "weights/reader.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

dc_status dc_bad_tensor(dc_error *e, const char *path, const char *name, const char *format, ...)
{
    char what[400];
    va_list args;
    va_start(args, format);
    vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return dc_fail(e, DC_DATA, "%s: tensor %.200s%s: %s", path, name, strlen(name) > 200 ? "..." : "", what);
}

int dc_stored_by_name(const void *a, const void *b) { return strcmp(((const dc_stored *)a)->name, ((const dc_stored *)b)->name); }

static int by_key(const void *a, const void *b) { return strcmp(((const dc_pair *)a)->key, ((const dc_pair *)b)->key); }

dc_status dc_container_sort(dc_container *k, const char *metadata, dc_error *e)
{
    if (k->n_tensors > 1) qsort(k->tensor, (size_t)k->n_tensors, sizeof *k->tensor, dc_stored_by_name);
    for (int i = 1; i < k->n_tensors; i++)
        if (!dc_stored_by_name(&k->tensor[i - 1], &k->tensor[i]))
            return dc_bad_tensor(e, k->map.path, k->tensor[i].name, "name: found twice in the header, expected once");
    if (k->n_metadata > 1) qsort(k->metadata, (size_t)k->n_metadata, sizeof *k->metadata, by_key);
    for (int i = 1; i < k->n_metadata; i++)
        if (!by_key(&k->metadata[i - 1], &k->metadata[i]))
            return dc_fail(e, DC_DATA, "%s: %s: %.200s: found twice, expected once", k->map.path, metadata, k->metadata[i].key);
    return DC_OK;
}

void dc_container_close(dc_container *k)
{
    dc_map_close(&k->map);
    free(k->tensor);
    free(k->metadata);
    free(k->dims);
    free(k->header);
    free(k->copies);
    *k = (dc_container){.map.fd = -1};
}
