/* device.c - the devices there are, and opening one by name. */
#include "backends/backend.h"
#include <dlfcn.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define CUDA_MODULE "diffc-cuda.so"

static const dc_backend *const backends[] = {&dc_backend_cpu, &dc_backend_ref};

/* ---- the CUDA device: a module of its own, so that the program starts without NVIDIA's libraries ----------------------- */

/* The folder of the file that this code is in: the program, or the library. False when it cannot be told. */
static bool own_folder(char *path, size_t size, bool program)
{
    Dl_info info;
    char found[PATH_MAX] = "";
    if (program) {
        const ssize_t n = readlink("/proc/self/exe", found, sizeof found - 1);
        found[n > 0 ? n : 0] = 0;
    } else if (dladdr(backends, &info) && info.dli_fname && strlen(info.dli_fname) < sizeof found) {
        strcpy(found, info.dli_fname);
    }
    char *slash = strrchr(found, '/');
    if (!slash) return false;
    *slash = 0;
    return (size_t)snprintf(path, size, "%s", found) < size;
}

/* Beside the program or the library (as they are built), or where modules are installed. It stays open: the libraries behind it do not like to
 * be closed. */
static void *open_module(char *why, size_t size)
{
    static const char *const folders[] = {"", "/../lib/diffc", "/diffc"};
    char folder[PATH_MAX], path[PATH_MAX + 64];
    snprintf(why, size, "found no " CUDA_MODULE " beside the program or in " DIFFC_MODULE_DIR);
    for (int i = 0; i < 7; i++) {
        const bool installed = i == 6;
        if (!installed && !own_folder(folder, sizeof folder, i < 3)) continue;
        snprintf(path, sizeof path, "%s%s/" CUDA_MODULE, installed ? DIFFC_MODULE_DIR : folder, installed ? "" : folders[i % 3]);
        if (access(path, R_OK)) continue;
        void *module = dlopen(path, RTLD_NOW | RTLD_LOCAL);
        if (!module) snprintf(why, size, "%s", dlerror());
        return module;
    }
    return NULL;
}

static const dc_backend *cuda_backend(dc_error *e)
{
    char why[768];
    void *module = open_module(why, sizeof why), *found = module ? dlsym(module, "diffc_cuda_backend") : NULL;
    const dc_backend *(*get)(const char *version) = NULL;
    memcpy(&get, &found, sizeof get); /* ISO C has no conversion of a pointer to a function */
    const dc_backend *be = get ? get(DIFFC_VERSION) : NULL;
    if (be) return be;
    if (module) snprintf(why, sizeof why, CUDA_MODULE " is of another version of diffc, expected " DIFFC_VERSION);
    dc_fail(e, DC_UNAVAILABLE, "device cuda: %s", why);
    dc_hint(e, "The module is built where CUDA's compiler and cuDNN 9 are found, and needs their libraries and NVIDIA's driver to run. Or take "
               "--device cpu.");
    return NULL;
}

/* ---- devices ---------------------------------------------------------------------------------------------------- */

static dc_status open_on(const dc_backend *be, dc_device **out, const dc_device_options *o, dc_error *e)
{
    dc_precision precision;
    dc_status s = dc_find_precision(o->precision, &precision, e);
    if (s) return s;
    dc_device *d = calloc(1, sizeof *d);
    if (!d) return dc_fail_memory(e, "a device", sizeof *d);
    *d = (dc_device){.be = be, .precision = precision, .exact = o->exact, .cancel = o->cancel, .log = o->log};
    s = be->open(d, o, e);
    if (s) free(d);
    else *out = d;
    return s;
}

/* Is NVIDIA's driver there? Asked before the module is opened, since that loads 200 MB of libraries. */
static bool has_driver(void)
{
    void *driver = dlopen("libcuda.so.1", RTLD_LAZY | RTLD_LOCAL);
    if (driver) dlclose(driver);
    return driver != NULL;
}

/* The GPU, unless something is asked for that only the CPU has. False: there is none, which a note says where one could be. */
static bool open_gpu(dc_device **out, const dc_device_options *o)
{
    dc_error e = {0};
    if (!has_driver()) return false;
    if ((o->cpu_level && strcmp(o->cpu_level, "auto")) || (o->precision && !strcmp(o->precision, "int8"))) return false;
    const dc_backend *be = cuda_backend(&e);
    if (be && !open_on(be, out, o, &e)) return true;
    dc_log_write(o->log, DC_LOG_NOTE, "%s; the CPU computes", e.text);
    return false;
}

dc_status dc_device_open(dc_device **out, const dc_device_options *o, dc_error *e)
{
    const char *name = o->name ? o->name : "auto";
    const dc_backend *be = NULL;
    *out = NULL;
    if (!strcmp(name, "auto")) {
        if (open_gpu(out, o)) return DC_OK;
        name = "cpu";
    }
    if (!strcmp(name, "cuda")) {
        be = cuda_backend(e);
        return be ? open_on(be, out, o, e) : DC_UNAVAILABLE;
    }
    for (size_t i = 0; i < sizeof backends / sizeof *backends; i++)
        if (!strcmp(backends[i]->name, name)) be = backends[i];
    if (!be) return dc_fail(e, DC_USAGE, "device: found %s, expected auto, cpu or cuda", name);
    return open_on(be, out, o, e);
}

void dc_device_close(dc_device *d)
{
    if (!d) return;
    d->be->close(d);
    free(d);
}

const char *dc_device_name(const dc_device *d) { return d->be->name; }
const char *dc_device_summary(const dc_device *d) { return d->summary; }
uint64_t dc_device_memory(const dc_device *d) { return d->be->memory ? d->be->memory(d) : 0; }
void dc_device_keep_free(dc_device *d, uint64_t bytes)
{
    if (d->be->keep_free) d->be->keep_free(d, bytes);
}
const char *dc_device_precision(const dc_device *d) { return dc_precision_name(d->precision); }

dc_status dc_dots(dc_device *d, const dc_dots_args *a, dc_error *e)
{
    if (a->width < 1 || a->width > DC_DOTS_WIDTH || a->width % 32)
        return dc_fail(e, DC_INTERNAL, "rows: found %d numbers in one, expected a multiple of 32 up to %d", a->width, DC_DOTS_WIDTH);
    if (!d->be->dots)
        return dc_fail(e, DC_UNAVAILABLE, "rows and queries: not available on device %s, whose memory the rows are not in", d->be->name);
    dc_status s = a->n < 1 || a->queries < 1 ? DC_OK : d->be->dots(d, a);
    if (s == DC_NO_MEMORY) return dc_fail_memory(e, "queries beside rows", (unsigned long long)a->width * sizeof(float));
    return s ? dc_fail(e, s, "stopped") : DC_OK;
}
