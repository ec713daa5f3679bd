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

/* FOLDER/BELOW/NAME into *out when it can be read, where none was found before. Errors: NO_MEMORY. */
static dc_status look(char **out, const char *folder, const char *below, const char *name, dc_error *e)
{
    if (*out) return DC_OK;
    char *path = dc_format("%s%s%s/%s", folder, *below ? "/" : "", below, name);
    if (!path) return dc_fail_memory(e, "a path", strlen(folder));
    if (access(path, R_OK) == 0) *out = path;
    else free(path);
    return DC_OK;
}

dc_status asset_path(char **out, const char *name, dc_error *e)
{
    static const char *const beside[] = {"assets", "../assets", "../../assets", "../share/diffc"};
    const char *forced = getenv("DIFFC_ASSETS");
    char program[PATH_MAX];
    program_folder(program, sizeof program);

    *out = NULL;
    dc_status s = forced ? look(out, forced, "", name, e) : DC_OK;
    for (size_t i = 0; !s && !forced && i < sizeof beside / sizeof *beside; i++) s = look(out, program, beside[i], name, e);
    if (!s && !forced) s = look(out, DIFFC_SHARE_DIR, "", name, e);
    if (s) return s;
    if (*out) return DC_OK;

    s = dc_fail(e, DC_NO_INPUT, "%s: not found among the assets (looked in %s)", name,
                forced ? forced : "the folders beside the program and " DIFFC_SHARE_DIR);
    dc_hint(e, "Set DIFFC_ASSETS to the folder \"assets\" of diffc's source or installation, or name a model with -m.");
    return s;
}
