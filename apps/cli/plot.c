/* plot.c - lines on a logarithmic scale, drawn at twice the size and averaged. */
#include "apps/cli/plot.h"
#include "apps/cli/commands.h"
#include "apps/cli/report.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { WIDTH = 900, HEIGHT = 540, LEFT = 70, RIGHT = 20, TOP = 46, BOTTOM = 44, FINE = 2 };

typedef struct canvas {
    int w, h;
    uint8_t *p; /* [h,w,3] */
} canvas;

static void dot(canvas *c, int x, int y, uint32_t colour)
{
    if (x < 0 || y < 0 || x >= c->w || y >= c->h) return;
    for (int k = 0; k < 3; k++) c->p[((size_t)y * (size_t)c->w + (size_t)x) * 3 + (size_t)k] = (uint8_t)(colour >> (16 - 8 * k));
}

/* Coordinates of the finished picture; radius in fine pixels. */
static void blot(canvas *c, double x, double y, double radius, uint32_t colour)
{
    int cx = (int)lround(x * FINE), cy = (int)lround(y * FINE), r = (int)ceil(radius);
    for (int j = -r; j <= r; j++)
        for (int i = -r; i <= r; i++)
            if (i * i + j * j <= radius * radius) dot(c, cx + i, cy + j, colour);
}

static void line(canvas *c, double x0, double y0, double x1, double y1, double radius, uint32_t colour)
{
    int n = (int)ceil(hypot(x1 - x0, y1 - y0) * FINE) + 1;
    for (int i = 0; i <= n; i++) blot(c, x0 + (x1 - x0) * i / n, y0 + (y1 - y0) * i / n, radius, colour);
}

/* Letters of 5 columns, the top row in the lowest bit. */
static const struct glyph {
    char letter;
    uint8_t column[5];
} font[] = {
    {'0', {0x3e, 0x51, 0x49, 0x45, 0x3e}}, {'1', {0x00, 0x42, 0x7f, 0x40, 0x00}}, {'2', {0x42, 0x61, 0x51, 0x49, 0x46}},
    {'3', {0x21, 0x41, 0x45, 0x4b, 0x31}}, {'4', {0x18, 0x14, 0x12, 0x7f, 0x10}}, {'5', {0x27, 0x45, 0x45, 0x45, 0x39}},
    {'6', {0x3c, 0x4a, 0x49, 0x49, 0x30}}, {'7', {0x01, 0x71, 0x09, 0x05, 0x03}}, {'8', {0x36, 0x49, 0x49, 0x49, 0x36}},
    {'9', {0x06, 0x49, 0x49, 0x29, 0x1e}}, {'a', {0x20, 0x54, 0x54, 0x54, 0x78}}, {'b', {0x7f, 0x48, 0x44, 0x44, 0x38}},
    {'c', {0x38, 0x44, 0x44, 0x44, 0x20}}, {'d', {0x38, 0x44, 0x44, 0x48, 0x7f}}, {'e', {0x38, 0x54, 0x54, 0x54, 0x18}},
    {'f', {0x08, 0x7e, 0x09, 0x01, 0x02}}, {'g', {0x0c, 0x52, 0x52, 0x52, 0x3e}}, {'h', {0x7f, 0x08, 0x04, 0x04, 0x78}},
    {'i', {0x00, 0x44, 0x7d, 0x40, 0x00}}, {'j', {0x20, 0x40, 0x44, 0x3d, 0x00}}, {'k', {0x7f, 0x10, 0x28, 0x44, 0x00}},
    {'l', {0x00, 0x41, 0x7f, 0x40, 0x00}}, {'m', {0x7c, 0x04, 0x18, 0x04, 0x78}}, {'n', {0x7c, 0x08, 0x04, 0x04, 0x78}},
    {'o', {0x38, 0x44, 0x44, 0x44, 0x38}}, {'p', {0x7c, 0x14, 0x14, 0x14, 0x08}}, {'q', {0x08, 0x14, 0x14, 0x18, 0x7c}},
    {'r', {0x7c, 0x08, 0x04, 0x04, 0x08}}, {'s', {0x48, 0x54, 0x54, 0x54, 0x20}}, {'t', {0x04, 0x3f, 0x44, 0x40, 0x20}},
    {'u', {0x3c, 0x40, 0x40, 0x20, 0x7c}}, {'v', {0x1c, 0x20, 0x40, 0x20, 0x1c}}, {'w', {0x3c, 0x40, 0x30, 0x40, 0x3c}},
    {'x', {0x44, 0x28, 0x10, 0x28, 0x44}}, {'y', {0x0c, 0x50, 0x50, 0x50, 0x3c}}, {'z', {0x44, 0x64, 0x54, 0x4c, 0x44}},
    {'+', {0x08, 0x08, 0x3e, 0x08, 0x08}}, {'-', {0x08, 0x08, 0x08, 0x08, 0x08}}, {'.', {0x00, 0x60, 0x60, 0x00, 0x00}},
    {',', {0x00, 0x50, 0x30, 0x00, 0x00}}, {'_', {0x40, 0x40, 0x40, 0x40, 0x40}}, {'(', {0x00, 0x1c, 0x22, 0x41, 0x00}},
    {')', {0x00, 0x41, 0x22, 0x1c, 0x00}},
};

