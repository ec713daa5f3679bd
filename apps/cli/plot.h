/* plot.h - `diffc schedule --plot`: sigmas over steps as a picture. */
#ifndef DC_CLI_PLOT_H
#define DC_CLI_PLOT_H

typedef struct plot_line {
    const char *name;
    const double *y; /* those above 0 are drawn, by their logarithm */
    int n;
} plot_line;
/* Writes the lines over 0 .. n-1 into an image file. Returns 0 or an exit code after telling what is wrong. */
int plot_write(const char *path, const char *title, const plot_line *lines, int n);

#endif
