/* draw.c - the window's paint box. */
#include "apps/viewer/draw.h"
#include <fontconfig/fontconfig.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const SDL_Color dark[INKS] = {
    [INK_BACK] = {24, 25, 28, 255},     [INK_PANEL] = {34, 36, 41, 255},  [INK_FIELD] = {46, 49, 56, 255},    [INK_LINE] = {66, 70, 79, 255},
    [INK_TEXT] = {230, 231, 234, 255},  [INK_DIM] = {151, 156, 166, 255}, [INK_ACCENT] = {92, 157, 255, 255}, [INK_SELECT] = {52, 84, 138, 255},
    [INK_ERROR] = {255, 122, 110, 255}, [INK_SHADE] = {0, 0, 0, 170},
};
static const SDL_Color light[INKS] = {
    [INK_BACK] = {232, 233, 236, 255}, [INK_PANEL] = {246, 247, 249, 255}, [INK_FIELD] = {255, 255, 255, 255}, [INK_LINE] = {197, 201, 208, 255},
    [INK_TEXT] = {28, 30, 34, 255},    [INK_DIM] = {98, 104, 115, 255},    [INK_ACCENT] = {24, 103, 220, 255}, [INK_SELECT] = {182, 209, 250, 255},
    [INK_ERROR] = {190, 40, 30, 255},  [INK_SHADE] = {60, 62, 68, 150},
};
static const int points[LETTERS] = {12, 14, 20};

SDL_Color ink_color(const draw *d, ink i) { return (d->light ? light : dark)[i]; }

/* ---- fonts -------------------------------------------------------------------------------------------------------- */

/* File of a sans-serif font that has the letter (0: any). The caller frees; NULL: there is none. */
static char *find_face(uint32_t letter)
{
    char *file = NULL;
    FcPattern *wanted = FcNameParse((const FcChar8 *)"sans-serif");
    FcCharSet *letters = letter ? FcCharSetCreate() : NULL;
    if (letters) {
        FcCharSetAddChar(letters, letter);
        FcPatternAddCharSet(wanted, FC_CHARSET, letters);
    }
    FcPatternAddBool(wanted, FC_SCALABLE, FcTrue);
    FcConfigSubstitute(NULL, wanted, FcMatchPattern);
    FcDefaultSubstitute(wanted);
    FcResult result;
    FcPattern *found = FcFontMatch(NULL, wanted, &result);
    FcChar8 *name;
    if (found && FcPatternGetString(found, FC_FILE, 0, &name) == FcResultMatch) file = strdup((const char *)name);
    if (found) FcPatternDestroy(found);
    if (letters) FcCharSetDestroy(letters);
    FcPatternDestroy(wanted);
    return file;
}

static void close_face(draw *d, int k)
{
    for (int size = 0; size < LETTERS; size++) {
        if (d->font[size][k]) TTF_CloseFont(d->font[size][k]);
        d->font[size][k] = NULL;
    }
}

static bool open_face(draw *d, int k)
{
    for (int size = 0; size < LETTERS; size++) {
        d->font[size][k] = TTF_OpenFont(d->face[k], px(d, (float)points[size]));
        if (!d->font[size][k]) return false;
    }
    return true;
}

/* The face that draws the letter: the first that has it; a new one is looked for when none does. */
static int face_of(draw *d, uint32_t letter)
{
    for (int k = 0; k < d->faces; k++)
        if (TTF_GlyphIsProvided32(d->font[0][k], letter)) return k;
    if (letter < 0x80 || d->faces == MOST_FACES) return 0;
    char *file = find_face(letter);
    for (int k = 0; file && k < d->faces; k++) /* known, so it has no such letter: nothing has */
        if (!strcmp(file, d->face[k])) free(file), file = NULL;
    if (!file) return 0;
    d->face[d->faces] = file;
    if (open_face(d, d->faces) && TTF_GlyphIsProvided32(d->font[0][d->faces], letter)) return d->faces++;
    close_face(d, d->faces);
    free(file);
    d->face[d->faces] = NULL;
    return 0;
}

static void forget_texts(draw *d)
{
    for (int i = 0; i < TEXT_CACHE; i++) {
        if (d->cache[i].texture) SDL_DestroyTexture(d->cache[i].texture);
        d->cache[i] = (drawn_text){0};
    }
}

