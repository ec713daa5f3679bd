/* assets.c - where the data folder is: DIFFC_ASSETS, beside the build, or under the installation prefix. */
#include "base/file.h"
#include "pipeline/model.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef DIFFC_SHARE_DIR
#define DIFFC_SHARE_DIR "/usr/local/share/diffc"
#endif

/* Folder of the running program, or "." when it cannot be told. */
static void program_folder(char *out, size_t size)
{
    ssize_t n = readlink("/proc/self/exe", out, size - 1);
    out[n > 0 ? n : 0] = 0;
    char *slash = strrchr(out, '/');
    if (slash) *slash = 0;
    else strcpy(out, ".");
}

/* The path when it can be read; else frees it and returns NULL. */
static char *if_readable(char *path)
{
    if (path && access(path, R_OK) == 0) return path;
    free(path);
    return NULL;
}

dc_status asset_path(char **out, const char *name, dc_error *e)
{
    static const char *const beside[] = {"assets", "../assets", "../../assets", "../share/diffc"};
    const char *forced = getenv("DIFFC_ASSETS");
    char program[PATH_MAX];
    program_folder(program, sizeof program);

    *out = NULL;
    if (forced) *out = if_readable(dc_format("%s/%s", forced, name));
    for (size_t i = 0; !forced && !*out && i < sizeof beside / sizeof *beside; i++)
        *out = if_readable(dc_format("%s/%s/%s", program, beside[i], name));
    if (!forced && !*out) *out = if_readable(dc_format("%s/%s", DIFFC_SHARE_DIR, name));
    if (*out) return DC_OK;

    dc_status s = dc_fail(e, DC_NO_INPUT, "%s: not found among the assets (looked in %s)", name,
                          forced ? forced : "the folders beside the program and " DIFFC_SHARE_DIR);
    dc_hint(e, "Set DIFFC_ASSETS to the folder \"assets\" of diffc's source or installation, or name a model with -m.");
    return s;
}
