// SPDX-License-Identifier: GPL-2.0-only
/*
 * Tasks, and whatever has them go on: wake-ups, work items, timers, interrupts,
 * grace periods.
 *
 * A task has a stack of its own. It is left where it waits or may be put aside;
 * then sim_step() takes one of all things that can happen next, at random. If
 * there are none, whoever waits would do so for ever.
 */
#include "internal.h"

#include <linux/rcupdate.h>
#include <linux/srcu.h>

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <ucontext.h>

#define STACK_BYTES (128 << 10)
#define MAX_TASKS 64
#define MAX_EVENTS 512
#define MAX_PINS 512
#define LOG_LINES 8

struct workqueue_struct {
	const char *name;
	unsigned int running;
};

/**
 * struct thread - a task and how it is run
 * @task: what the others know of it
 * @jump: where to go on
 * @boot: its first step
 * @stack: its stack
 * @begun: @jump is set
 * @busy: @fn is not done
 * @cond: what it waits for; NULL if it can go on
 * @work: the work item that it does; may be gone
 * @wq: for whom
 */
struct thread {
	struct sim_task task;
	jmp_buf jump;
	ucontext_t boot;
	void *stack;
	bool begun;
	bool busy;
	void (*fn)(void *arg);
	void *arg;
	bool (*cond)(void *arg);
	void *cond_arg;
	const char *why;
	struct work_struct *work;
	struct workqueue_struct *wq;
	u64 seq;
};

struct event {
	void (*fn)(void *arg);
	void *arg;
	u64 due;
};

/* A reader inside SRCU; @task is NULL if it is I/O. */
struct pin {
	struct srcu_struct *srcu;
	struct sim_task *task;
	u64 seq;
};

enum choice_kind { GO_ON, EVENT, WORK, RCU, TIMER };

struct choice {
	enum choice_kind kind;
	void *what;
};

struct sim_config sim_config;
unsigned long jiffies;

static struct thread threads[MAX_TASKS];
static struct thread *running;
static jmp_buf scheduler;
static struct event events[MAX_EVENTS];
static unsigned int nr_events;
static struct pin pins[MAX_PINS];
static u64 pin_seq;
static struct rcu_head *rcu_first, **rcu_end = &rcu_first;
static u64 rcu_queued, rcu_done;
static struct list_head pending = LIST_HEAD_INIT(pending);
static struct list_head timers = LIST_HEAD_INIT(timers);
static struct workqueue_struct system_queue = { .name = "events" };
static u64 work_seq;
static u64 steps;
static u64 random_state;
static long allocations;
static char failure[512];
static char log_lines[LOG_LINES][256];
static unsigned int log_next;

uint64_t sim_random(uint64_t bound)
{
	u64 z = random_state += 0x9e3779b97f4a7c15ULL;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9ULL;
	z = (z ^ z >> 27) * 0x94d049bb133111ebULL;
	return bound ? (z ^ z >> 31) % bound : 0;
}

void sim_alloc_count(long n)
{
	allocations += n;
}

void sim_reset(const struct sim_config *config)
{
	struct thread *t;

	sim_config = *config;
	random_state = config->seed;
	for (t = threads; t < threads + MAX_TASKS; t++) {
		t->busy = false;
		t->begun = false;
	}
	running = NULL;
	nr_events = 0;
	memset(pins, 0, sizeof(pins));
	rcu_first = NULL;
	rcu_end = &rcu_first;
	rcu_queued = 0;
	rcu_done = 0;
	INIT_LIST_HEAD(&pending);
	INIT_LIST_HEAD(&timers);
	system_queue.running = 0;
	jiffies = 1000;
	allocations = 0;
	sim_memory_reset();
	failure[0] = 0;
	memset(log_lines, 0, sizeof(log_lines));
}

/* Leaves the running task; comes back when it is chosen again. */
static void thread_leave(void)
{
	if (!_setjmp(running->jump))
		_longjmp(scheduler, 1);
}