static void text(canvas *c, int x, int y, const char *s, uint32_t colour)
{
    const int size = 3; /* fine pixels a dot */
    for (int at = x * FINE; *s; s++, at += 6 * size)
        for (size_t g = 0; g < sizeof font / sizeof *font; g++)
            for (int k = 0; font[g].letter == *s && k < 35 * size * size; k++) {
                int column = k / size / size % 5, row = k / size / size / 5, i = k % size, j = k / size % size;
                if (font[g].column[column] >> row & 1) dot(c, at + column * size + i, y * FINE + row * size + j, colour);
            }
}
static int text_width(const char *s) { return (int)strlen(s) * 9; }

/* Where a value stands. */
typedef struct axes {
    int steps;        /* 0 .. steps - 1 */
    double low, high; /* logarithms */
} axes;
static double x_of(const axes *a, double i) { return LEFT + i * (WIDTH - LEFT - RIGHT) / (a->steps > 1 ? a->steps - 1 : 1); }
static double y_of(const axes *a, double v) { return HEIGHT - BOTTOM - (log(v) - a->low) * (HEIGHT - TOP - BOTTOM) / (a->high - a->low); }

static axes find_axes(const plot_line *lines, int n)
{
    axes a = {1, INFINITY, -INFINITY};
    for (int k = 0; k < n; k++)
        for (int i = 0; i < lines[k].n; i++) {
            if (!(lines[k].y[i] > 0 && isfinite(lines[k].y[i]))) continue;
            if (i + 1 > a.steps) a.steps = i + 1;
            a.low = fmin(a.low, log(lines[k].y[i]));
            a.high = fmax(a.high, log(lines[k].y[i]));
        }
    if (!(a.low < a.high)) a.low = (isfinite(a.low) ? a.low : 0) - 1, a.high = a.low + 2;
    double edge = 0.03 * (a.high - a.low);
    a.low -= edge;
    a.high += edge;
    return a;
}

