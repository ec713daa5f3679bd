/* clock.h - time that only goes forward. */
#ifndef DC_BASE_CLOCK_H
#define DC_BASE_CLOCK_H

double dc_seconds(void); /* since some moment in the past; for differences */

#endif