void sim_fail(const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(failure, sizeof(failure), fmt, args);
	va_end(args);
	if (!running)
		abort();
	_longjmp(scheduler, 1);
}

const char *sim_failure(void)
{
	return failure;
}

void sim_printk(const char *level, const char *fmt, ...)
{
	char text[200];
	va_list args;

	va_start(args, fmt);
	vsnprintf(text, sizeof(text), fmt, args);
	va_end(args);
	snprintf(log_lines[log_next++ % LOG_LINES], sizeof(log_lines[0]),
		 "%s: %s\n", level, text);
}

const char *sim_log(void)
{
	static char all[sizeof(log_lines) + 1];
	unsigned int i;

	all[0] = 0;
	for (i = 0; i < LOG_LINES; i++)
		strcat(all, log_lines[(log_next + i) % LOG_LINES]);
	return all;
}

struct sim_task *sim_task(void)
{
	return &running->task;
}

struct task_struct *sim_current(void)
{
	return &running->task.ts;
}

bool sim_in_interrupt(void)
{
	return running->task.interrupt;
}

void sim_might_sleep(const char *what)
{
	const struct sim_task *t = &running->task;

	if (t->interrupt || t->atomic || t->irqs_off)
		sim_fail("%s may sleep, %s", what,
			 t->interrupt ? "in an interrupt" :
			 t->nr_held ? "with a spinlock held" :
				      "inside rcu_read_lock()");
}

void sim_preempt(void)
{
	const struct sim_task *t = &running->task;

	if (!t->interrupt && !t->atomic && !t->irqs_off && !sim_random(8))
		thread_leave();
}

void sim_wait(bool (*cond)(void *arg), void *arg, const char *why)
{
	sim_might_sleep(why);
	running->cond = cond;
	running->cond_arg = arg;
	running->why = why;
	thread_leave();
}

static void thread_loop(void)
{
	for (;;) {
		running->fn(running->arg);
		if (running->task.nr_held || running->task.atomic ||
		    running->task.srcu || running->task.irqs_off ||
		    running->task.ts.flags)
			sim_fail("a task ends with a lock held or flags set");
		running->busy = false;
		thread_leave();
	}
}

static struct thread *thread_start(void (*fn)(void *arg), void *arg)
{
	struct thread *t = threads;

	while (t < threads + MAX_TASKS && t->busy)
		t++;
	if (t == threads + MAX_TASKS)
		sim_fail("there are more than %d tasks", MAX_TASKS);
	memset(&t->task, 0, sizeof(t->task));
	t->busy = true;
	t->fn = fn;
	t->arg = arg;
	t->cond = NULL;
	t->work = NULL;
	t->wq = NULL;
	return t;
}

/* On its own stack for the first time. */
static void thread_boot(struct thread *t)
{
	if (!t->stack)
		t->stack = malloc(STACK_BYTES);
	if (!t->stack)
		abort();
	getcontext(&t->boot);
	t->boot.uc_stack.ss_sp = t->stack;
	t->boot.uc_stack.ss_size = STACK_BYTES;
	makecontext(&t->boot, thread_loop, 0);
	t->begun = true;
	setcontext(&t->boot);
}

/* Runs a task until it leaves. */
static void thread_run(struct thread *t)
{
	running = t;
	if (!_setjmp(scheduler)) {
		if (t->begun)
			_longjmp(t->jump, 1);
		thread_boot(t);
	}
	running = NULL;
}

void sim_spawn(void (*fn)(void *arg), void *arg)
{
	thread_start(fn, arg);
}

void sim_event(void (*fn)(void *arg), void *arg, unsigned int others)
{
	if (nr_events == MAX_EVENTS)
		sim_fail("there are more than %d events", MAX_EVENTS);
	events[nr_events++] = (struct event) { fn, arg, steps + others };
}

