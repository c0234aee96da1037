/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_PREEMPT_H
#define SHIM_PREEMPT_H

/* One thread does it all. */
#define preempt_disable_nested()	do { } while (0)
#define preempt_enable_nested()		do { } while (0)

#endif
