/* status.h - result codes and the one error object that every room of the library uses.
 *
 * A code is also the program's exit status (sysexits numbers), so nothing translates between the two.
 * Convention: a function that can fail returns dc_status and takes `dc_error *e` last. The first error
 * wins: dc_fail on an error that is already set keeps the earlier message. */
#ifndef DC_BASE_STATUS_H
#define DC_BASE_STATUS_H

typedef enum dc_status {
    DC_OK = 0,
    DC_USAGE = 64,       /* a bad option or a value out of range            */
    DC_DATA = 65,        /* input malformed, of the wrong kind, non-finite  */
    DC_NO_INPUT = 66,    /* input missing or unreadable                     */
    DC_UNAVAILABLE = 69, /* device, instruction set or display not there    */
    DC_INTERNAL = 70,    /* our bug, or non-finite after the retry          */
    DC_NO_MEMORY = 71,
    DC_NO_CREATE = 73, /* output folder missing, read-only, not permitted */
    DC_IO = 74,        /* read or write failed, disk full                 */
    DC_DENIED = 77,    /* a path that escapes its folder                  */
    DC_CANCELLED = 130
} dc_status;

/* `text` is one line, "FILE: what: found X, expected Y"; `hint` is empty or at most two lines of advice. */
typedef struct dc_error {
    dc_status code;
    char text[1024];
    char hint[512];
} dc_error;

/* Sets e (NULL is fine) unless an error is already there, and returns `code`. Control characters and
 * invalid UTF-8 that come in through the arguments are escaped, so file content cannot drive a terminal. */
dc_status dc_fail(dc_error *e, dc_status code, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Sets the hint of the error that is in e; does nothing when there is none or a hint is already set. */
void dc_hint(dc_error *e, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Same as dc_fail for "out of memory": what was asked for and how many bytes. */
dc_status dc_fail_memory(dc_error *e, const char *what, unsigned long long bytes);
/* "bad data", "out of memory", ... */
const char *dc_status_name(dc_status code);

#endif
