/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_JIFFIES_H
#define SHIM_JIFFIES_H

#define HZ 1000

extern unsigned long jiffies;

#define time_after_eq(a, b) ((long)((a) - (b)) >= 0)
#define time_before(a, b) (!time_after_eq(a, b))

#endif
