/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_DEVICE_MAPPER_H
#define SHIM_DEVICE_MAPPER_H

#include <linux/blkdev.h>

struct dm_dev;

/* One that has nothing but a name. */
struct dm_table {
	const char *name;
	unsigned int events;
};

struct dm_target {
	struct dm_table *table;
	sector_t len;
};

void sim_printk(const char *level, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

#define DMERR(fmt, ...) sim_printk("error", fmt, ##__VA_ARGS__)
#define DMINFO(fmt, ...) sim_printk("info", fmt, ##__VA_ARGS__)

static inline const char *dm_table_device_name(struct dm_table *t)
{
	return t->name;
}

static inline void dm_table_event(struct dm_table *t)
{
	sim_might_sleep(__func__);
	t->events++;
}

#endif
