/* preview.c - pictures in the terminal, by libchafa: kitty's, iTerm2's or sixel graphics where the terminal has them, else characters. */
#include "apps/cli/pictures.h"
#include <stdio.h>
#include <unistd.h>

#ifdef DIFFC_CHAFA
#include <chafa.h>
#include <sys/ioctl.h>

bool preview_show(const char *path, int rows)
{
    diffc_image m;
    struct winsize size = {0};
    if (!isatty(STDOUT_FILENO) || diffc_image_read(&m, path, false, NULL)) return false;
    ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
    gchar **environment = g_get_environ();
    ChafaTermInfo *term = chafa_term_db_detect(chafa_term_db_get_default(), environment);
    ChafaCanvasConfig *c = chafa_canvas_config_new();
    ChafaSymbolMap *symbols = chafa_symbol_map_new();
    const ChafaPixelMode mode = chafa_term_info_have_seq(term, CHAFA_TERM_SEQ_BEGIN_KITTY_IMMEDIATE_IMAGE_V1) ? CHAFA_PIXEL_MODE_KITTY
                                : chafa_term_info_have_seq(term, CHAFA_TERM_SEQ_BEGIN_ITERM2_IMAGE)           ? CHAFA_PIXEL_MODE_ITERM2
                                : chafa_term_info_have_seq(term, CHAFA_TERM_SEQ_BEGIN_SIXELS)                 ? CHAFA_PIXEL_MODE_SIXELS
                                                                                                              : CHAFA_PIXEL_MODE_SYMBOLS;
    gint width = size.ws_col ? size.ws_col : 80, height = rows;
    float cell = 0.5f; /* width of a character by its height */
    if (size.ws_xpixel && size.ws_ypixel && size.ws_col && size.ws_row) {
        const int w = size.ws_xpixel / size.ws_col, h = size.ws_ypixel / size.ws_row;
        if (w > 0 && h > 0) {
            cell = (float)w / (float)h;
            chafa_canvas_config_set_cell_geometry(c, w, h);
        }
    }
    chafa_symbol_map_add_by_tags(symbols, CHAFA_SYMBOL_TAG_BLOCK);
    chafa_canvas_config_set_symbol_map(c, symbols);
    chafa_canvas_config_set_pixel_mode(c, mode);
    chafa_calc_canvas_geometry(m.width, m.height, &width, &height, cell, TRUE, FALSE);
    chafa_canvas_config_set_geometry(c, width, height);
    ChafaCanvas *canvas = chafa_canvas_new(c);
    chafa_canvas_draw_all_pixels(canvas, CHAFA_PIXEL_RGB8, m.pixels, m.width, m.height, 3 * m.width);
    GString *text = chafa_canvas_print(canvas, term);
    fwrite(text->str, 1, text->len, stdout);
    putchar('\n');
    g_string_free(text, TRUE);
    chafa_canvas_unref(canvas);
    chafa_symbol_map_unref(symbols);
    chafa_canvas_config_unref(c);
    chafa_term_info_unref(term);
    g_strfreev(environment);
    diffc_image_free(&m);
    return true;
}
#else
bool preview_show(const char *path, int rows)
{
    (void)path, (void)rows;
    return false;
}
#endif
