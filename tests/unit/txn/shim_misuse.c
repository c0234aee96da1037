// SPDX-License-Identifier: GPL-2.0-only
#include "shim_misuse.h"

#include <linux/mutex.h>
#include <linux/refcount.h>
#include <linux/slab.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>

static spinlock_t spin;
static struct mutex outer, inner;
static struct srcu_struct srcu;
static struct completion done;
static struct work_struct work;
static struct workqueue_struct *queue;
static wait_queue_head_t waiters;
static bool flag;

static void misuse_init(void)
{
	spin_lock_init(&spin);
	mutex_init(&outer);
	mutex_init(&inner);
	init_srcu_struct(&srcu);
	init_completion(&done);
	init_waitqueue_head(&waiters);
	flag = false;
}

static void sleeps_with_spinlock(void *arg)
{
	(void)arg;
	misuse_init();
	spin_lock_irq(&spin);
	mutex_lock(&outer);
}

static void sleeps_in_rcu(void *arg)
{
	(void)arg;
	rcu_read_lock();
	kfree(kmalloc(1, GFP_NOIO));
}

static void locks_both_ways(void *arg)
{
	(void)arg;
	misuse_init();
	mutex_lock(&outer);
	mutex_lock(&inner);
	mutex_unlock(&inner);
	mutex_unlock(&outer);
	mutex_lock(&inner);
	mutex_lock(&outer);
}

static void locks_twice(void *arg)
{
	(void)arg;
	misuse_init();
	mutex_lock(&outer);
	mutex_lock(&outer);
}

static void interrupt_locks(void *arg)
{
	unsigned long flags;

	(void)arg;
	spin_lock_irqsave(&spin, flags);
	spin_unlock_irqrestore(&spin, flags);
	complete(&done);
}

static void leaves_interrupts_enabled(void *arg)
{
	(void)arg;
	misuse_init();
	sim_event(interrupt_locks, NULL, 0);
	wait_for_completion(&done);
	spin_lock(&spin);
}

static void interrupt_sleeps(void *arg)
{
	(void)arg;
	mutex_lock(&outer);
}

static void has_interrupt_sleep(void *arg)
{
	(void)arg;
	misuse_init();
	sim_event(interrupt_sleeps, NULL, 0);
	wait_for_completion(&done);
}

static void waits_for_itself(void *arg)
{
	(void)arg;
	misuse_init();
	__srcu_read_lock(&srcu);
	synchronize_srcu(&srcu);
}

static void waits_for_mutex_in_srcu(void *arg)
{
	(void)arg;
	misuse_init();
	__srcu_read_lock(&srcu);
	mutex_lock(&outer);
}

static void waits_for_io_that_reads(void *arg)
{
	(void)arg;
	misuse_init();
	sim_srcu_hand_over(__srcu_read_lock(&srcu));
	synchronize_srcu(&srcu);
}

static void sets_flag(struct work_struct *w)
{
	(void)w;
	flag = true;
}

static void sets_flag_and_wakes(struct work_struct *w)
{
	sets_flag(w);
	wake_up_all(&waiters);
}

static void is_never_woken(void *arg)
{
	(void)arg;
	misuse_init();
	INIT_WORK(&work, sets_flag);
	schedule_work(&work);
	wait_event(waiters, flag);
}

static void forgets_a_lock(void *arg)
{
	(void)arg;
	misuse_init();
	mutex_lock(&outer);
}

static void asserts_what_is_not_so(void *arg)
{
	(void)arg;
	misuse_init();
	lockdep_assert_held(&inner);
}

static void revives_a_reference(void *arg)
{
	refcount_t r;

	(void)arg;
	refcount_set(&r, 1);
	refcount_dec_and_test(&r);
	refcount_inc(&r);
}

const struct misuse misuses[] = {
	{ "sleep with a spinlock", "may sleep", sleeps_with_spinlock },
	{ "allocation in RCU", "may sleep", sleeps_in_rcu },
	{ "sleep in an interrupt", "may sleep", has_interrupt_sleep },
	{ "lock order", "against the order", locks_both_ways },
	{ "recursion", "taken twice", locks_twice },
	{ "interrupts enabled", "with interrupts enabled", leaves_interrupts_enabled },
	{ "grace period of its own", "inside srcu_read_lock", waits_for_itself },
	{ "mutex in SRCU", "inside srcu_read_lock", waits_for_mutex_in_srcu },
	{ "grace period without end", "deadlock", waits_for_io_that_reads },
	{ "no wake-up", "deadlock", is_never_woken },
	{ "lock left", "ends with a lock", forgets_a_lock },
	{ "assertion", "is not held", asserts_what_is_not_so },
	{ "dead reference", "none left", revives_a_reference },
	{}
};

static void reader_ends(void *arg)
{
	__srcu_read_unlock(&srcu, *(int *)arg);
}

void proper_use(void *arg)
{
	int idx;

	(void)arg;
	misuse_init();
	queue = alloc_workqueue("test", 0, 0);
	INIT_WORK(&work, sets_flag_and_wakes);
	queue_work(queue, &work);
	wait_event(waiters, flag);
	idx = __srcu_read_lock(&srcu);
	sim_srcu_hand_over(idx);
	sim_event(reader_ends, &idx, 3);
	synchronize_srcu(&srcu);
	sim_event(interrupt_locks, NULL, 0);
	wait_for_completion(&done);
	mutex_lock(&outer);
	spin_lock_irq(&spin);
	lockdep_assert_held(&spin);
	spin_unlock_irq(&spin);
	mutex_unlock(&outer);
	destroy_workqueue(queue);
}