diffc_status draw_rescale(draw *d, float scale, diffc_error *error)
{
    forget_texts(d);
    d->scale = scale;
    for (int k = 0; k < d->faces; k++) {
        close_face(d, k);
        if (open_face(d, k)) continue;
        *error = (diffc_error){.code = DIFFC_UNAVAILABLE};
        snprintf(error->text, sizeof error->text, "window: the font %.600s cannot be read: %.200s", d->face[k], TTF_GetError());
        return DIFFC_UNAVAILABLE;
    }
    return DIFFC_OK;
}

diffc_status draw_open(draw *d, SDL_Renderer *renderer, float scale, bool is_light, diffc_error *error)
{
    *d = (draw){.renderer = renderer, .light = is_light};
    d->face[0] = find_face(0);
    if (!d->face[0]) {
        *error = (diffc_error){.code = DIFFC_UNAVAILABLE, .text = "window: found no font on this machine, expected at least one"};
        snprintf(error->hint, sizeof error->hint, "Install one, for example Debian's fonts-dejavu-core.");
        return DIFFC_UNAVAILABLE;
    }
    d->faces = 1;
    SDL_SetRenderDrawBlendMode(renderer, SDL_BLENDMODE_BLEND);
    return draw_rescale(d, scale, error);
}

void draw_close(draw *d)
{
    forget_texts(d);
    for (int k = 0; k < d->faces; k++) {
        close_face(d, k);
        free(d->face[k]);
    }
    *d = (draw){0};
}

/* ---- text ----------------------------------------------------------------------------------------------------------- */

/* The letter at s (valid UTF-8, n bytes left); *bytes is its length. */
static uint32_t letter_at(const char *s, size_t n, size_t *bytes)
{
    const uint8_t *u = (const uint8_t *)s;
    size_t k = u[0] < 0x80 ? 1 : u[0] < 0xe0 ? 2 : u[0] < 0xf0 ? 3 : 4;
    if (k > n) k = n;
    uint32_t c = k == 1 ? u[0] : u[0] & (0x7fu >> k);
    for (size_t i = 1; i < k; i++) c = c << 6 | (u[i] & 0x3f);
    *bytes = k;
    return c;
}

/* Does the letter stay with the face of the one before it, whatever that is? Marks, joiners, selectors. */
static bool joins(uint32_t c) { return (c >= 0x300 && c < 0x370) || c == 0x200d || (c >= 0xfe00 && c < 0xfe10) || c == ' '; }

/* Bytes of the longest beginning that one face draws. */
static size_t run_length(draw *d, const char *s, size_t n, int *face)
{
    size_t at = 0, bytes;
    while (at < n) {
        uint32_t c = letter_at(s + at, n - at, &bytes);
        if (at && joins(c)) {
            at += bytes;
            continue;
        }
        int k = face_of(d, c);
        if (at && k != *face) break;
        *face = k;
        at += bytes;
    }
    return at;
}

int text_height(const draw *d, text_size size) { return TTF_FontHeight(d->font[size][0]); }

/* The run as a string, in `small` where it fits. Free with run_free. */
static char *run_copy(const char *s, size_t n, char small[256])
{
    char *copy = n < 256 ? small : malloc(n + 1);
    if (!copy) return NULL;
    memcpy(copy, s, n);
    copy[n] = 0;
    return copy;
}
static void run_free(char *copy, const char *small)
{
    if (copy != small) free(copy);
}

int text_width(draw *d, text_size size, const char *s, size_t n)
{
    int width = 0;
    for (size_t at = 0; at < n;) {
        int face = 0, w = 0;
        char small[256];
        size_t k = run_length(d, s + at, n - at, &face);
        char *copy = run_copy(s + at, k, small);
        if (copy) TTF_SizeUTF8(d->font[size][face], copy, &w, NULL);
        run_free(copy, small);
        width += w;
        at += k;
    }
    return width;
}

static uint64_t hash(uint64_t h, const void *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++) h = (h ^ ((const uint8_t *)bytes)[i]) * 1099511628211u;
    return h;
}

/* Texture of a run: kept from earlier frames, or made in the place of the one that was not used for longest among a few. */
static const drawn_text *run_texture(draw *d, text_size size, ink i, int face, const char *s, size_t n)
{
    const int what[] = {(int)size, (int)i, face};
    uint64_t key = hash(hash(14695981039346656037u, what, sizeof what), s, n) | 1;
    drawn_text *oldest = NULL;
    for (uint64_t k = 0; k < 8; k++) {
        drawn_text *t = &d->cache[(key / 2 + k) % TEXT_CACHE];
        if (t->key == key) {
            t->used = d->now;
            return t;
        }
        if (!oldest || t->used < oldest->used) oldest = t;
    }
    char small[256], *copy = run_copy(s, n, small);
    SDL_Surface *drawn = copy ? TTF_RenderUTF8_Blended(d->font[size][face], copy, ink_color(d, i)) : NULL;
    run_free(copy, small);
    if (!drawn) return NULL;
    if (oldest->texture) SDL_DestroyTexture(oldest->texture);
    *oldest = (drawn_text){key, d->now, SDL_CreateTextureFromSurface(d->renderer, drawn), drawn->w, drawn->h};
    SDL_FreeSurface(drawn);
    if (!oldest->texture) oldest->key = 0;
    return oldest->texture ? oldest : NULL;
}

