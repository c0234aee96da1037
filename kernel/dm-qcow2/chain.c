// SPDX-License-Identifier: GPL-2.0-only
/*
 * The images below that a table line names, nearest first.
 *
 * No name that a header has is ever opened; but what the headers say of the
 * chain must fit the table. Takes no locks of its own.
 */
#include "target.h"

#include <linux/slab.h>

/**
 * struct qcow2_link - an image of the chain
 * @base: the image
 * @path: its name, for the table
 * @dev: device-mapper's reference if it is a block device, else NULL
 */
struct qcow2_link {
	struct qcow2_base *base;
	char *path;
	struct dm_dev *dev;
};

static void chain_close_link(struct qcow2_target *t, struct qcow2_link *link)
{
	if (link->dev)
		dm_put_device(t->ti, link->dev);
	if (link->base)
		qcow2_base_put(link->base);
	kfree(link->path);
}

/**
 * qcow2_chain_close() - undo qcow2_chain_open(), whole, half or not done
 * @t: the target, not live
 */
void qcow2_chain_close(struct qcow2_target *t)
{
	struct qcow2_chain *c = &t->chain;
	u32 i;

	for (i = 0; c->links && i < c->nr; i++)
		chain_close_link(t, &c->links[i]);
	kvfree(c->links);
	kvfree(c->below);
	memset(c, 0, sizeof(*c));
}

/* Whether an image is in the chain already, which would read itself. */
static bool chain_has(const struct qcow2_target *t, u32 nr,
		      const struct qcow2_base *b)
{
	u32 i;

	if (qcow2_base_is(b, &t->dev.store) || qcow2_base_is(b, qcow2_data(&t->dev)))
		return true;
	for (i = 0; i < nr; i++)
		if (qcow2_base_is(b, &t->chain.links[i].base->store))
			return true;
	return false;
}

/* Whether an image may be below the last of those that are open. */
static int chain_check(struct qcow2_target *t, u32 nr,
		       const struct qcow2_base *b)
{
	struct gendisk *disk = dm_disk(dm_table_get_md(t->ti->table));

	if (chain_has(t, nr, b) || qcow2_store_lies_on(&b->store, disk)) {
		qcow2_err(&t->dev.core, "the backing image %s is in the chain already, or lies on this very device",
			  b->core.path);
		return -EINVAL;
	}
	if (!t->opt.accept_loss && qcow2_loss_is_lost(&b->store)) {
		qcow2_err(&t->dev.core, "changes to the backing image %s were lost: it will be refused without accept_loss",
			  b->core.path);
		return -EBUSY;
	}
	if (nr)
		return qcow2_base_fits(t->chain.links[nr - 1].base,
				       b->core.path, b->raw);
	return qcow2_header_fits(&t->dev.image.layer, b->core.path, b->raw);
}

static int chain_claim(struct qcow2_target *t, struct qcow2_link *link)
{
	const struct qcow2_store *st = &link->base->store;
	int r;

	if (!st->bdev)
		return 0;
	r = qcow2_bdev_claim(t->ti, st->lock_file, true, &link->dev);
	if (r)
		qcow2_err(&t->dev.core, "cannot use the backing image %s: error %d",
			  link->path, r);
	return r;
}

static int chain_open_one(struct qcow2_target *t, u32 i,
			  const struct qcow2_backing_arg *arg)
{
	struct qcow2_link *link = &t->chain.links[i];
	struct qcow2_base *b = qcow2_base_get(arg->spec, arg->raw);
	int r;

	if (IS_ERR(b))
		return PTR_ERR(b);
	r = chain_check(t, i, b);
	link->path = kstrdup(b->core.path, GFP_KERNEL);
	if (r || !link->path) {
		qcow2_base_drop(b);
		kfree(link->path);
		return r ?: -ENOMEM;
	}
	b = qcow2_base_share(b, t->opt.cache_kib);
	if (IS_ERR(b)) {
		kfree(link->path);
		return PTR_ERR(b);
	}
	link->base = b;
	t->chain.nr = i + 1;
	return chain_claim(t, link);
}

/**
 * qcow2_chain_open() - open and validate the images below, and change nothing
 * @t: the target with its image open
 * @args: what the table line says
 * @nr: how many
 *
 * Context: the constructor. Return: 0 or a negative error with a line in the
 * log; qcow2_chain_close() is to be called either way.
 */
int qcow2_chain_open(struct qcow2_target *t,
		     const struct qcow2_backing_arg *args, u32 nr)
{
	struct qcow2_chain *c = &t->chain;
	int r = 0;
	u32 i;

	if (!nr)
		return qcow2_header_fits(&t->dev.image.layer, NULL, false);
	c->links = kvcalloc(nr, sizeof(*c->links), GFP_KERNEL);
	c->below = kvcalloc(nr, sizeof(*c->below), GFP_KERNEL);
	if (!c->links || !c->below)
		return -ENOMEM;
	for (i = 0; !r && i < nr; i++)
		r = chain_open_one(t, i, &args[i]);
	if (r)
		return r;
	return qcow2_base_fits(c->links[nr - 1].base, NULL, false);
}

