/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The scope of work that other I/O waits for.
 */
#ifndef QCOW2_SCOPE_H
#define QCOW2_SCOPE_H

#include <linux/sched.h>

/**
 * qcow2_scope_enter() - begin work that other I/O waits for
 *
 * Memory must not be waited for by I/O to this device, and a worker that cleans
 * pages must not be throttled for dirtying others: with a buffered store, and
 * with a direct one for parts of blocks that the file shares (XFS).
 * Return: what qcow2_scope_leave() is to restore.
 */
static inline unsigned int qcow2_scope_enter(void)
{
	unsigned int old = current->flags & (PF_MEMALLOC_NOIO |
					     PF_LOCAL_THROTTLE);

	current->flags |= PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE;
	return old;
}

/**
 * qcow2_scope_leave() - end what qcow2_scope_enter() began
 * @old: its return value
 */
static inline void qcow2_scope_leave(unsigned int old)
{
	current->flags &= ~(PF_MEMALLOC_NOIO | PF_LOCAL_THROTTLE);
	current->flags |= old;
}

#endif
