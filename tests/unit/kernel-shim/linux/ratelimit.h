/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_RATELIMIT_H
#define SHIM_RATELIMIT_H

/* Nothing is held back: all that is logged may be of interest. */
struct ratelimit_state {
	int unused;
};

#define DEFAULT_RATELIMIT_INTERVAL 0
#define DEFAULT_RATELIMIT_BURST 0
#define DEFINE_RATELIMIT_STATE(name, interval, burst) \
	struct ratelimit_state name = { (interval) + (burst) }
#define __ratelimit(rs) (!(rs)->unused)

#endif
