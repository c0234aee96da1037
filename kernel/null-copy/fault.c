// SPDX-License-Identifier: GPL-2.0-only
/*
 * Errors and delays that were asked for, by operation and range.
 *
 * Locks: null_copy.fault_lock, a leaf.
 */
#include <linux/kstrtox.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "null-copy.h"

#define NULL_COPY_MAX_FAULTS	64
#define NULL_COPY_MAX_DELAY	(60ULL * USEC_PER_SEC)

enum null_copy_fault_kind { NULL_COPY_FAIL, NULL_COPY_AFTER, NULL_COPY_DELAY };

/**
 * struct null_copy_fault - one of them
 * @node: null_copy.faults
 * @ops: enum null_copy_fault_ops, any of which it is for
 * @start: first byte
 * @len: bytes
 * @kind: what happens
 * @value: bytes for NULL_COPY_AFTER, microseconds for NULL_COPY_DELAY, how often
 *	for NULL_COPY_FAIL, 0 being always
 */
struct null_copy_fault {
	struct list_head node;
	unsigned int ops;
	u64 start;
	u64 len;
	enum null_copy_fault_kind kind;
	u64 value;
};

static const struct {
	const char *name;
	unsigned int ops;
} null_copy_op_names[] = {
	{ "read", NULL_COPY_READ },
	{ "write", NULL_COPY_WRITE },
	{ "discard", NULL_COPY_DISCARD },
	{ "flush", NULL_COPY_FLUSH },
	{ "copy", NULL_COPY_COPY },
	{ "any", NULL_COPY_READ | NULL_COPY_WRITE | NULL_COPY_DISCARD |
		 NULL_COPY_FLUSH | NULL_COPY_COPY },
};

static const char * const null_copy_kind_names[] = {
	[NULL_COPY_FAIL] = "fail",
	[NULL_COPY_AFTER] = "after",
	[NULL_COPY_DELAY] = "delay",
};

static int null_copy_fault_parse(struct null_copy_fault *f, const char *line)
{
	char op[8], kind[8];
	int i, used = 0;
	bool value;
	u64 end;

	if (sscanf(line, "%7s %llu %llu %7s %n", op, &f->start, &f->len, kind,
		   &used) != 4)
		return -EINVAL;
	value = line[used];
	if (value && kstrtou64(line + used, 10, &f->value))
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(null_copy_op_names); i++)
		if (!strcmp(op, null_copy_op_names[i].name))
			f->ops = null_copy_op_names[i].ops;
	i = match_string(null_copy_kind_names, ARRAY_SIZE(null_copy_kind_names),
			 kind);
	if (i < 0 || !f->ops || !f->len)
		return -EINVAL;
	f->kind = i;
	if ((f->kind == NULL_COPY_FAIL ? value && !f->value : !value) ||
	    check_add_overflow(f->start, f->len, &end))
		return -EINVAL;
	if (f->kind == NULL_COPY_DELAY && f->value > NULL_COPY_MAX_DELAY)
		return -ERANGE;
	return 0;
}

/**
 * null_copy_fault_add() - add a fault
 * @nc: the disk
 * @line: "<operation> <start> <length> fail [<times>]|after <bytes>|delay <us>"
 *
 * Return: 0 or a negative error.
 */
int null_copy_fault_add(struct null_copy *nc, const char *line)
{
	struct null_copy_fault *f = kzalloc(sizeof(*f), GFP_KERNEL), *other;
	unsigned int n = 0;
	int err;

	if (!f)
		return -ENOMEM;
	err = null_copy_fault_parse(f, line);
	if (err) {
		kfree(f);
		return err;
	}
	spin_lock(&nc->fault_lock);
	list_for_each_entry(other, &nc->faults, node)
		n++;
	if (n < NULL_COPY_MAX_FAULTS)
		list_add_tail(&f->node, &nc->faults);
	spin_unlock(&nc->fault_lock);
	if (n < NULL_COPY_MAX_FAULTS)
		return 0;
	kfree(f);
	return -ENOSPC;
}

