/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_BLK_MQ_H
#define SHIM_BLK_MQ_H

#include <linux/blkdev.h>

struct request_queue;

struct request {
	void *end_io_data;
};

#endif
