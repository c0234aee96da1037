// SPDX-License-Identifier: GPL-2.0-only
/*
 * Locks and their order.
 *
 * Locks that one line initialises are of one class. That a class was ever taken
 * while another was held is remembered, for all runs of the process; taking them
 * the other way round is a failure, whether or not it goes wrong that time.
 */
#include "internal.h"

#include <linux/mutex.h>

#define MAX_CLASSES 64

static struct sim_class *classes[MAX_CLASSES];
static unsigned int nr_classes;
/* A bit for each class that was taken inside this one. */
static u64 inside[MAX_CLASSES];
/* Classes taken in interrupts, and with interrupts enabled. */
static u64 taken_in_interrupt, taken_with_irqs;

void sim_lock_init(struct sim_lock *l, struct sim_class *c)
{
	if (!c->id) {
		if (nr_classes == MAX_CLASSES)
			sim_fail("there are more than %d classes of locks",
				 MAX_CLASSES);
		classes[nr_classes++] = c;
		c->id = nr_classes;
	}
	l->class = c;
	l->owner = NULL;
}

static unsigned int lock_bit(const struct sim_lock *l)
{
	if (!l->class)
		sim_fail("a lock is taken that is not initialised");
	return l->class->id - 1;
}

/* Whether @to was ever taken, by whatever way, inside @from. */
static bool lock_reaches(unsigned int from, unsigned int to)
{
	u64 seen = BIT_ULL(from), todo = seen;
	unsigned int i;

	while (todo) {
		i = __builtin_ctzll(todo);
		todo &= todo - 1;
		if (inside[i] & BIT_ULL(to))
			return true;
		todo |= inside[i] & ~seen;
		seen |= inside[i];
	}
	return false;
}

static void lock_note_order(unsigned int outer, unsigned int inner)
{
	if (inside[outer] & BIT_ULL(inner))
		return;
	if (outer == inner || lock_reaches(inner, outer))
		sim_fail("%s is taken inside %s, against the order of locks",
			 classes[inner]->name, classes[outer]->name);
	inside[outer] |= BIT_ULL(inner);
}

void sim_lock_order(const struct sim_lock *outer, const struct sim_lock *inner)
{
	lock_note_order(lock_bit(outer), lock_bit(inner));
}

static void lock_note_interrupts(const struct sim_task *t, unsigned int bit)
{
	if (t->interrupt)
		taken_in_interrupt |= BIT_ULL(bit);
	else if (!t->irqs_off)
		taken_with_irqs |= BIT_ULL(bit);
	if (taken_in_interrupt & taken_with_irqs & BIT_ULL(bit))
		sim_fail("%s is taken in interrupts, and elsewhere with interrupts enabled",
			 classes[bit]->name);
}

static bool lock_is_free(void *arg)
{
	return !((struct sim_lock *)arg)->owner;
}

static void lock_wait(struct sim_task *t, struct sim_lock *l)
{
	if (t->srcu)
		sim_fail("%s is waited for inside srcu_read_lock()",
			 l->class->name);
	sim_preempt();
	if (l->owner)
		sim_wait(lock_is_free, l, l->class->name);
}

void sim_lock_take(struct sim_lock *l, bool sleeps)
{
	struct sim_task *t = sim_task();
	unsigned int bit = lock_bit(l), i;

	if (sleeps)
		sim_might_sleep(l->class->name);
	if (l->owner == t)
		sim_fail("%s is taken twice", l->class->name);
	for (i = 0; i < t->nr_held; i++)
		lock_note_order(lock_bit(t->held[i]), bit);
	if (sleeps)
		lock_wait(t, l);
	else
		lock_note_interrupts(t, bit);
	/* Nobody is put aside while he holds a spinlock. */
	if (l->owner)
		sim_fail("%s is held by a task that has gone to sleep",
			 l->class->name);
	if (t->nr_held == SIM_HELD)
		sim_fail("more than %d locks are held at once", SIM_HELD);
	l->owner = t;
	t->held[t->nr_held++] = l;
	t->atomic += !sleeps;
}

void sim_lock_release(struct sim_lock *l, bool sleeps)
{
	struct sim_task *t = sim_task();
	unsigned int i;

	for (i = 0; i < t->nr_held && t->held[i] != l; i++)
		;
	if (i == t->nr_held || l->owner != t)
		sim_fail("%s is released by who does not hold it",
			 l->class ? l->class->name : "a lock");
	t->nr_held--;
	for (; i < t->nr_held; i++)
		t->held[i] = t->held[i + 1];
	l->owner = NULL;
	t->atomic -= !sleeps;
}

void sim_lock_assert_held(const struct sim_lock *l, const char *what)
{
	if (l->owner != sim_task())
		sim_fail("%s is not held", what);
}

void sim_irqs_disable(void)
{
	struct sim_task *t = sim_task();

	if (t->irqs_off)
		sim_fail("spin_lock_irq() with interrupts disabled, which its end enables");
	t->irqs_off = true;
}

void sim_irqs_enable(void)
{
	sim_task()->irqs_off = false;
}

bool sim_irqs_save(void)
{
	struct sim_task *t = sim_task();
	bool off = t->irqs_off;

	t->irqs_off = true;
	return off;
}

void sim_irqs_restore(bool off)
{
	sim_task()->irqs_off = off;
}