/**
 * null_copy_fault_clear() - no more faults
 * @nc: the disk
 */
void null_copy_fault_clear(struct null_copy *nc)
{
	struct null_copy_fault *f, *next;
	LIST_HEAD(gone);

	spin_lock(&nc->fault_lock);
	list_splice_init(&nc->faults, &gone);
	spin_unlock(&nc->fault_lock);
	list_for_each_entry_safe(f, next, &gone, node)
		kfree(f);
}

/**
 * null_copy_fault_show() - list the faults
 * @nc: the disk
 * @page: where to
 *
 * Return: how many bytes that are.
 */
ssize_t null_copy_fault_show(struct null_copy *nc, char *page)
{
	const char *name = "?";
	struct null_copy_fault *f;
	ssize_t n = 0;
	int i;

	spin_lock(&nc->fault_lock);
	list_for_each_entry(f, &nc->faults, node) {
		for (i = 0; i < ARRAY_SIZE(null_copy_op_names); i++)
			if (null_copy_op_names[i].ops == f->ops)
				name = null_copy_op_names[i].name;
		n += scnprintf(page + n, PAGE_SIZE - n, "%s %llu %llu %s", name,
			       f->start, f->len, null_copy_kind_names[f->kind]);
		if (f->value || f->kind != NULL_COPY_FAIL)
			n += scnprintf(page + n, PAGE_SIZE - n, " %llu",
				       f->value);
		n += scnprintf(page + n, PAGE_SIZE - n, "\n");
	}
	spin_unlock(&nc->fault_lock);
	return n;
}

static bool null_copy_fault_touches(const struct null_copy_fault *f, u64 pos,
				    u64 len)
{
	/* A flush has no range, and is hit wherever the fault is. */
	return !len || (pos < f->start + f->len && f->start < pos + len);
}

static bool null_copy_fault_hits(const struct null_copy_fault *f,
				 enum null_copy_fault_ops op, u64 pos, u64 to,
				 u64 len)
{
	return (f->ops & op) && (null_copy_fault_touches(f, pos, len) ||
				 null_copy_fault_touches(f, to, len));
}

/* One that has failed as often as it was to is gone. */
static void null_copy_fault_used(struct null_copy_fault *f)
{
	if (f->kind != NULL_COPY_FAIL || !f->value || --f->value)
		return;
	list_del(&f->node);
	kfree(f);
}

/**
 * null_copy_fault_check() - what is to happen to a request
 * @nc: the disk
 * @op: what it does
 * @pos: byte offset
 * @to: the same of what is written, if it is a copy; else @pos
 * @len: bytes
 * @v: in: allowed is @len, or less; out: the verdict, never better than before
 */
void null_copy_fault_check(struct null_copy *nc, enum null_copy_fault_ops op,
			   u64 pos, u64 to, u64 len,
			   struct null_copy_verdict *v)
{
	u64 block = nc->config.blocksize, allowed;
	struct null_copy_fault *f, *next;

	if (list_empty(&nc->faults))
		return;
	spin_lock(&nc->fault_lock);
	list_for_each_entry_safe(f, next, &nc->faults, node) {
		if (!null_copy_fault_hits(f, op, pos, to, len))
			continue;
		if (f->kind == NULL_COPY_DELAY) {
			v->delay_ns = min(v->delay_ns +
					  f->value * NSEC_PER_USEC,
					  NULL_COPY_MAX_DELAY * NSEC_PER_USEC);
			continue;
		}
		allowed = 0;
		if (f->kind == NULL_COPY_AFTER)
			allowed = rounddown(f->value, block);
		v->allowed = min(v->allowed, allowed);
		v->fails = true;
		null_copy_fault_used(f);
	}
	spin_unlock(&nc->fault_lock);
}