/* An interrupt does not wait, and so is over when this returns. */
static void event_happen(struct event *e)
{
	struct event now = *e;
	struct thread *t = thread_start(now.fn, now.arg);

	*e = events[--nr_events];
	t->task.interrupt = true;
	thread_run(t);
}

static void rcu_run(void *arg)
{
	struct rcu_head *head = arg;

	head->func(head);
	rcu_done++;
}

static void rcu_happen(void)
{
	struct rcu_head *head = rcu_first;
	struct thread *t = thread_start(rcu_run, head);

	rcu_first = head->next;
	if (!rcu_first)
		rcu_end = &rcu_first;
	t->task.interrupt = true;
	thread_run(t);
}

static void work_do(void *arg)
{
	struct workqueue_struct *wq = running->wq;
	struct work_struct *work = arg;

	work->func(work);
	wq->running--;
	running->work = NULL;
}

static bool work_is_running(const struct work_struct *work)
{
	const struct thread *t;

	for (t = threads; t < threads + MAX_TASKS; t++)
		if (t->busy && t->work == work)
			return true;
	return false;
}

static void work_start(struct work_struct *work)
{
	struct thread *t = thread_start(work_do, work);

	list_del_init(&work->node);
	t->work = work;
	t->wq = work->wq;
	t->seq = work->seq;
	t->wq->running++;
	thread_run(t);
}

static void timer_fire(struct delayed_work *dw)
{
	list_del_init(&dw->timer);
	if (!time_after_eq(jiffies, dw->expires))
		jiffies = dw->expires;
	queue_work(dw->wq, &dw->work);
}

static void timer_interrupt(void *arg)
{
	timer_fire(arg);
}

static unsigned int choices_of_tasks(struct choice *c)
{
	unsigned int n = 0;
	struct thread *t;

	for (t = threads; t < threads + MAX_TASKS; t++)
		if (t->busy && (!t->cond || t->cond(t->cond_arg)))
			c[n++] = (struct choice) { GO_ON, t };
	return n;
}

static unsigned int choices_of_work(struct choice *c, unsigned int room)
{
	struct work_struct *work;
	unsigned int n = 0;

	list_for_each_entry(work, &pending, node) {
		if (n == room)
			break;
		if (work_is_running(work) ||
		    (sim_config.one_worker && work->wq->running))
			continue;
		c[n++] = (struct choice) { WORK, work };
	}
	return n;
}

static unsigned int choices_of_events(struct choice *c, u64 due)
{
	unsigned int n = 0, i;

	for (i = 0; i < nr_events; i++)
		if (events[i].due <= due)
			c[n++] = (struct choice) { EVENT, &events[i] };
	return n;
}

static void choice_take(const struct choice *c)
{
	struct thread *t;

	switch (c->kind) {
	case GO_ON:
		t = c->what;
		t->cond = NULL;
		thread_run(t);
		break;
	case EVENT:
		event_happen(c->what);
		break;
	case WORK:
		work_start(c->what);
		break;
	case RCU:
		rcu_happen();
		break;
	case TIMER:
		t = thread_start(timer_interrupt, c->what);
		t->task.interrupt = true;
		thread_run(t);
		break;
	}
}

static void *timer_next(void)
{
	struct delayed_work *dw, *next = NULL;

	list_for_each_entry(dw, &timers, timer)
		if (!next || !time_after_eq(dw->expires, next->expires))
			next = dw;
	return next;
}

/* Something happens; false if nothing can. */
static bool sim_step(void)
{
	struct choice c[MAX_TASKS + MAX_EVENTS + 64 + 2];
	unsigned int n = choices_of_tasks(c);
	void *timer = sim_config.timers ? timer_next() : NULL;

	steps++;
	n += choices_of_work(c + n, 64);
	if (rcu_first)
		c[n++] = (struct choice) { RCU, NULL };
	n += choices_of_events(c + n, steps);
	if (!n)
		n = choices_of_events(c, U64_MAX);
	/* Time is long. */
	if (timer && (!n || !sim_random(200)))
		c[n++] = (struct choice) { TIMER, timer };
	if (!n)
		return false;
	choice_take(&c[sim_random(n)]);
	return true;
}

