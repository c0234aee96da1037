/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_SPINLOCK_H
#define SHIM_SPINLOCK_H

/*
 * Locks that see to it that they are used as the kernel's lockdep wants it: in
 * one order; none that an interrupt takes is held with interrupts enabled; what
 * is said to be held is held, by this task.
 */
#include <linux/sched.h>

struct sim_task;

/* All locks that one line initialises; @name is what it says. */
struct sim_class {
	const char *name;
	unsigned int id;
};

struct sim_lock {
	struct sim_class *class;
	struct sim_task *owner;
};

void sim_lock_init(struct sim_lock *l, struct sim_class *c);
void sim_lock_take(struct sim_lock *l, bool sleeps);
void sim_lock_release(struct sim_lock *l, bool sleeps);
void sim_lock_assert_held(const struct sim_lock *l, const char *what);
void sim_irqs_disable(void);
void sim_irqs_enable(void);
bool sim_irqs_save(void);
void sim_irqs_restore(bool off);

/* That @outer is taken before @inner, whatever else is seen to be done. */
void sim_lock_order(const struct sim_lock *outer, const struct sim_lock *inner);

typedef struct {
	struct sim_lock dep;
} spinlock_t;

#define spin_lock_init(l)						\
do {									\
	static struct sim_class __class = { .name = #l };		\
									\
	sim_lock_init(&(l)->dep, &__class);				\
} while (0)

#define lockdep_assert_held(l) sim_lock_assert_held(&(l)->dep, #l)

static inline void spin_lock(spinlock_t *l)
{
	sim_lock_take(&l->dep, false);
}

static inline bool spin_trylock(spinlock_t *l)
{
	if (l->dep.owner)
		return false;
	spin_lock(l);
	return true;
}

static inline void spin_unlock(spinlock_t *l)
{
	sim_lock_release(&l->dep, false);
	sim_preempt();
}

static inline void spin_lock_irq(spinlock_t *l)
{
	sim_irqs_disable();
	sim_lock_take(&l->dep, false);
}

static inline void spin_unlock_irq(spinlock_t *l)
{
	sim_lock_release(&l->dep, false);
	sim_irqs_enable();
	sim_preempt();
}

#define spin_lock_irqsave(l, flags)					\
do {									\
	(flags) = sim_irqs_save();					\
	sim_lock_take(&(l)->dep, false);				\
} while (0)

static inline void spin_unlock_irqrestore(spinlock_t *l, unsigned long flags)
{
	sim_lock_release(&l->dep, false);
	sim_irqs_restore(flags);
	sim_preempt();
}

#endif
