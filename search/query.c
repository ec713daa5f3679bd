/* query.c - terms of a query, and their sum. */
#include "search/query.h"
#include "base/checked.h"
#include "base/file.h"
#include "base/text.h"
#include "search/vector.h"
#include "search/walk.h"
#include <stdlib.h>
#include <string.h>

/* ---- grammar ------------------------------------------------------------------------------------------------------- */

/* The length of a weight with its colon, "2:", "0.5:" or ".5:"; 0: none. As rclip reads it: "16:9" is 16 times "9". */
static size_t weight_length(const char *word)
{
    size_t whole = strspn(word, "0123456789"), n = whole;
    if (word[n] == '.') {
        size_t part = strspn(word + n + 1, "0123456789");
        if (!part) return 0;
        n += 1 + part;
    }
    return n && word[n] == ':' ? n + 1 : 0;
}

static bool begins(const char *s, const char *with) { return !strncmp(s, with, strlen(with)); }

dc_status dc_term_parse(const char *word, dc_term_of_query *out, dc_error *e)
{
    size_t n = weight_length(word);
    *out = (dc_term_of_query){.weight = n ? strtod(word, NULL) : 1, .text = word + n};
    if (!isfinite(out->weight) || out->weight > 1e6) return dc_fail(e, DC_USAGE, "query: weight: found %.40s, expected at most 1000000", word);
    if (out->text[0] == '@') {
        out->image = true;
        out->text++;
        if (!*out->text) return dc_fail(e, DC_USAGE, "query: found nothing behind @, expected a picture's path or @-");
    } else {
        out->image =
            begins(out->text, "/") || begins(out->text, "./") || begins(out->text, "../") || (dc_is_picture_name(out->text) && dc_is_file(out->text));
    }
    return *out->text ? DC_OK : dc_fail(e, DC_USAGE, "query: found an empty term, expected a text or a picture");
}

const char *diffc_term_picture(const char *term)
{
    dc_term_of_query t;
    return dc_term_parse(term, &t, NULL) || !t.image ? NULL : t.text;
}

/* ---- vectors ---------------------------------------------------------------------------------------------------------- */

static dc_status embed_image(const diffc_embedder *m, const char *path, float *out, dc_error *e)
{
    diffc_image image = {0};
    diffc_error why = {0};
    float *pixels = dc_calloc(m->pixels, sizeof *pixels);
    if (!pixels) return dc_fail_memory(e, "a prepared picture", m->pixels * sizeof *pixels);
    diffc_status s = m->read(m->self, &image, path, &why);
    if (!s) s = m->preprocess(m->self, &image, pixels, &why);
    if (!s) s = m->embed_pixels(m->self, pixels, 1, out, &why);
    diffc_image_free(&image);
    free(pixels);
    return s ? dc_take_error(e, &why) : DC_OK;
}

/* sum += sign * weight * unit vector of the term */
static dc_status add_term(const diffc_query *q, const diffc_embedder *m, const char *word, double sign, float *vector, double *sum, dc_error *e)
{
    dc_term_of_query t;
    diffc_error why = {0};
    dc_status s = dc_term_parse(word, &t, e);
    if (s) return s;
    if (t.image) s = embed_image(m, t.text, vector, e);
    else if (m->embed_texts(m->self, &t.text, 1, q->templates, q->n_templates, vector, &why)) s = dc_take_error(e, &why);
    if (s) return s;
    if (!dc_unit(vector, m->dims)) return dc_fail(e, DC_DATA, "query: %s: vector: found numbers that are not finite, or all 0", word);
    for (int i = 0; i < m->dims; i++) sum[i] += sign * t.weight * vector[i];
    return DC_OK;
}

dc_status dc_query_vector(const diffc_query *q, const diffc_embedder *m, float *out, dc_error *e)
{
    if (q->n_add + q->n_subtract < 1) return dc_fail(e, DC_USAGE, "query: found none, expected a text or a picture");
    for (int i = 0; i < q->n_templates; i++)
        if (!strstr(q->templates[i], "{}")) return dc_fail(e, DC_USAGE, "template: found \"%s\", expected a text with {} in it", q->templates[i]);
    double *sum = dc_calloc((size_t)m->dims, sizeof *sum), length = 0;
    dc_status s = sum ? DC_OK : dc_fail_memory(e, "a query", (unsigned)m->dims * sizeof *sum);
    for (int i = 0; i < q->n_add && !s; i++) s = add_term(q, m, q->add[i], 1, out, sum, e);
    for (int i = 0; i < q->n_subtract && !s; i++) s = add_term(q, m, q->subtract[i], -1, out, sum, e);
    for (int i = 0; i < m->dims && !s; i++) length += sum[i] * sum[i];
    if (!s && length < 1e-12) s = dc_fail(e, DC_USAGE, "query: found terms that cancel each other out, expected something left");
    for (int i = 0; i < m->dims && !s; i++) out[i] = (float)(sum[i] / sqrt(length));
    free(sum);
    return s;
}
