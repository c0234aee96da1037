// SPDX-License-Identifier: GPL-2.0-only
/*
 * Images that others have below them. One that several devices use is open once,
 * with one cache of its metadata, and is read anew when none of them was live.
 * Nobody writes to it meanwhile, which QEMU's locks see to.
 *
 * Locks: base_list_lock around the list of all and the number of their users,
 * taken with none of ours held; base.lock around start, stop and what is asked of
 * the header, inside of target.state_lock.
 */
#include "base.h"

#include <linux/slab.h>

static DEFINE_MUTEX(base_list_lock);
static LIST_HEAD(base_list);

static void base_destroy(struct qcow2_base *b)
{
	qcow2_store_close(&b->store);
	qcow2_core_exit(&b->core);
	kfree(b);
}

static struct qcow2_base *base_new(bool raw)
{
	struct qcow2_base *b = kzalloc(sizeof(*b), GFP_KERNEL);

	if (!b)
		return NULL;
	b->raw = raw;
	b->users = 1;
	mutex_init(&b->lock);
	b->layer.core = &b->core;
	b->layer.meta = &b->store;
	b->layer.data = &b->store;
	b->layer.read_only = true;
	b->layer.judge = qcow2_entry_judge;
	b->core.mode = QCOW2_MODE_RO;
	if (!qcow2_core_init(&b->core, NULL))
		return b;
	base_destroy(b);
	return NULL;
}

static int base_open(struct qcow2_base *b, const char *spec)
{
	struct qcow2_reason why;
	int r;

	r = qcow2_store_open(&b->store, &b->core, spec, true);
	if (r) {
		DMERR("cannot open the backing image %s: error %d", spec, r);
		return r;
	}
	r = b->raw ? 0 : qcow2_header_probe(&b->layer, 0, &why);
	if (r)
		qcow2_err(&b->core, "%s", why.text);
	return r;
}

/**
 * qcow2_base_get() - open an image that is below another one
 * @spec: "/path" or "fd:<n>"
 * @raw: its format
 *
 * Only reads. Context: the constructor, in the process that runs dmsetup.
 * Return: the image with its header as it is now, for qcow2_base_share() or
 * qcow2_base_drop(); or an error pointer, with a line in the log.
 */
struct qcow2_base *qcow2_base_get(const char *spec, bool raw)
{
	struct qcow2_base *b = base_new(raw);
	int r;

	if (!b)
		return ERR_PTR(-ENOMEM);
	r = base_open(b, spec);
	if (!r)
		return b;
	base_destroy(b);
	return ERR_PTR(r);
}

static struct qcow2_base *base_find(const struct qcow2_base *like)
{
	struct qcow2_base *b;

	lockdep_assert_held(&base_list_lock);
	list_for_each_entry(b, &base_list, node)
		if (b->raw == like->raw &&
		    qcow2_store_inode(&b->store) == qcow2_store_inode(&like->store))
			return b;
	return NULL;
}

/**
 * qcow2_base_drop() - undo qcow2_base_get()
 * @b: the image, which is not shared
 */
void qcow2_base_drop(struct qcow2_base *b)
{
	base_destroy(b);
}

/* What is known of an image that is not live may be old. */
static void base_renew(struct qcow2_base *b, const struct qcow2_base *fresh)
{
	mutex_lock(&b->lock);
	if (!b->live) {
		b->layer.geo = fresh->layer.geo;
		b->layer.backing = fresh->layer.backing;
	}
	mutex_unlock(&b->lock);
}

static int base_add(struct qcow2_base *b, u32 cache_kib)
{
	int r = qcow2_layer_init(&b->layer, cache_kib);

	lockdep_assert_held(&base_list_lock);
	if (r)
		qcow2_layer_exit(&b->layer);
	else
		list_add(&b->node, &base_list);
	return r;
}

/**
 * qcow2_base_share() - use the one that is open already, if there is one
 * @b: of qcow2_base_get(); taken over
 * @cache_kib: KiB of metadata to be cached at the most, if there is none
 *
 * Return: the image, for qcow2_base_put(); or an error pointer.
 */
struct qcow2_base *qcow2_base_share(struct qcow2_base *b, u32 cache_kib)
{
	struct qcow2_base *other;
	int r = 0;

