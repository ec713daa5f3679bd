#include "base/log.h"
#include "base/text.h"
#include <stdarg.h>
#include <stdio.h>

void dc_log_write(const dc_log *log, dc_log_level level, const char *format, ...)
{
    if (!log || !log->fn) return;
    char line[1024], escaped[1024];
    va_list args;
    va_start(args, format);
    vsnprintf(line, sizeof line, format, args);
    va_end(args);
    log->fn(log->user, level, dc_escape(escaped, sizeof escaped, line));
}
