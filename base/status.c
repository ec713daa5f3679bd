#include "base/status.h"
#include "base/text.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Formats and escapes into out. A message longer than the scratch line is cut, which dc_escape marks with "...". */
static void format_escaped(char *out, size_t size, const char *format, va_list args)
{
    char line[2048];
    vsnprintf(line, sizeof line, format, args);
    dc_escape(out, size, line);
}

dc_status dc_fail(dc_error *e, dc_status code, const char *format, ...)
{
    if (!e || e->code) return code;
    va_list args;
    va_start(args, format);
    format_escaped(e->text, sizeof e->text, format, args);
    va_end(args);
    e->code = code;
    e->hint[0] = 0;
    return code;
}

void dc_hint(dc_error *e, const char *format, ...)
{
    if (!e || !e->code || e->hint[0]) return;
    va_list args;
    va_start(args, format);
    format_escaped(e->hint, sizeof e->hint, format, args);
    va_end(args);
}

dc_status dc_fail_memory(dc_error *e, const char *what, unsigned long long bytes)
{
    return dc_fail(e, DC_NO_MEMORY, "out of memory: %s needs %llu bytes", what, bytes);
}

const char *dc_status_name(dc_status code)
{
    switch (code) {
    case DC_OK: return "ok";
    case DC_USAGE: return "usage";
    case DC_DATA: return "bad data";
    case DC_NO_INPUT: return "input missing";
    case DC_UNAVAILABLE: return "not available";
    case DC_INTERNAL: return "internal fault";
    case DC_NO_MEMORY: return "out of memory";
    case DC_NO_CREATE: return "cannot create output";
    case DC_IO: return "input or output failed";
    case DC_DENIED: return "path refused";
    case DC_CANCELLED: return "stopped";
    }
    return "unknown";
}