static void sim_deadlock(void)
{
	size_t at = snprintf(failure, sizeof(failure), "deadlock:");
	const struct thread *t;

	for (t = threads; t < threads + MAX_TASKS; t++)
		if (t->busy && at < sizeof(failure))
			at += snprintf(failure + at, sizeof(failure) - at,
				       " %s waits for %s;",
				       t->wq ? t->wq->name : "a task", t->why);
}

bool sim_run(void (*fn)(void *arg), void *arg)
{
	struct thread *t = thread_start(fn, arg);

	while (t->busy && !failure[0])
		if (!sim_step())
			sim_deadlock();
	return !failure[0];
}

bool sim_nothing_left(void)
{
	const struct thread *t;
	unsigned int i, busy = 0, read = 0;

	while (!failure[0] && (rcu_first || nr_events))
		sim_step();
	for (t = threads; t < threads + MAX_TASKS; t++)
		busy += t->busy;
	for (i = 0; i < MAX_PINS; i++)
		read += !!pins[i].srcu;
	if (!failure[0] && (busy || read || !list_empty(&pending) ||
			    !list_empty(&timers) || allocations))
		snprintf(failure, sizeof(failure),
			 "left at the end: %u tasks, %u SRCU readers, %ld pieces of memory, work: %d, timers: %d",
			 busy, read, allocations, !list_empty(&pending),
			 !list_empty(&timers));
	return !failure[0];
}

void sim_let_time_pass(void)
{
	struct delayed_work *dw = timer_next();

	jiffies += HZ;
	if (dw)
		timer_fire(dw);
}

struct woken {
	const wait_queue_head_t *wq;
	u64 seen;
};

static bool woken_since(void *arg)
{
	const struct woken *w = arg;

	return w->wq->woken != w->seen;
}

void sim_wait_woken(const wait_queue_head_t *wq, u64 seen, const char *why)
{
	struct woken w = { wq, seen };

	if (running->task.srcu)
		sim_fail("%s is waited for inside srcu_read_lock()", why);
	sim_wait(woken_since, &w, why);
}

static bool completion_is_done(void *arg)
{
	return ((struct completion *)arg)->done;
}

void wait_for_completion_io(struct completion *c)
{
	sim_wait(completion_is_done, c, "a completion");
	c->done--;
}

void rcu_read_lock(void)
{
	running->task.atomic++;
}

void rcu_read_unlock(void)
{
	running->task.atomic--;
}

void call_rcu(struct rcu_head *head, void (*func)(struct rcu_head *head))
{
	head->func = func;
	head->next = NULL;
	*rcu_end = head;
	rcu_end = &head->next;
	rcu_queued++;
}

static bool rcu_is_done(void *arg)
{
	return rcu_done >= *(u64 *)arg;
}

void rcu_barrier(void)
{
	u64 until = rcu_queued;

	sim_wait(rcu_is_done, &until, "rcu_barrier()");
}

int init_srcu_struct(struct srcu_struct *s)
{
	s->readers = 0;
	return 0;
}

void cleanup_srcu_struct(struct srcu_struct *s)
{
	if (s->readers)
		sim_fail("cleanup_srcu_struct() with %u readers", s->readers);
}

int __srcu_read_lock(struct srcu_struct *s)
{
	int idx = 0;

	while (idx < MAX_PINS && pins[idx].srcu)
		idx++;
	if (idx == MAX_PINS)
		sim_fail("there are more than %d SRCU readers", MAX_PINS);
	pins[idx] = (struct pin) { s, &running->task, ++pin_seq };
	running->task.srcu++;
	s->readers++;
	return idx;
}

void sim_srcu_hand_over(int idx)
{
	if (pins[idx].task)
		pins[idx].task->srcu--;
	pins[idx].task = NULL;
}

