/* watch.h - an index kept up to date. Private to this folder. */
#ifndef DC_SEARCH_WATCH_H
#define DC_SEARCH_WATCH_H
#include "search/update.h"

/* Runs u, and again when something changes below its root, until on_progress stops it: CANCELLED. */
dc_status dc_watch_run(dc_update *u, dc_error *e);

#endif
