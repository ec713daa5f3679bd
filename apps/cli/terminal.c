/* terminal.c - pictures in the terminal, by libchafa: kitty's, iTerm2's or sixel graphics where the terminal has them, else characters. */
#include "apps/cli/terminal.h"
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

void terminal_leave(terminal_place *p) { *p = (terminal_place){0}; }

#ifdef DIFFC_CHAFA
#include <chafa.h>
#include <sys/ioctl.h>

bool terminal_draws(FILE *to)
{
    const char *kind = getenv("TERM");
    return isatty(fileno(to)) && kind && *kind && strcmp(kind, "dumb") != 0;
}

static struct winsize size_of(FILE *to)
{
    struct winsize size = {0};
    ioctl(fileno(to), TIOCGWINSZ, &size);
    if (!size.ws_col) size.ws_col = 80;
    if (!size.ws_row) size.ws_row = 24;
    return size;
}

/* The best of what the terminal is known to have. */
static void choose_modes(ChafaCanvasConfig *c, const ChafaTermInfo *term)
{
    static const struct {
        ChafaTermSeq needs;
        ChafaPixelMode mode;
    } pixels[] = {{CHAFA_TERM_SEQ_BEGIN_KITTY_IMMEDIATE_IMAGE_V1, CHAFA_PIXEL_MODE_KITTY},
                  {CHAFA_TERM_SEQ_BEGIN_ITERM2_IMAGE, CHAFA_PIXEL_MODE_ITERM2},
                  {CHAFA_TERM_SEQ_BEGIN_SIXELS, CHAFA_PIXEL_MODE_SIXELS}};
    static const struct {
        ChafaTermSeq needs;
        ChafaCanvasMode mode;
    } colours[] = {{CHAFA_TERM_SEQ_SET_COLOR_FGBG_DIRECT, CHAFA_CANVAS_MODE_TRUECOLOR},
                   {CHAFA_TERM_SEQ_SET_COLOR_FGBG_256, CHAFA_CANVAS_MODE_INDEXED_240},
                   {CHAFA_TERM_SEQ_SET_COLOR_FGBG_16, CHAFA_CANVAS_MODE_INDEXED_16},
                   {CHAFA_TERM_SEQ_SET_COLOR_FGBG_8, CHAFA_CANVAS_MODE_INDEXED_8}};
    size_t i = 0, k = 0;
    while (i < sizeof pixels / sizeof *pixels && !chafa_term_info_have_seq(term, pixels[i].needs)) i++;
    while (k < sizeof colours / sizeof *colours && !chafa_term_info_have_seq(term, colours[k].needs)) k++;
    chafa_canvas_config_set_pixel_mode(c, i < sizeof pixels / sizeof *pixels ? pixels[i].mode : CHAFA_PIXEL_MODE_SYMBOLS);
    chafa_canvas_config_set_canvas_mode(c, k < sizeof colours / sizeof *colours ? colours[k].mode : CHAFA_CANVAS_MODE_FGBG);
}

/* What draws an RGB picture in at most *rows lines, which becomes how many it takes; for g_string_free. */
static GString *drawing(const struct winsize *size, const diffc_image *m, int *rows, ChafaPixelMode *mode)
{
    gchar **environment = g_get_environ();
    ChafaTermInfo *term = chafa_term_db_detect(chafa_term_db_get_default(), environment);
    ChafaCanvasConfig *c = chafa_canvas_config_new();
    ChafaSymbolMap *symbols = chafa_symbol_map_new();
    gint width = size->ws_col;
    float cell = 0.5f; /* width of a character by its height */
    if (size->ws_xpixel && size->ws_ypixel) {
        const int w = size->ws_xpixel / size->ws_col, h = size->ws_ypixel / size->ws_row;
        if (w > 0 && h > 0) {
            cell = (float)w / (float)h;
            chafa_canvas_config_set_cell_geometry(c, w, h);
        }
    }
    choose_modes(c, term);
    *mode = chafa_canvas_config_get_pixel_mode(c);
    chafa_symbol_map_add_by_tags(symbols, CHAFA_SYMBOL_TAG_BLOCK);
    chafa_canvas_config_set_symbol_map(c, symbols);
    chafa_calc_canvas_geometry(m->width, m->height, &width, rows, cell, TRUE, FALSE);
    chafa_canvas_config_set_geometry(c, width, *rows);
    ChafaCanvas *canvas = chafa_canvas_new(c);
    chafa_canvas_draw_all_pixels(canvas, CHAFA_PIXEL_RGB8, m->pixels, m->width, m->height, 3 * m->width);
    GString *text = chafa_canvas_print(canvas, term);
    chafa_canvas_unref(canvas);
    chafa_symbol_map_unref(symbols);
    chafa_canvas_config_unref(c);
    chafa_term_info_unref(term);
    g_strfreev(environment);
    return text;
}

bool terminal_show(FILE *to, const diffc_image *m, int rows)
{
    if (!terminal_draws(to)) return false;
    const struct winsize size = size_of(to);
    ChafaPixelMode mode;
    GString *text = drawing(&size, m, &rows, &mode);
    fwrite(text->str, 1, text->len, to);
    fputc('\n', to);
    g_string_free(text, TRUE);
    return true;
}

/* In one write: nothing is seen half drawn, and a signal finds the cursor where it belongs. The lines are made first (the terminal may scroll for
 * them), so that drawing does not scroll and the cursor, put back, is at their beginning whatever the kind of graphics does with it. */
bool terminal_redraw(terminal_place *p, FILE *to, const diffc_image *m)
{
    if (!terminal_draws(to)) return false;
    const struct winsize size = size_of(to);
    ChafaPixelMode mode;
    int rows = size.ws_row > 36 ? size.ws_row * 2 / 3 : size.ws_row > 14 ? size.ws_row - 4 : size.ws_row - 2;
    if (rows < 1) return false;
    GString *text = drawing(&size, m, &rows, &mode), *all = g_string_new("\033[?2026h\033[?25l\r"); /* an update as a whole; no cursor meanwhile */
    if (!p->rows) g_string_append(all, "\033[K");
    if (p->rows) g_string_append_printf(all, "\033[%dA", p->rows);
    if (p->rows && mode == CHAFA_PIXEL_MODE_KITTY) g_string_append(all, "\033_Ga=d,d=C,q=2\033\\"); /* else they pile up */
    if (p->rows && p->rows != rows) g_string_append(all, "\033[J");
    if (p->rows != rows) {
        for (int i = 0; i < rows; i++) g_string_append_c(all, '\n');
        g_string_append_printf(all, "\033[%dA", rows);
    }
    g_string_append(all, "\0337");
    g_string_append_len(all, text->str, (gssize)text->len);
    g_string_append_printf(all, "\0338\033[%dB\r\033[?25h\033[?2026l", rows);
    fwrite(all->str, 1, all->len, to);
    fflush(to);
    g_string_free(text, TRUE);
    g_string_free(all, TRUE);
    p->rows = rows;
    return true;
}
#else
bool terminal_draws(FILE *to)
{
    (void)to;
    return false;
}

bool terminal_show(FILE *to, const diffc_image *m, int rows)
{
    (void)to, (void)m, (void)rows;
    return false;
}

bool terminal_redraw(terminal_place *p, FILE *to, const diffc_image *m)
{
    (void)p, (void)to, (void)m;
    return false;
}
#endif