size_t text_fit(draw *d, text_size size, const char *s, size_t n, int width)
{
    size_t low = 0, high = n;
    while (low < high) {
        size_t middle = (low + high + 1) / 2;
        while (middle < n && ((uint8_t)s[middle] & 0xc0) == 0x80) middle++;
        if (middle > high) break;
        if (text_width(d, size, s, middle) <= width) low = middle;
        else high = middle - 1;
    }
    while (low && low < n && ((uint8_t)s[low] & 0xc0) == 0x80) low--;
    return low;
}

static int draw_runs(draw *d, text_size size, ink i, int x, int y, const char *s, size_t n)
{
    int left = x;
    for (size_t at = 0; at < n;) {
        int face = 0;
        size_t k = run_length(d, s + at, n - at, &face);
        const drawn_text *t = run_texture(d, size, i, face, s + at, k);
        if (t) {
            const SDL_Rect to = {x, y + TTF_FontAscent(d->font[size][0]) - TTF_FontAscent(d->font[size][face]), t->w, t->h};
            SDL_RenderCopy(d->renderer, t->texture, NULL, &to);
            x += t->w;
        }
        at += k;
    }
    return x - left;
}

int text_draw(draw *d, text_size size, ink i, int x, int y, int width, const char *s, size_t n)
{
    static const char dots[] = "\xe2\x80\xa6";
    if (width <= 0 || text_width(d, size, s, n) <= width) return draw_runs(d, size, i, x, y, s, n);
    size_t k = text_fit(d, size, s, n, width - text_width(d, size, dots, 3));
    int w = draw_runs(d, size, i, x, y, s, k);
    return w + draw_runs(d, size, i, x + w, y, dots, 3);
}

int text_print(draw *d, text_size size, ink i, int x, int y, int width, const char *format, ...)
{
    char text[1024];
    va_list a;
    va_start(a, format);
    int n = vsnprintf(text, sizeof text, format, a);
    va_end(a);
    size_t k = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    if (k == sizeof text - 1) /* not in the middle of a letter */
        while (k && ((uint8_t)text[k] & 0xc0) == 0x80) k--;
    return text_draw(d, size, i, x, y, width, text, k);
}

size_t text_at(draw *d, text_size size, const char *s, size_t n, int x)
{
    size_t at = 0, bytes;
    int before = 0;
    while (at < n) {
        letter_at(s + at, n - at, &bytes);
        int w = text_width(d, size, s, at + bytes);
        if (x < (before + w) / 2) break;
        before = w;
        at += bytes;
    }
    return at;
}

/* ---- shapes ----------------------------------------------------------------------------------------------------------- */

static void use(draw *d, ink i)
{
    SDL_Color c = ink_color(d, i);
    SDL_SetRenderDrawColor(d->renderer, c.r, c.g, c.b, c.a);
}

void draw_fill(draw *d, SDL_Rect r, ink i)
{
    use(d, i);
    SDL_RenderFillRect(d->renderer, &r);
}

void draw_frame(draw *d, SDL_Rect r, ink i, int thickness)
{
    use(d, i);
    for (int k = 0; k < thickness; k++) {
        const SDL_Rect edge = {r.x + k, r.y + k, r.w - 2 * k, r.h - 2 * k};
        SDL_RenderDrawRect(d->renderer, &edge);
    }
}

void draw_clip(draw *d, const SDL_Rect *r) { SDL_RenderSetClipRect(d->renderer, r); }

SDL_Texture *draw_texture(draw *d, const diffc_image *m, bool smooth)
{
    SDL_Surface *s = SDL_CreateRGBSurfaceWithFormatFrom(m->pixels, m->width, m->height, 24, 3 * m->width, SDL_PIXELFORMAT_RGB24);
    SDL_Texture *t = s ? SDL_CreateTextureFromSurface(d->renderer, s) : NULL;
    if (t) SDL_SetTextureScaleMode(t, smooth ? SDL_ScaleModeLinear : SDL_ScaleModeNearest);
    SDL_FreeSurface(s);
    return t;
}
