/* log.h - messages from the library to whoever uses it. Nothing below apps/ prints: warnings and notes go to
 * one callback, set by the application (NULL: dropped). Thread-safe as long as the callback is. */
#ifndef DC_BASE_LOG_H
#define DC_BASE_LOG_H

typedef enum dc_log_level { DC_LOG_DEBUG, DC_LOG_NOTE, DC_LOG_WARNING } dc_log_level;
typedef void dc_log_fn(void *user, dc_log_level level, const char *line);

typedef struct dc_log {
    dc_log_fn *fn;
    void *user;
} dc_log;

/* log may be NULL. One line, no newline at its end; escaped like dc_fail's text. */
void dc_log_write(const dc_log *log, dc_log_level level, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
