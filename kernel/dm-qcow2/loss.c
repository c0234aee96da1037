// SPDX-License-Identifier: GPL-2.0-only
/*
 * Images whose changes could not be written.
 *
 * A suspend that cannot write everything keeps the image in use, so that a
 * resume goes on with what is in memory. But it is for device-mapper to say how
 * long the table lives: it destroys it when another one has been loaded, even
 * if that cannot be resumed. What is on disk is then older than what the device
 * has answered for, and a file system that is still mounted above must not
 * find it instead.
 *
 * So there is a record of it here, which outlives the table. It is found by the
 * image, whatever device wants it, and by the device, whatever image is put
 * under it; a new table
 *
 * - is not loaded while the one before has changes that a resume may save;
 * - has them written if it was loaded before that, when it is resumed;
 * - is refused if they are lost, unless its arguments accept that, once.
 *
 * The record is gone with the module. For that the image is marked dirty where
 * its header can still be written (qcow2_image_stop()).
 *
 * Locks: records_lock for the list and what is in it; record.busy, outside of
 * image.state_lock, keeps the image of a record from being dropped and freed. Nothing is
 * waited for under records_lock.
 */
#include "dm-qcow2.h"

#include <linux/slab.h>
#include <linux/uuid.h>

/* A file by file system, number and generation; a disk by both its numbers. */
struct place {
	uuid_t fs;
	u64 number;
	u64 sequence;
};

/**
 * struct qcow2_record - what is known of an image that could not be written
 * @node: records, under records_lock; empty if there is nothing to tell
 * @refs: the image's, the list's, and one for each that looks at it
 * @busy: protects @image
 * @image: who has the changes in memory; NULL when it is destroyed
 * @place: the image
 * @disk: the sequence number of the mapped device, which is never used again
 * @device: its name
 * @lost: nobody has the changes any more, under records_lock
 */
struct qcow2_record {
	struct list_head node;
	refcount_t refs;
	struct mutex busy;	/* image */
	struct qcow2_image *image;
	struct place place;
	u64 disk;
	char device[24];
	bool lost;
};

static LIST_HEAD(records);
static DEFINE_SPINLOCK(records_lock);

static void record_put(struct qcow2_record *rec)
{
	if (refcount_dec_and_test(&rec->refs))
		kfree(rec);
}

static u64 disk_sequence(const struct qcow2_image *q)
{
	return dm_disk(dm_table_get_md(q->ti->table))->diskseq;
}

static void find_place(const struct qcow2_store *st, struct place *place)
{
	struct inode *inode;

	memset(place, 0, sizeof(*place));
	if (st->bdev) {
		place->number = st->bdev->bd_dev;
		place->sequence = st->bdev->bd_disk->diskseq;
		return;
	}
	inode = d_real_inode(file_dentry(st->file));
	place->fs = inode->i_sb->s_uuid;
	/* Those without one are told apart for as long as they are mounted. */
	if (uuid_is_null(&place->fs))
		memcpy(&place->fs, &inode->i_sb->s_dev, sizeof(dev_t));
	place->number = inode->i_ino;
	place->sequence = inode->i_generation;
}

/**
 * qcow2_loss_init() - get what is needed should changes be lost
 * @q: the image with its store open
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_loss_init(struct qcow2_image *q)
{
	struct qcow2_record *rec = kzalloc(sizeof(*rec), GFP_KERNEL);

	if (!rec)
		return -ENOMEM;
	INIT_LIST_HEAD(&rec->node);
	refcount_set(&rec->refs, 1);
	mutex_init(&rec->busy);
	rec->image = q;
	rec->disk = disk_sequence(q);
	strscpy(rec->device, dm_table_device_name(q->ti->table),
		sizeof(rec->device));
	find_place(&q->store, &rec->place);
	q->record = rec;
	return 0;
}

/**
 * qcow2_loss_exit() - have the image let go of all, because it is to be freed
 * @q: the image; without a record it has never been live
 *
 * Another resume may be about to save what is in memory (save()): either that
 * is over before anything is dropped, or it finds nothing any more.
 */
void qcow2_loss_exit(struct qcow2_image *q)
{
	struct qcow2_record *rec = q->record;

	if (!rec)
		return;
	mutex_lock(&rec->busy);
	qcow2_image_forget(q);
	rec->image = NULL;
	mutex_unlock(&rec->busy);
	q->record = NULL;
	record_put(rec);
}

static void record_list(struct qcow2_record *rec, bool lost)
{
	spin_lock(&records_lock);
	rec->lost |= lost;
	if (list_empty(&rec->node)) {
		refcount_inc(&rec->refs);
		list_add_tail(&rec->node, &records);
	}
	spin_unlock(&records_lock);
}

/**
 * qcow2_loss_threatens() - changes could not be written, and are in memory
 * @q: the image
 */
void qcow2_loss_threatens(struct qcow2_image *q)
{
	record_list(q->record, false);
}

/**
 * qcow2_loss_note() - changes could not be written, and are lost
 * @q: the image
 */
void qcow2_loss_note(struct qcow2_image *q)
{
	qcow2_err(q, "changes of this image are lost: it will be refused without accept_loss");
	record_list(q->record, true);
}