void __srcu_read_unlock(struct srcu_struct *s, int idx)
{
	if (idx < 0 || idx >= MAX_PINS || pins[idx].srcu != s)
		sim_fail("srcu_read_unlock() of what is not locked");
	sim_srcu_hand_over(idx);
	pins[idx].srcu = NULL;
	s->readers--;
}

struct grace {
	const struct srcu_struct *srcu;
	u64 seq;
};

static bool grace_is_over(void *arg)
{
	const struct grace *g = arg;
	unsigned int i;

	for (i = 0; i < MAX_PINS; i++)
		if (pins[i].srcu == g->srcu && pins[i].seq <= g->seq)
			return false;
	return true;
}

void synchronize_srcu(struct srcu_struct *s)
{
	struct grace g = { s, pin_seq };

	if (running->task.srcu)
		sim_fail("synchronize_srcu() inside srcu_read_lock()");
	sim_wait(grace_is_over, &g, "synchronize_srcu()");
}

struct workqueue_struct *alloc_workqueue(const char *name, unsigned int flags,
					 int max_active)
{
	struct workqueue_struct *wq = malloc(sizeof(*wq));

	(void)flags;
	(void)max_active;
	if (!wq)
		abort();
	sim_alloc_count(1);
	*wq = (struct workqueue_struct) { .name = name };
	return wq;
}

struct flush {
	const struct workqueue_struct *wq;
	const struct work_struct *work;
	u64 seq;
};

/* Whether all of the queue, or of one item, that was queued until then is done. */
static bool flush_is_done(void *arg)
{
	const struct flush *f = arg;
	const struct work_struct *work;
	const struct thread *t;

	list_for_each_entry(work, &pending, node)
		if ((f->work ? work == f->work : work->wq == f->wq) &&
		    work->seq <= f->seq)
			return false;
	for (t = threads; t < threads + MAX_TASKS; t++)
		if (t->busy && t->work &&
		    (f->work ? t->work == f->work : t->wq == f->wq) &&
		    t->seq <= f->seq)
			return false;
	return true;
}

static void flush_wait(const struct workqueue_struct *wq,
		       const struct work_struct *work, const char *why)
{
	struct flush f = { wq, work, work_seq };

	sim_wait(flush_is_done, &f, why);
}

void flush_workqueue(struct workqueue_struct *wq)
{
	flush_wait(wq, NULL, wq->name);
}

static bool queue_is_idle(void *arg)
{
	struct flush f = { arg, NULL, U64_MAX };

	return flush_is_done(&f);
}

void destroy_workqueue(struct workqueue_struct *wq)
{
	sim_wait(queue_is_idle, wq, wq->name);
	sim_alloc_count(-1);
	free(wq);
}

bool queue_work(struct workqueue_struct *wq, struct work_struct *work)
{
	if (!list_empty(&work->node))
		return false;
	work->wq = wq;
	work->seq = ++work_seq;
	list_add_tail(&work->node, &pending);
	return true;
}

bool schedule_work(struct work_struct *work)
{
	return queue_work(&system_queue, work);
}

bool queue_delayed_work(struct workqueue_struct *wq, struct delayed_work *dw,
			unsigned long delay)
{
	if (!list_empty(&dw->timer) || !list_empty(&dw->work.node))
		return false;
	dw->wq = wq;
	dw->expires = jiffies + delay;
	list_add_tail(&dw->timer, &timers);
	return true;
}

bool flush_work(struct work_struct *work)
{
	flush_wait(NULL, work, "flush_work()");
	return true;
}

bool cancel_work_sync(struct work_struct *work)
{
	bool was = !list_empty(&work->node);

	list_del_init(&work->node);
	flush_wait(NULL, work, "cancel_work_sync()");
	return was;
}

bool cancel_delayed_work_sync(struct delayed_work *dw)
{
	bool was = !list_empty(&dw->timer);

	list_del_init(&dw->timer);
	return cancel_work_sync(&dw->work) || was;
}
