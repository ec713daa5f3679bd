/* result.c - copies of finished pictures, and files. */
#include "apps/cli/result.h"
#include "apps/cli/names.h"
#include <stdlib.h>
#include <string.h>

static void *copy(const void *bytes, size_t n)
{
    void *p = malloc(n ? n : 1);
    return p ? memcpy(p, bytes, n) : NULL;
}

bool result_keep(kept_result *k, const diffc_result *r, bool latent)
{
    const diffc_image *m = r->image;
    *k = (kept_result){.result = *r, .image = *m};
    k->image.pixels = copy(m->pixels, (size_t)m->width * (size_t)m->height * (size_t)m->channels);
    k->result.image = NULL;
    k->result.prompt = copy(r->prompt, strlen(r->prompt) + 1);
    k->result.parameters = copy(r->parameters, strlen(r->parameters) + 1);
    k->result.latent =
        latent ? copy(r->latent, sizeof(float) * (size_t)r->latent_dim[0] * (size_t)r->latent_dim[1] * (size_t)r->latent_dim[2]) : NULL;
    if (k->image.pixels && k->result.prompt && k->result.parameters && (!latent || k->result.latent)) return true;
    result_free(k);
    return false;
}

void result_free(kept_result *k)
{
    free(k->image.pixels);
    free((char *)k->result.prompt);
    free((char *)k->result.parameters);
    free((float *)k->result.latent);
    *k = (kept_result){0};
}

diffc_status result_write(const diffc_result *r, const char *pattern, long *next, const diffc_image_style *style, char **path, diffc_error *error)
{
    for (;;) {
        bool exists = false;
        *path = name_make(pattern, next ? *next : -1, r);
        if (!*path) return DIFFC_NO_MEMORY;
        diffc_error inner = {0};
        diffc_status s = diffc_image_write(*path, r->image, r->parameters, style, next != NULL, &exists, &inner);
        if (next) ++*next;
        if (s == DIFFC_OK || !next || !exists) {
            if (s) *error = inner;
            return s;
        }
        free(*path);
    }
}