static void record_unlist(struct qcow2_record *rec)
{
	lockdep_assert_held(&records_lock);
	list_del_init(&rec->node);
	record_put(rec);
}

/**
 * qcow2_loss_averted() - what could not be written is written, or used again
 * @q: the image
 */
void qcow2_loss_averted(struct qcow2_image *q)
{
	spin_lock(&records_lock);
	if (!q->record->lost && !list_empty(&q->record->node))
		record_unlist(q->record);
	spin_unlock(&records_lock);
}

static bool concerns(const struct qcow2_record *rec, const struct qcow2_image *q)
{
	const struct qcow2_record *own = q->record;

	return rec->disk == own->disk ||
	       !memcmp(&rec->place, &own->place, sizeof(own->place));
}

/* A record that stands in the way of @q, with a reference, or NULL. */
static struct qcow2_record *find_record(const struct qcow2_image *q)
{
	struct qcow2_record *rec;

	spin_lock(&records_lock);
	list_for_each_entry(rec, &records, node) {
		if (!concerns(rec, q) || (rec->lost && q->accept_loss))
			continue;
		refcount_inc(&rec->refs);
		spin_unlock(&records_lock);
		return rec;
	}
	spin_unlock(&records_lock);
	return NULL;
}

static bool is_lost(const struct qcow2_record *rec)
{
	bool lost;

	spin_lock(&records_lock);
	lost = rec->lost;
	spin_unlock(&records_lock);
	return lost;
}

static int refuse_lost(struct qcow2_image *q, const struct qcow2_record *rec)
{
	qcow2_err(q, "changes were lost when device %s could not write them: what is on disk is older than what that device held; give the argument accept_loss to go on from there",
		  rec->device);
	return -ESTALE;
}

static int refuse_early(struct qcow2_image *q, const struct qcow2_record *rec)
{
	qcow2_err(q, "device %s could not write its changes and still has them: resume the device to try again",
		  rec->device);
	return -EBUSY;
}

/*
 * A loss that is accepted is one of an image that can be used so: not of one whose
 * header says, durably, that it has to be repaired first.
 */
static bool may_be_dropped(struct qcow2_image *q, struct qcow2_record *rec)
{
	lockdep_assert_held(&rec->busy);
	if (q->read_only || !rec->image || !READ_ONCE(rec->image->unsaved) ||
	    !READ_ONCE(rec->image->dirty_durable))
		return true;
	qcow2_err(q, "the image is marked dirty: to accept the loss, remove device %s and run qemu-img check -r all",
		  rec->device);
	return false;
}

/* Device-mapper drops the table before whether the new one can be resumed or not. */
static int accept_early(struct qcow2_image *q)
{
	struct qcow2_record *rec = find_record(q);
	int r = 0;

	if (!rec)
		return 0;
	mutex_lock(&rec->busy);
	if (!may_be_dropped(q, rec))
		r = -EBUSY;
	mutex_unlock(&rec->busy);
	record_put(rec);
	return r;
}

/* Has the table that @q replaces write what it could not when it was suspended. */
static int save(struct qcow2_image *q, struct qcow2_record *rec)
{
	int r = 0;

	mutex_lock(&rec->busy);
	if (rec->image)
		r = qcow2_image_stop(rec->image);
	if (r && q->accept_loss && may_be_dropped(q, rec)) {
		qcow2_image_forget(rec->image);
		r = 0;
	}
	mutex_unlock(&rec->busy);
	if (r)
		qcow2_err(q, "the table before still cannot write its changes: error %d",
			  r);
	return r;
}

/**
 * qcow2_loss_check() - whether an image would come back without its changes
 * @q: the image, not live
 * @resuming: it is about to be; otherwise its table is being loaded
 *
 * Context: may write to the image of the table before, if @resuming.
 * Return: 0, or a negative error with a line in the log.
 */
int qcow2_loss_check(struct qcow2_image *q, bool resuming)
{
	struct qcow2_record *rec;
	int r = 0;

	/* What is accepted is settled when the table is resumed, if it can be. */
	if (!resuming && q->accept_loss)
		return accept_early(q);
	while (!r && (rec = find_record(q))) {
		if (is_lost(rec))
			r = refuse_lost(q, rec);
		else if (resuming && rec->disk == q->record->disk)
			r = save(q, rec);
		else
			r = refuse_early(q, rec);
		record_put(rec);
	}
	return r;
}

/**
 * qcow2_loss_accepted() - an image is live although changes were lost
 * @q: the image
 *
 * Whoever writes to it has settled the matter; the next loss is another.
 */
void qcow2_loss_accepted(struct qcow2_image *q)
{
	struct qcow2_record *rec, *next;

	if (q->accept_loss && !q->read_only) {
		spin_lock(&records_lock);
		list_for_each_entry_safe(rec, next, &records, node)
			if (rec->lost && concerns(rec, q))
				record_unlist(rec);
		spin_unlock(&records_lock);
		q->accept_loss = false;
	}
}

/**
 * qcow2_loss_drop_all() - forget all records
 *
 * Context: the module is being unloaded.
 */
void qcow2_loss_drop_all(void)
{
	struct qcow2_record *rec, *next;

	list_for_each_entry_safe(rec, next, &records, node) {
		list_del(&rec->node);
		kfree(rec);
	}
}
