// SPDX-License-Identifier: GPL-2.0-only
/*
 * Errors and delays that were asked for, by operation and range.
 *
 * Locks: null_copy.fault_lock, a leaf.
 */
#include <linux/ctype.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/string.h>

#include "null-copy.h"

#define NULL_COPY_MAX_FAULTS	64
#define NULL_COPY_MAX_DELAY	(60ULL * USEC_PER_SEC)

enum fault_kind { FAULT_FAIL, FAULT_AFTER, FAULT_DELAY };

/**
 * struct null_copy_fault - one of them
 * @node: null_copy.faults
 * @ops: enum null_copy_fault_ops, any of which it is for
 * @start: first byte
 * @len: bytes
 * @kind: what happens
 * @value: bytes for FAULT_AFTER, microseconds for FAULT_DELAY
 */
struct null_copy_fault {
	struct list_head node;
	unsigned int ops;
	u64 start;
	u64 len;
	enum fault_kind kind;
	u64 value;
};

static const struct {
	const char *name;
	unsigned int ops;
} op_names[] = {
	{ "read", NULL_COPY_READ },
	{ "write", NULL_COPY_WRITE },
	{ "discard", NULL_COPY_DISCARD },
	{ "flush", NULL_COPY_FLUSH },
	{ "copy", NULL_COPY_COPY },
	{ "any", NULL_COPY_READ | NULL_COPY_WRITE | NULL_COPY_DISCARD |
		 NULL_COPY_FLUSH | NULL_COPY_COPY },
};

static const char * const kind_names[] = {
	[FAULT_FAIL] = "fail",
	[FAULT_AFTER] = "after",
	[FAULT_DELAY] = "delay",
};

static int parse(struct null_copy_fault *f, const char *line)
{
	char op[8], kind[8];
	int n, i;
	u64 end;

	n = sscanf(line, "%7s %llu %llu %7s %llu", op, &f->start, &f->len, kind,
		   &f->value);
	if (n < 4)
		return -EINVAL;
	for (i = 0; i < ARRAY_SIZE(op_names); i++)
		if (!strcmp(op, op_names[i].name))
			f->ops = op_names[i].ops;
	i = match_string(kind_names, ARRAY_SIZE(kind_names), kind);
	if (i < 0 || !f->ops || !f->len)
		return -EINVAL;
	f->kind = i;
	if (n != (f->kind == FAULT_FAIL ? 4 : 5) ||
	    check_add_overflow(f->start, f->len, &end))
		return -EINVAL;
	if (f->kind == FAULT_DELAY && f->value > NULL_COPY_MAX_DELAY)
		return -ERANGE;
	return 0;
}

/**
 * null_copy_fault_add() - add a fault
 * @nc: the disk
 * @line: "<operation> <start> <length> fail|after <bytes>|delay <us>"
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
	err = parse(f, line);
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
		for (i = 0; i < ARRAY_SIZE(op_names); i++)
			if (op_names[i].ops == f->ops)
				name = op_names[i].name;
		n += scnprintf(page + n, PAGE_SIZE - n, "%s %llu %llu %s",
			       name, f->start, f->len, kind_names[f->kind]);
		if (f->kind != FAULT_FAIL)
			n += scnprintf(page + n, PAGE_SIZE - n, " %llu",
				       f->value);
		n += scnprintf(page + n, PAGE_SIZE - n, "\n");
	}
	spin_unlock(&nc->fault_lock);
	return n;
}

static bool hits(const struct null_copy_fault *f, u64 pos, u64 len)
{
	/* A flush has no range, and is hit wherever the fault is. */
	return !len || (pos < f->start + f->len && f->start < pos + len);
}

/**
 * null_copy_fault_check() - what is to happen to a request
 * @nc: the disk
 * @op: what it does
 * @pos: byte offset
 * @len: bytes
 * @v: in: allowed is @len, or less; out: the verdict, never better than before
 */
void null_copy_fault_check(struct null_copy *nc, enum null_copy_fault_ops op,
			   u64 pos, u64 len, struct null_copy_verdict *v)
{
	u64 block = nc->config.blocksize, allowed;
	struct null_copy_fault *f;

	if (list_empty(&nc->faults))
		return;
	spin_lock(&nc->fault_lock);
	list_for_each_entry(f, &nc->faults, node) {
		if (!(f->ops & op) || !hits(f, pos, len))
			continue;
		if (f->kind == FAULT_DELAY) {
			v->delay_ns = min(v->delay_ns +
					  f->value * NSEC_PER_USEC,
					  NULL_COPY_MAX_DELAY * NSEC_PER_USEC);
			continue;
		}
		allowed = f->kind == FAULT_AFTER ? rounddown(f->value, block) :
						   0;
		v->allowed = min(v->allowed, allowed);
		v->fails = true;
	}
	spin_unlock(&nc->fault_lock);
}
