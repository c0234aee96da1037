// SPDX-License-Identifier: GPL-2.0-only
/*
 * An image from preresume to postsuspend: locked and read anew, left clean and
 * let go of; and what becomes of it when that fails.
 *
 * Locks: target.state_lock around start, stop, and a commit that a message asks
 * for.
 */
#include "target.h"

#include <linux/slab.h>

#include "core/scope.h"

/**
 * qcow2_device_new() - make what a table line stands for
 * @ti: device-mapper's
 * @opt: what it says
 *
 * Return: the target, of which nothing is opened; NULL without memory.
 */
struct qcow2_target *qcow2_device_new(struct dm_target *ti,
				      const struct qcow2_options *opt)
{
	struct qcow2_target *t = kzalloc(sizeof(*t), GFP_KERNEL);
	struct qcow2_device *d;
	struct qcow2_layer *l;
	int r;

	if (!t)
		return NULL;
	d = &t->dev;
	l = &d->image.layer;
	t->ti = ti;
	t->opt = *opt;
	t->accept_loss = opt->accept_loss;
	mutex_init(&t->state_lock);
	l->core = &d->core;
	l->meta = &d->store;
	l->data = &d->store;
	l->read_only = opt->read_only;
	d->image.sectors = ti->len;
	d->io_wq = alloc_workqueue("qcow2_io", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	/* What cannot fail of these two is done first, for both. */
	r = qcow2_core_init(&d->core, ti);
	r = qcow2_image_init(&d->image, opt->cache_kib) ?: r;
	if (!r && !d->io_wq)
		r = -ENOMEM;
	if (!r)
		r = mempool_init_kmalloc_pool(&d->parts, 64,
					      sizeof(struct qcow2_part));
	if (!r)
		r = qcow2_map_init(&d->map, &d->image);
	if (!r)
		return t;
	qcow2_device_destroy(t);
	return NULL;
}

static bool device_is_external(const struct qcow2_device *d)
{
	return qcow2_external(&d->image.layer);
}

/* Whether the page cache has lost what the image was to have. */
static bool device_has_lost(struct qcow2_device *d)
{
	return qcow2_store_has_lost(&d->store) ||
	       (device_is_external(d) && qcow2_store_has_lost(&d->data_file));
}

static int device_begin_turn(struct qcow2_device *d)
{
	int r = qcow2_store_begin(&d->store);

	if (!r && device_is_external(d))
		r = qcow2_store_begin(&d->data_file);
	return r;
}

static void device_end_turn(struct qcow2_device *d)
{
	int r = 0;

	if (device_is_external(d))
		r = qcow2_store_end(&d->data_file);
	r = qcow2_store_end(&d->store) ?: r;
	if (r)
		qcow2_info(&d->core, "XFS keeps blocks reserved, error %d: copies made by looking for holes may lack data until all have closed the file",
			   r);
}

static int device_lock_image(struct qcow2_target *t)
{
	struct qcow2_device *d = &t->dev;
	int r = 0;

	if (t->opt.no_lock)
		return 0;
	r = qcow2_store_lock(&d->store);
	if (r || !device_is_external(d))
		return r;
	r = qcow2_store_lock(&d->data_file);
	if (r)
		qcow2_store_unlock(&d->store);
	return r;
}

static void device_unlock_image(struct qcow2_target *t)
{
	struct qcow2_device *d = &t->dev;

	if (t->opt.no_lock)
		return;
	if (device_is_external(d))
		qcow2_store_unlock(&d->data_file);
	qcow2_store_unlock(&d->store);
}

static void device_let_go(struct qcow2_target *t)
{
	qcow2_free_forget(&t->dev.image);
	qcow2_image_unload(&t->dev.image);
	qcow2_report_again(&t->dev.core);
	device_end_turn(&t->dev);
	device_unlock_image(t);
	qcow2_chain_stop(t);
	t->live = false;
}

/*
 * For a table that is destroyed without having been suspended, because another
 * device's failure kept it from being resumed, or whose suspend could not write
 * everything. Writes nothing. Context: record.busy is held (loss.c), so that
 * nobody stops the image at the same time.
 */
static void device_forget(struct qcow2_target *t)
{
	struct qcow2_device *d = &t->dev;
	unsigned int scope;

	mutex_lock(&t->state_lock);
	scope = qcow2_scope_enter();
	if (t->live) {
		qcow2_image_settle(&d->image);
		if (!t->opt.read_only &&
		    (t->unsaved || device_has_lost(d) ||
		     !qcow2_dirty_nothing(&d->image)))
			qcow2_loss_note(t);
		device_let_go(t);
	}
	qcow2_scope_leave(scope);
	mutex_unlock(&t->state_lock);
}

static bool device_marked(const struct qcow2_target *t)
{
	return READ_ONCE(t->dev.image.head.dirty_durable);
}

static const struct qcow2_owner_ops device_owner_ops = {
	.write = qcow2_device_stop,
	.forget = device_forget,
	.marked = device_marked,
};

static int device_open_data(struct qcow2_target *t, const char *spec,
			    char **error)
{
	struct gendisk *disk = dm_disk(dm_table_get_md(t->ti->table));
	struct qcow2_device *d = &t->dev;
	int r;

	r = qcow2_store_open(&d->data_file, &d->core, spec, t->opt.read_only);
	if (r) {
		qcow2_err(&d->core, "cannot open the data file %s: error %d",
			  spec, r);
		*error = "cannot open the data file";
		return r;
	}
	d->image.layer.data = &d->data_file;
	if (qcow2_store_inode(&d->data_file) == qcow2_store_inode(&d->store) ||
	    qcow2_store_lies_on(&d->data_file, disk)) {
		qcow2_err(&d->core, "the data file %s is the image, or lies on this very device",
			  spec);
		*error = "the data file is the image, or lies on the device";
		return -EINVAL;
	}
	return 0;
}

static int device_open_image(struct qcow2_target *t,
			     const struct qcow2_images *images, char **error)
{
	struct qcow2_device *d = &t->dev;
	struct gendisk *disk = dm_disk(dm_table_get_md(t->ti->table));
	const char *spec = images->top;
	struct qcow2_reason why;
	int r;

	r = qcow2_store_open(&d->store, &d->core, spec, t->opt.read_only);
	if (r) {
		DMERR("%s: cannot open %s: error %d",
		      dm_table_device_name(t->ti->table), spec, r);
		*error = "cannot open the image";
		return r;
	}
	if (qcow2_store_lies_on(&d->store, disk)) {
		qcow2_err(&d->core, "the image lies on this very device, which would wait for itself");
		*error = "the image lies on the device";
		return -EINVAL;
	}
	if (images->data_file)
		r = device_open_data(t, images->data_file, error);
	if (r)
		return r;
	r = qcow2_header_probe(&d->image.layer, d->image.sectors, &why);
	if (r) {
		qcow2_err(&d->core, "%s", why.text);
		*error = "the image cannot be attached";
		return r;
	}
	if (!qcow2_data(d)->direct)
		qcow2_info(&d->core, "no direct I/O on this file system; using the page cache");
	return 0;
}

/**
 * qcow2_device_open() - open and validate the image, and change nothing
 * @t: the target
 * @images: the images as the table line names them
 * @error: set after an error
 *
 * Context: the constructor. Return: 0 or a negative error.
 */
int qcow2_device_open(struct qcow2_target *t, const struct qcow2_images *images,
		      char **error)
{
	int r = device_open_image(t, images, error);

	if (r)
		return r;
	*error = "the chain of backing images is not right";
	r = qcow2_chain_open(t, images->backing, images->nr_backing);
	if (r)
		return r;
	qcow2_chain_align(t);
	*error = "out of memory";
	r = qcow2_loss_init(t, &device_owner_ops);
	if (r)
		return r;
	r = qcow2_loss_check(t, false);
	if (r) {
		*error = "changes could not be written";
		return r;
	}
	return qcow2_copy_register(&t->dev);
}

/**
 * qcow2_device_destroy() - undo qcow2_device_new() and qcow2_device_open()
 * @t: the target, opened or not; no bio is under way. Never writes
 */
void qcow2_device_destroy(struct qcow2_target *t)
{
	struct qcow2_device *d = &t->dev;

	qcow2_copy_unregister(d);
	qcow2_loss_exit(t);
	qcow2_map_exit(&d->map);
	if (d->io_wq)
		destroy_workqueue(d->io_wq);
	qcow2_image_exit(&d->image);
	mempool_exit(&d->parts);
	qcow2_chain_close(t);
	qcow2_store_close(&d->data_file);
	qcow2_store_close(&d->store);
	/* Any of the work above may have raised an event. */
	qcow2_core_exit(&d->core);
	kfree(t);
}

/* The changes are in use again, and not about to be lost. */
static int device_go_on(struct qcow2_target *t)
{
	struct qcow2_image *q = &t->dev.image;
	int r = 0;

	/* They may have been called good just before that failed. */
	if (t->dev.core.mode == QCOW2_MODE_RW)
		r = qcow2_bitmaps_begin(q);
	if (r)
		return r;
	qcow2_loss_averted(t);
	t->unsaved = false;
	qcow2_space_again(q);
	spin_lock_irq(&q->txn.lock);
	qcow2_dirty_soon(q);
	spin_unlock_irq(&q->txn.lock);
	return 0;
}

/* With the images below live, and this one locked. */
static int device_start_image(struct qcow2_target *t)
{
	struct qcow2_device *d = &t->dev;
	const char *below;
	bool raw;
	int r;

	d->core.mode = t->opt.read_only ? QCOW2_MODE_RO : QCOW2_MODE_RW;
	t->unsaved = false;
	below = qcow2_chain_name(t, &raw);
	r = device_begin_turn(d);
	if (!r)
		r = qcow2_image_load(&d->image, below, raw);
	if (!r)
		return 0;
	qcow2_image_unload(&d->image);
	qcow2_report_again(&d->core);
	return r;
}

static int device_start(struct qcow2_target *t)
{
	struct qcow2_device *d = &t->dev;
	int r;

	r = qcow2_chain_start(t);
	if (r)
		return r;
	r = device_lock_image(t);
	if (!r) {
		r = device_start_image(t);
		if (r)
			device_unlock_image(t);
	}
	if (r) {
		qcow2_chain_stop(t);
		return r;
	}
	t->live = true;
	qcow2_loss_accepted(t);
	qcow2_store_drop_cache(qcow2_data(d));
	return 0;
}

/**
 * qcow2_device_start() - lock an image and read it anew
 * @t: the target
 *
 * Context: preresume. Return: 0 or a negative error with a line in the log.
 */
int qcow2_device_start(struct qcow2_target *t)
{
	unsigned int scope;
	int r = 0;

	if (!t->live) {
		r = qcow2_loss_check(t, true);
		if (r)
			return r;
	}
	mutex_lock(&t->state_lock);
	/* I/O that reclaim starts on this device waits for us. */
	scope = qcow2_scope_enter();
	/* The last suspend may have failed to write everything. */
	r = t->live ? device_go_on(t) : device_start(t);
	qcow2_scope_leave(scope);
	mutex_unlock(&t->state_lock);
	return r;
}

/*
 * What is in memory may be lost with the table. That should not go unnoticed
 * even if the machine is started anew: if the header can be written, it is.
 */
static void device_keep(struct qcow2_target *t, int err)
{
	struct qcow2_image *q = &t->dev.image;
	bool marked = q->layer.geo.version >= 3 && !qcow2_header_write(q, true);

	qcow2_err(&t->dev.core, "could not write all metadata: error %d; the image stays in use, and resuming tries again%s",
		  err, marked ? "; marked dirty until then" : "");
	t->unsaved = true;
	qcow2_loss_threatens(t);
	qcow2_txn_stopping(q, false);
}

static int device_stop(struct qcow2_target *t)
{
	struct qcow2_device *d = &t->dev;
	int r = 0;

	synchronize_srcu(&d->image.srcu);
	flush_workqueue(d->io_wq);
	if (!t->opt.read_only)
		r = qcow2_image_close(&d->image);
	qcow2_image_settle(&d->image);
	if (r && d->core.mode != QCOW2_MODE_FAIL) {
		device_keep(t, r);
		return r;
	}
	if (r)
		qcow2_err(&d->core, "could not write all metadata: error %d; run qemu-img check",
			  r);
	if (r || device_has_lost(d))
		qcow2_loss_note(t);
	else
		qcow2_loss_averted(t);
	device_let_go(t);
	return r;
}

/**
 * qcow2_device_stop() - write everything, let go of the image
 * @t: the target
 *
 * If that fails, the image stays locked and all is kept for the next resume:
 * whoever uses the device must not find it as it was some time ago. A corrupt
 * image takes no more writes, so nothing is gained by keeping it.
 * Context: postsuspend, or preresume of the table that replaces this one; no
 * bio is under way or will come.
 * Return: 0, or a negative error if not everything could be written.
 */
int qcow2_device_stop(struct qcow2_target *t)
{
	unsigned int scope;
	int r = 0;

	mutex_lock(&t->state_lock);
	scope = qcow2_scope_enter();
	if (t->live)
		r = device_stop(t);
	qcow2_scope_leave(scope);
	mutex_unlock(&t->state_lock);
	return r;
}

/**
 * qcow2_device_commit() - write all metadata changed so far
 * @t: the target
 *
 * Return: 0, -EINVAL if the image is not in use, or another negative error.
 */
int qcow2_device_commit(struct qcow2_target *t)
{
	int r = -EINVAL;

	mutex_lock(&t->state_lock);
	if (t->live)
		r = qcow2_txn_commit(&t->dev.image);
	mutex_unlock(&t->state_lock);
	return r;
}
