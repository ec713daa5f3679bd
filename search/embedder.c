/* embedder.c - a CLIP model as an embedder: the public functions of both are one after the other. */
#include "include/diffc.h"

static diffc_status read_picture(void *self, diffc_image *out, const char *path, diffc_error *error)
{
    return diffc_clip_image_read(self, out, path, error);
}

static diffc_status preprocess(void *self, const diffc_image *image, float *out, diffc_error *error)
{
    return diffc_clip_preprocess(self, image, out, error);
}

static diffc_status embed_pixels(void *self, const float *pixels, int n, float *out, diffc_error *error)
{
    return diffc_clip_embed_pixels(self, pixels, n, out, error);
}

static diffc_status embed_texts(void *self, const char *const *texts, int n, const char *const *templates, int n_templates, float *out,
                                diffc_error *error)
{
    return diffc_clip_embed_prompts(self, texts, n, templates, n_templates, out, error);
}

diffc_embedder diffc_clip_embedder(diffc_clip *clip)
{
    const diffc_clip_info *i = diffc_clip_about(clip);
    return (diffc_embedder){.self = clip,
                            .model = i->id,
                            .dims = i->dims,
                            .pixels = i->pixels,
                            .read = read_picture,
                            .preprocess = preprocess,
                            .embed_pixels = embed_pixels,
                            .embed_texts = embed_texts};
}
