/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_SEQLOCK_H
#define SHIM_SEQLOCK_H

/*
 * Nobody else runs while something is written, so that a reader who finds that
 * somebody writes would wait forever.
 */
#include <linux/shim.h>

typedef struct {
	unsigned int sequence;
} seqcount_t;

static inline void seqcount_init(seqcount_t *s)
{
	s->sequence = 0;
}

static inline unsigned int read_seqcount_begin(const seqcount_t *s)
{
	if (s->sequence & 1)
		sim_fail("something is read while it is written");
	return s->sequence;
}

static inline int read_seqcount_retry(const seqcount_t *s, unsigned int start)
{
	return s->sequence != start;
}

static inline void write_seqcount_begin(seqcount_t *s)
{
	if (s->sequence++ & 1)
		sim_fail("something is written by two at a time");
}

static inline void write_seqcount_end(seqcount_t *s)
{
	if (!(s->sequence++ & 1))
		sim_fail("a write ends that has not begun");
}

#endif