	mutex_lock(&base_list_lock);
	other = base_find(b);
	if (other)
		other->users++;
	else
		r = base_add(b, cache_kib);
	mutex_unlock(&base_list_lock);
	if (!other && !r)
		return b;
	if (other)
		base_renew(other, b);
	base_destroy(b);
	return other ?: ERR_PTR(r);
}

/**
 * qcow2_base_fits() - whether the image that is to be below one is meant
 * @b: the one
 * @below: the name of that image, or NULL for none
 * @raw: its format
 *
 * Return: 0, or -EINVAL with a line in the log.
 */
int qcow2_base_fits(struct qcow2_base *b, const char *below, bool raw)
{
	int r;

	if (b->raw && below)
		qcow2_err(&b->core, "a raw image has no backing file, but the table says %s",
			  below);
	if (b->raw)
		return below ? -EINVAL : 0;
	mutex_lock(&b->lock);
	r = qcow2_header_fits(&b->layer, below, raw);
	mutex_unlock(&b->lock);
	return r;
}

/**
 * qcow2_base_put() - use an image no more
 * @b: the image, not live for this user
 */
void qcow2_base_put(struct qcow2_base *b)
{
	bool last;

	mutex_lock(&base_list_lock);
	last = !--b->users;
	if (last)
		list_del(&b->node);
	mutex_unlock(&base_list_lock);
	if (!last)
		return;
	qcow2_layer_exit(&b->layer);
	base_destroy(b);
}

/**
 * qcow2_base_is() - whether two images are the same
 * @b: one
 * @st: where the other is
 *
 * Return: true if they are in the same file or block device.
 */
bool qcow2_base_is(const struct qcow2_base *b, const struct qcow2_store *st)
{
	return qcow2_store_inode(&b->store) == qcow2_store_inode(st);
}

static int base_load_qcow2(struct qcow2_base *b)
{
	struct qcow2_table reftable = {};
	struct qcow2_reason why;
	int r;

	r = qcow2_header_probe(&b->layer, 0, &why);
	if (r) {
		qcow2_err(&b->core, "%s", why.text);
		return r;
	}
	r = qcow2_layer_load(&b->layer, NULL, &reftable);
	qcow2_table_exit(&reftable);
	b->size = b->layer.geo.size;
	return r;
}

static void base_unload(struct qcow2_base *b)
{
	qcow2_layer_unload(&b->layer);
	qcow2_report_again(&b->core);
	/* It was not written: nobody has to be told of anything. */
	qcow2_store_end(&b->store);
}

static int base_load(struct qcow2_base *b)
{
	int r = qcow2_store_begin(&b->store);

	if (r)
		return r;
	if (!b->raw)
		r = base_load_qcow2(b);
	else
		/* The rest of its last block reads as zeros. */
		b->size = round_up(qcow2_store_size(&b->store),
				   (u64)max_t(u32, b->store.align, SECTOR_SIZE));
	if (r)
		base_unload(b);
	return r;
}

static int base_lock_image(struct qcow2_base *b)
{
	int r;

	if (b->live && !b->lockers) {
		qcow2_err(&b->core, "in use by a device with no_lock, so that others may have written to it");
		return -EBUSY;
	}
	r = b->lockers ? 0 : qcow2_store_lock(&b->store);
	if (!r)
		b->lockers++;
	return r;
}

static void base_unlock_image(struct qcow2_base *b)
{
	if (!--b->lockers)
		qcow2_store_unlock(&b->store);
}

/**
 * qcow2_base_start() - a device that uses an image becomes live
 * @b: the image
 * @no_lock: leave QEMU's locks alone
 *
 * Context: preresume. Return: 0 or a negative error with a line in the log.
 */
int qcow2_base_start(struct qcow2_base *b, bool no_lock)
{
	int r;

	mutex_lock(&b->lock);
	r = no_lock ? 0 : base_lock_image(b);
	if (!r && !b->live) {
		r = base_load(b);
		if (r && !no_lock)
			base_unlock_image(b);
	}
	if (!r)
		b->live++;
	mutex_unlock(&b->lock);
	return r;
}

/**
 * qcow2_base_stop() - undo qcow2_base_start()
 * @b: the image
 * @no_lock: as it was started
 */
void qcow2_base_stop(struct qcow2_base *b, bool no_lock)
{
	mutex_lock(&b->lock);
	if (!--b->live)
		base_unload(b);
	if (!no_lock)
		base_unlock_image(b);
	mutex_unlock(&b->lock);
}
