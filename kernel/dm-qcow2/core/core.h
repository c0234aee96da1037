/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * core: what every floor above may tell, count and ask. Calls nothing of
 * dm-qcow2. Takes no locks.
 */
#ifndef QCOW2_CORE_H
#define QCOW2_CORE_H

#include <linux/atomic.h>
#include <linux/device-mapper.h>
#include <linux/percpu.h>
#include <linux/ratelimit.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#define DM_MSG_PREFIX "qcow2"

enum qcow2_stat {
	QCOW2_STAT_HIT,
	QCOW2_STAT_MISS,
	QCOW2_STAT_INLINE,
	QCOW2_STAT_PUNT,
	QCOW2_STAT_ALLOC,
	QCOW2_STAT_FREE,
	QCOW2_STAT_COW,
	QCOW2_STAT_COMMIT,
	QCOW2_STAT_UNPACK,
	QCOW2_STAT_NR,
};

struct qcow2_stats {
	u64 n[QCOW2_STAT_NR];
};

/**
 * enum qcow2_mode - what may be done with the image
 * @QCOW2_MODE_RW: everything
 * @QCOW2_MODE_RO: attached read_only
 * @QCOW2_MODE_FAIL: found corrupt; what can be read is read
 */
enum qcow2_mode { QCOW2_MODE_RW, QCOW2_MODE_RO, QCOW2_MODE_FAIL };

/**
 * struct qcow2_core - who it is that the floors tell of
 */
struct qcow2_core {
	/** @ti: the target, for events; NULL: several have it below */
	struct dm_target *ti;
	/** @device: the target's device, for the log */
	const char *device;
	/** @path: the image's name, for the log and the table */
	char *path;
	/** @mode: what may be done with the image */
	enum qcow2_mode mode;
	/** @reported: places that have been logged */
	struct xarray reported;
	/** @nr_reported: their number */
	atomic_t nr_reported;
	/** @event_work: raises a dm event */
	struct work_struct event_work;
	/** @errors: bios ended with an error */
	atomic64_t errors;
	/** @enospc_errors: those of them for want of space */
	atomic64_t enospc_errors;
	/** @enospc: out of space has been reported */
	bool enospc;
	/** @stats: counters */
	struct qcow2_stats __percpu *stats;
};

#define qcow2_count(c, what) this_cpu_inc((c)->stats->n[QCOW2_STAT_##what])
#define qcow2_count_n(c, what, k) \
	this_cpu_add((c)->stats->n[QCOW2_STAT_##what], k)

/* Messages name the device and the image. */
#define qcow2_err(c, fmt, ...)						\
	DMERR("%s: %s: " fmt, (c)->device, (c)->path, ##__VA_ARGS__)
#define qcow2_info(c, fmt, ...)						\
	DMINFO("%s: %s: " fmt, (c)->device, (c)->path, ##__VA_ARGS__)

/* For what a guest can bring about as often as it likes. */
#define qcow2_limit_err(c, fmt, ...)					\
do {									\
	static DEFINE_RATELIMIT_STATE(rs, DEFAULT_RATELIMIT_INTERVAL,	\
				      DEFAULT_RATELIMIT_BURST);		\
									\
	if (__ratelimit(&rs))						\
		qcow2_err(c, fmt, ##__VA_ARGS__);			\
} while (0)

int qcow2_core_init(struct qcow2_core *c, struct dm_target *ti);
void qcow2_core_exit(struct qcow2_core *c);
void qcow2_report(struct qcow2_core *c, u64 key, const char *what, u64 where);
void qcow2_report_again(struct qcow2_core *c);
void qcow2_fail(struct qcow2_core *c, const char *what, u64 where);
void qcow2_count_error(struct qcow2_core *c, int err);
u64 qcow2_stat_sum(const struct qcow2_core *c, enum qcow2_stat which);

#endif
