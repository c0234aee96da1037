/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_COMPLETION_H
#define SHIM_COMPLETION_H

#include <linux/wait.h>

struct completion {
	unsigned int done;
};

void wait_for_completion_io(struct completion *c);

#define wait_for_completion wait_for_completion_io

static inline void init_completion(struct completion *c)
{
	c->done = 0;
}

#define reinit_completion init_completion

static inline void complete(struct completion *c)
{
	c->done++;
}

#endif