static void draw_grid(canvas *c, const axes *a)
{
    static const double marks[] = {1, 2, 5};
    const uint32_t pale = 0xe4e4e4, ink = 0x404040;
    char label[32];
    double decades = (a->high - a->low) / log(10);
    for (int d = -6; d <= 6; d++)
        for (int k = 0; k < 3; k++) {
            double v = marks[k] * pow(10, d);
            if (log(v) < a->low || log(v) > a->high || (decades > 4 && k)) continue;
            line(c, LEFT, y_of(a, v), WIDTH - RIGHT, y_of(a, v), 0.5, pale);
            snprintf(label, sizeof label, "%g", v);
            text(c, LEFT - 8 - text_width(label), (int)y_of(a, v) - 5, label, ink);
        }
    int every = 1;
    while ((a->steps - 1) / every > 20) every *= every == 2 || every == 20 || every == 200 ? 5 : 2; /* 1 2 10 20 100 ... */
    for (int i = 0; i < a->steps; i += every) {
        line(c, x_of(a, i), TOP, x_of(a, i), HEIGHT - BOTTOM, 0.5, pale);
        snprintf(label, sizeof label, "%d", i);
        text(c, (int)x_of(a, i) - text_width(label) / 2, HEIGHT - BOTTOM + 10, label, ink);
    }
    line(c, LEFT, TOP, LEFT, HEIGHT - BOTTOM, 1, ink);
    line(c, LEFT, HEIGHT - BOTTOM, WIDTH - RIGHT, HEIGHT - BOTTOM, 1, ink);
    text(c, 8, TOP - 22, "sigma", ink);
    text(c, WIDTH - RIGHT - text_width("step"), HEIGHT - 17, "step", ink);
}

static void draw_lines(canvas *c, const axes *a, const plot_line *lines, int n)
{
    static const uint32_t colours[] = {0x1f77b4, 0xd62728, 0x2ca02c, 0xff7f0e, 0x9467bd, 0x17becf, 0x8c564b, 0xe377c2, 0x7f7f7f, 0xbcbd22};
    for (int k = 0; k < n; k++) {
        const plot_line *l = &lines[k];
        uint32_t colour = colours[(size_t)k % (sizeof colours / sizeof *colours)];
        for (int i = 0; i < l->n; i++) {
            bool here = l->y[i] > 0 && isfinite(l->y[i]), next = i + 1 < l->n && l->y[i + 1] > 0 && here;
            if (next) line(c, x_of(a, i), y_of(a, l->y[i]), x_of(a, i + 1), y_of(a, l->y[i + 1]), 1.5, colour);
            if (here) blot(c, x_of(a, i), y_of(a, l->y[i]), 5, colour);
        }
        int y = TOP + 12 + 18 * k, x = WIDTH - RIGHT - 10 - text_width(l->name);
        line(c, x - 34, y + 5, x - 8, y + 5, 1.5, colour);
        blot(c, x - 21, y + 5, 5, colour);
        text(c, x, y, l->name, 0x202020);
    }
}

int plot_write(const char *path, const char *title, const plot_line *lines, int n)
{
    canvas c = {WIDTH * FINE, HEIGHT * FINE, NULL};
    diffc_error e = {0};
    c.p = malloc((size_t)c.w * (size_t)c.h * 3);
    if (!c.p) return report(DIFFC_NO_MEMORY, "", "%s: out of memory", path);
    memset(c.p, 255, (size_t)c.w * (size_t)c.h * 3);
    axes a = find_axes(lines, n);
    draw_grid(&c, &a);
    draw_lines(&c, &a, lines, n);
    text(&c, LEFT, 12, title, 0x202020);
    for (int y = 0; y < HEIGHT; y++) /* averaged in place: what is read lies never before what is written */
        for (int x = 0; x < WIDTH; x++)
            for (int k = 0; k < 3; k++) {
                int sum = 2;
                for (int i = 0; i < FINE * FINE; i++)
                    sum += c.p[((size_t)(y * FINE + i / FINE) * (size_t)c.w + (size_t)(x * FINE + i % FINE)) * 3 + (size_t)k];
                c.p[((size_t)y * WIDTH + (size_t)x) * 3 + (size_t)k] = (uint8_t)(sum / (FINE * FINE));
            }
    diffc_image m = {WIDTH, HEIGHT, 3, c.p};
    diffc_status s = diffc_image_write(path, &m, NULL, NULL, false, NULL, &e);
    free(c.p);
    return s ? report_error(&e) : 0;
}
