/* faults.h - mapped files that shrink while they are read; private to this folder.
 *
 * A page of a mapped file that the file no longer has, or that its disk cannot give, raises SIGBUS when it is touched. For the ranges watched here
 * a handler puts zero pages in the place of what is missing and notes the loss; whoever reads asks afterwards (dc_map_check) and throws away
 * what was made of the zeros. As libwayland does it for pools of shared memory (wayland-shm.c).
 *
 * The handler is put on top with a range whenever it is not there, and stays. A SIGBUS that belongs to no watched range goes on to the handler
 * that was there before, or does what it did without one. A program that installs its own handler while files are mapped takes their protection
 * away, unless that one passes on in turn; a thread that blocks SIGBUS has none. */
#ifndef DC_BASE_FAULTS_H
#define DC_BASE_FAULTS_H
#include <stdbool.h>
#include <stdint.h>

#define DC_FAULT_RANGES 4096 /* watched at a time; a model has one a file */

/* Watches a mapped, page-aligned range, from before it is read until before it is unmapped. Its number, or -1: all are taken. */
int dc_fault_watch(const void *at, uint64_t bytes);
bool dc_fault_seen(int range); /* were zeros put into it? */
void dc_fault_unwatch(int range);

#endif
