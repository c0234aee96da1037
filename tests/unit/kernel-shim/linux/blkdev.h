/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_BLKDEV_H
#define SHIM_BLKDEV_H

#include <linux/bio.h>

struct block_device;
struct gendisk;
struct cgroup_subsys_state;

#endif