static void chain_stop(struct qcow2_target *t, u32 nr)
{
	while (nr--)
		qcow2_base_stop(t->chain.links[nr].base, t->opt.no_lock);
}

/* What map sees of an image of the chain, which is live. */
static int chain_show(struct qcow2_target *t, u32 i)
{
	struct qcow2_chain *c = &t->chain;
	struct qcow2_base *b = c->links[i].base, *next = NULL;

	if (i + 1 < c->nr)
		next = c->links[i + 1].base;
	c->below[i] = (struct qcow2_below) {
		.layer = b->raw ? NULL : &b->layer,
		.store = &b->store,
		.size = b->size,
	};
	return qcow2_base_fits(b, next ? next->core.path : NULL,
			       next && next->raw);
}

/**
 * qcow2_chain_start() - the device becomes live
 * @t: the target
 *
 * Context: preresume. Return: 0 or a negative error with a line in the log.
 */
int qcow2_chain_start(struct qcow2_target *t)
{
	struct qcow2_chain *c = &t->chain;
	struct qcow2_map *m = &t->dev.map;
	int r = 0;
	u32 i;

	for (i = 0; !r && i < c->nr; i++) {
		r = qcow2_base_start(c->links[i].base, t->opt.no_lock);
		if (r)
			break;
		r = chain_show(t, i);
	}
	/* All that were started, the one whose header does not fit, too. */
	if (r) {
		chain_stop(t, i);
		return r;
	}
	m->below = c->below;
	m->nr_below = c->nr;
	return 0;
}

/**
 * qcow2_chain_stop() - undo qcow2_chain_start()
 * @t: the target
 */
void qcow2_chain_stop(struct qcow2_target *t)
{
	t->dev.map.nr_below = 0;
	chain_stop(t, t->chain.nr);
}

/**
 * qcow2_chain_align() - note what the stores of the chain need of I/O
 * @t: the target, opened
 */
void qcow2_chain_align(struct qcow2_target *t)
{
	struct qcow2_device *d = &t->dev;
	const struct qcow2_store *st = qcow2_data(d);
	u32 i;

	d->map.align = st->align;
	d->mem_align = st->mem_align;
	for (i = 0; i < t->chain.nr; i++) {
		st = &t->chain.links[i].base->store;
		if (!st->direct)
			continue;
		d->map.align = max(d->map.align, st->align);
		d->mem_align = max(d->mem_align, st->mem_align);
	}
}

/**
 * qcow2_chain_name() - the nearest image below
 * @t: the target, opened
 * @raw: set to whether it is raw
 *
 * Return: its name, or NULL if there is none.
 */
const char *qcow2_chain_name(const struct qcow2_target *t, bool *raw)
{
	const struct qcow2_chain *c = &t->chain;

	*raw = c->nr && c->links->base->raw;
	return c->nr ? c->links->path : NULL;
}

/**
 * qcow2_chain_devices() - call a function for each block device of the chain
 * @t: the target
 * @fn: as for dm_target_type.iterate_devices
 * @data: the same
 *
 * Return: what @fn returns if that is not 0.
 */
int qcow2_chain_devices(struct qcow2_target *t, iterate_devices_callout_fn fn,
			void *data)
{
	struct dm_dev *dev;
	int r = 0;
	u32 i;

	for (i = 0; !r && i < t->chain.nr; i++) {
		dev = t->chain.links[i].dev;
		if (dev)
			r = fn(t->ti, dev, 0, bdev_nr_sectors(dev->bdev), data);
	}
	return r;
}

/**
 * qcow2_chain_arg() - what the table line says of an image of the chain
 * @t: the target
 * @i: which one
 * @path: set to its name
 *
 * Return: its format.
 */
const char *qcow2_chain_arg(const struct qcow2_target *t, u32 i,
			    const char **path)
{
	*path = t->chain.links[i].path;
	return t->chain.links[i].base->raw ? "raw" : "qcow2";
}

/**
 * qcow2_chain_sum() - what a counter has come to in all images of the chain
 * @t: the target
 * @which: the counter
 *
 * Return: its value, whatever device it was counted for.
 */
u64 qcow2_chain_sum(const struct qcow2_target *t, enum qcow2_stat which)
{
	u64 total = 0;
	u32 i;

	for (i = 0; i < t->chain.nr; i++)
		total += qcow2_stat_sum(&t->chain.links[i].base->core, which);
	return total;
}
