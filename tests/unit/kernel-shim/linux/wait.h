/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_WAIT_H
#define SHIM_WAIT_H

#include <linux/spinlock.h>

/* @woken: how often. Who waits looks again only when he has been woken. */
typedef struct {
	u64 woken;
} wait_queue_head_t;

void sim_wait_woken(const wait_queue_head_t *wq, u64 seen, const char *why);

static inline void init_waitqueue_head(wait_queue_head_t *wq)
{
	wq->woken = 0;
}

static inline void wake_up_all(wait_queue_head_t *wq)
{
	wq->woken++;
}

#define wait_event(wq, condition)					\
do {									\
	u64 __seen;							\
									\
	might_sleep();							\
	while (__seen = (wq).woken, !(condition))			\
		sim_wait_woken(&(wq), __seen, #condition);		\
} while (0)

#endif
