/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_SIM_H
#define SHIM_SIM_H

/*
 * The machine that the shim runs kernel code on: tasks that take turns where
 * they wait, and things that happen in between, all in an order that a seed
 * decides. One processor, one thread: what runs, runs until it waits, or until
 * one of the points where it may be put aside (sim_preempt()).
 *
 * For C and C++.
 */
#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/**
 * struct sim_config - what a machine is like
 * @seed: decides the order of everything
 * @timers: timers fire by themselves; else only when sim_let_time_pass() is
 *	called, so that nothing is saved by a timer from waiting for ever
 * @one_worker: there is no memory for threads: each workqueue has its rescuer
 * @memory_short: so many percent of the allocations that have a reserve fail
 */
struct sim_config {
	uint64_t seed;
	bool timers;
	bool one_worker;
	unsigned int memory_short;
};

/* Begins anew, and forgets what an earlier run has left. */
void sim_reset(const struct sim_config *config);

/*
 * Runs @fn as a task, and everything else, until it returns. False if something
 * failed: sim_failure() says what.
 */
bool sim_run(void (*fn)(void *arg), void *arg);
const char *sim_failure(void);

/* Whether memory, tasks, or anything else is left; sets a failure then. */
bool sim_nothing_left(void);

/* Ends the run: there is something that must not be. From tasks and events. */
void sim_fail(const char *fmt, ...)
	__attribute__((noreturn, format(printf, 1, 2)));

/* In [0, bound). */
uint64_t sim_random(uint64_t bound);

/* Starts another task. */
void sim_spawn(void (*fn)(void *arg), void *arg);

/* Waits until @cond is true, which @why names. */
void sim_wait(bool (*cond)(void *arg), void *arg, const char *why);

/*
 * Has @fn called some time later, in interrupt context: not before so many other
 * things have happened, if there are any.
 */
void sim_event(void (*fn)(void *arg), void *arg, unsigned int others);

/* The next timer fires, if there is one. */
void sim_let_time_pass(void);

/* A place where others may run. */
void sim_preempt(void);

/* What may sleep is about to be done: fails where that is not allowed. */
void sim_might_sleep(const char *what);
bool sim_in_interrupt(void);

/* The holder of this srcu_read_lock() is I/O from now on, and no task. */
void sim_srcu_hand_over(int idx);

/* Memory is short: whoever can gives some back. */
void sim_shrink(unsigned long nr);

/* The last lines of the kernel log, and its end of the present run. */
const char *sim_log(void);

#ifdef __cplusplus
}
#endif

#endif
