/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Holding I/O back for longer and longer, and letting it go on in between.
 * Takes no locks, calls nobody.
 */
#ifndef BLK_INTERPOSER_TURNS_H
#define BLK_INTERPOSER_TURNS_H

#include <linux/jiffies.h>
#include <linux/minmax.h>
#include <linux/sched/signal.h>

/**
 * struct blki_turns - hold I/O back and let it go on, in turn
 *
 * What has been let through may take long: it may be throttled by a cgroup, for
 * instance, and the others should not pay for that.
 */
struct blki_turns {
	/** @end: in jiffies; not beyond */
	unsigned long end;
	/** @period: how long it is held back next */
	unsigned long period;
};

static inline struct blki_turns blki_turns_begin(unsigned long timeout)
{
	return (struct blki_turns) {
		.end = jiffies + timeout,
		.period = 2 * HZ,
	};
}

/* How long to hold it back this time. */
static inline unsigned long blki_turn(const struct blki_turns *turns)
{
	long left = turns->end - jiffies;

	return clamp_t(long, left, 1, turns->period);
}

/* Lets it go on for a while. Returns -ETIMEDOUT, -EINTR, or 0: try again. */
static inline int blki_turn_over(struct blki_turns *turns)
{
	if (time_after_eq(jiffies, turns->end))
		return -ETIMEDOUT;
	schedule_timeout_killable(min_t(unsigned long, turns->period / 2,
					turns->end - jiffies));
	turns->period *= 2;
	return fatal_signal_pending(current) ? -EINTR : 0;
}

#endif
