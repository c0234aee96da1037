/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_WORKQUEUE_H
#define SHIM_WORKQUEUE_H

#include <linux/completion.h>
#include <linux/list.h>

struct workqueue_struct;
struct work_struct;
typedef void (*work_func_t)(struct work_struct *work);

/**
 * struct work_struct - a work item
 * @func: does it
 * @node: on the list of those that are pending
 * @wq: where it was queued last
 * @seq: when
 */
struct work_struct {
	work_func_t func;
	struct list_head node;
	struct workqueue_struct *wq;
	u64 seq;
};

struct delayed_work {
	struct work_struct work;
	struct list_head timer;
	struct workqueue_struct *wq;
	unsigned long expires;
};

#define WQ_MEM_RECLAIM 1
#define WQ_UNBOUND 2

#define INIT_WORK(w, f)							\
do {									\
	(w)->func = (f);						\
	INIT_LIST_HEAD(&(w)->node);					\
} while (0)
#define INIT_DELAYED_WORK(w, f)						\
do {									\
	INIT_WORK(&(w)->work, f);					\
	INIT_LIST_HEAD(&(w)->timer);					\
} while (0)

struct workqueue_struct *alloc_workqueue(const char *name, unsigned int flags,
					 int max_active);
void destroy_workqueue(struct workqueue_struct *wq);
void flush_workqueue(struct workqueue_struct *wq);
bool queue_work(struct workqueue_struct *wq, struct work_struct *work);
bool queue_delayed_work(struct workqueue_struct *wq, struct delayed_work *dw,
			unsigned long delay);
bool flush_work(struct work_struct *work);
bool cancel_work_sync(struct work_struct *work);
bool cancel_delayed_work_sync(struct delayed_work *dw);
bool schedule_work(struct work_struct *work);

static inline struct delayed_work *to_delayed_work(struct work_struct *work)
{
	return container_of(work, struct delayed_work, work);
}

#endif
