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
 * its header can still be written (qcow2_device_stop()).
 *
 * Locks: records_lock for the list and what is in it; record.busy, outside of
 * target.state_lock, keeps the owner of a record from being dropped and freed.
 * Nothing is waited for under records_lock.
 */
#include "target.h"

#include <linux/slab.h>
#include <linux/uuid.h>

/* A file by file system, number and generation; a disk by both its numbers. */
struct loss_place {
	uuid_t fs;
	u64 number;
	u64 sequence;
};

/* The image, and its data file; twice the image if it has none. */
#define LOSS_PLACES 2

/**
 * struct qcow2_record - what is known of an image that could not be written
 * @node: records, under records_lock; empty if there is nothing to tell
 * @refs: the image's, the list's, and one for each that looks at it
 * @busy: protects @owner
 * @owner: who has the changes in memory; NULL when it is destroyed
 * @ops: how it is asked to write or drop them
 * @places: the image and its data
 * @disk: the sequence number of the mapped device, which is never used again
 * @device: its name
 * @lost: nobody has the changes any more, under records_lock
 */
struct qcow2_record {
	struct list_head node;
	refcount_t refs;
	struct mutex busy;	/* owner */
	struct qcow2_target *owner;
	const struct qcow2_owner_ops *ops;
	struct loss_place places[LOSS_PLACES];
	u64 disk;
	char device[24];
	bool lost;
};

static LIST_HEAD(records);
static DEFINE_SPINLOCK(records_lock);

static void loss_put(struct qcow2_record *rec)
{
	if (refcount_dec_and_test(&rec->refs))
		kfree(rec);
}

static u64 loss_disk(const struct qcow2_target *t)
{
	return dm_disk(dm_table_get_md(t->ti->table))->diskseq;
}

static void loss_find_place(const struct qcow2_store *st, struct loss_place *place)
{
	struct inode *inode;

	memset(place, 0, sizeof(*place));
	if (st->bdev) {
		place->number = st->bdev->bd_dev;
		place->sequence = st->bdev->bd_disk->diskseq;
		return;
	}
	inode = file_io_inode(&st->io);
	place->fs = inode->i_sb->s_uuid;
	/* Those without one are told apart for as long as they are mounted. */
	if (uuid_is_null(&place->fs))
		memcpy(&place->fs, &inode->i_sb->s_dev, sizeof(dev_t));
	place->number = inode->i_ino;
	place->sequence = inode->i_generation;
}

/**
 * qcow2_loss_init() - get what is needed should changes be lost
 * @t: the target with its store open
 * @ops: how it is asked to write or drop changes
 *
 * Return: 0 or -ENOMEM.
 */
int qcow2_loss_init(struct qcow2_target *t, const struct qcow2_owner_ops *ops)
{
	struct qcow2_record *rec = kzalloc(sizeof(*rec), GFP_KERNEL);

	if (!rec)
		return -ENOMEM;
	INIT_LIST_HEAD(&rec->node);
	refcount_set(&rec->refs, 1);
	mutex_init(&rec->busy);
	rec->owner = t;
	rec->ops = ops;
	rec->disk = loss_disk(t);
	strscpy(rec->device, dm_table_device_name(t->ti->table),
		sizeof(rec->device));
	loss_find_place(&t->dev.store, &rec->places[0]);
	loss_find_place(qcow2_data(&t->dev), &rec->places[1]);
	t->record = rec;
	return 0;
}

/**
 * qcow2_loss_exit() - have the image let go of all, because it is to be freed
 * @t: the target; without a record it has never been live
 *
 * Another resume may be about to save what is in memory (loss_save()): either that
 * is over before anything is dropped, or it finds nothing any more.
 */
void qcow2_loss_exit(struct qcow2_target *t)
{
	struct qcow2_record *rec = t->record;

	if (!rec)
		return;
	mutex_lock(&rec->busy);
	rec->ops->forget(t);
	rec->owner = NULL;
	mutex_unlock(&rec->busy);
	t->record = NULL;
	loss_put(rec);
}

static void loss_list(struct qcow2_record *rec, bool lost)
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
 * @t: the target
 */
void qcow2_loss_threatens(struct qcow2_target *t)
{
	loss_list(t->record, false);
}

/**
 * qcow2_loss_note() - changes could not be written, and are lost
 * @t: the target
 */
void qcow2_loss_note(struct qcow2_target *t)
{
	qcow2_err(&t->dev.core, "changes of this image are lost: it will be refused without accept_loss");
	loss_list(t->record, true);
}

static void loss_unlist(struct qcow2_record *rec)
{
	lockdep_assert_held(&records_lock);
	list_del_init(&rec->node);
	loss_put(rec);
}

/**
 * qcow2_loss_averted() - what could not be written is written, or used again
 * @t: the target
 */
void qcow2_loss_averted(struct qcow2_target *t)
{
	spin_lock(&records_lock);
	if (!t->record->lost && !list_empty(&t->record->node))
		loss_unlist(t->record);
	spin_unlock(&records_lock);
}

static bool loss_is_at(const struct qcow2_record *rec,
		       const struct loss_place *place)
{
	u32 i;

	for (i = 0; i < LOSS_PLACES; i++)
		if (!memcmp(&rec->places[i], place, sizeof(*place)))
			return true;
	return false;
}

static bool loss_concerns(const struct qcow2_record *rec, const struct qcow2_target *t)
{
	const struct qcow2_record *own = t->record;

	return rec->disk == own->disk || loss_is_at(rec, &own->places[0]) ||
	       loss_is_at(rec, &own->places[1]);
}

/* A record that stands in the way of @t, with a reference, or NULL. */
static struct qcow2_record *loss_find(const struct qcow2_target *t)
{
	struct qcow2_record *rec;

	spin_lock(&records_lock);
	list_for_each_entry(rec, &records, node) {
		if (!loss_concerns(rec, t) || (rec->lost && t->accept_loss))
			continue;
		refcount_inc(&rec->refs);
		spin_unlock(&records_lock);
		return rec;
	}
	spin_unlock(&records_lock);
	return NULL;
}

static bool loss_is_final(const struct qcow2_record *rec)
{
	bool lost;

	spin_lock(&records_lock);
	lost = rec->lost;
	spin_unlock(&records_lock);
	return lost;
}

static int loss_refuse_lost(struct qcow2_target *t, const struct qcow2_record *rec)
{
	qcow2_err(&t->dev.core, "changes were lost when device %s could not write them: what is on disk is older than what that device held; give the argument accept_loss to go on from there",
		  rec->device);
	return -ESTALE;
}

static int loss_refuse_early(struct qcow2_target *t, const struct qcow2_record *rec)
{
	qcow2_err(&t->dev.core, "device %s could not write its changes and still has them: resume the device to try again",
		  rec->device);
	return -EBUSY;
}

/*
 * A loss that is accepted is one of an image that can be used so: not of one whose
 * header says, durably, that it has to be repaired first.
 */
static bool loss_may_drop(struct qcow2_target *t, struct qcow2_record *rec)
{
	lockdep_assert_held(&rec->busy);
	if (t->opt.read_only || !rec->owner || !READ_ONCE(rec->owner->unsaved) ||
	    !rec->ops->marked(rec->owner))
		return true;
	qcow2_err(&t->dev.core, "the image is marked dirty: to accept the loss, remove device %s and run qemu-img check -r all",
		  rec->device);
	return false;
}

/* Device-mapper drops the table before whether the new one can be resumed or not. */
static int loss_accept_early(struct qcow2_target *t)
{
	struct qcow2_record *rec = loss_find(t);
	int r = 0;

	if (!rec)
		return 0;
	mutex_lock(&rec->busy);
	if (!loss_may_drop(t, rec))
		r = -EBUSY;
	mutex_unlock(&rec->busy);
	loss_put(rec);
	return r;
}

/* Has the table that @t replaces write what it could not when it was suspended. */
static int loss_save(struct qcow2_target *t, struct qcow2_record *rec)
{
	int r = 0;

	mutex_lock(&rec->busy);
	if (rec->owner)
		r = rec->ops->write(rec->owner);
	if (r && t->accept_loss && loss_may_drop(t, rec)) {
		rec->ops->forget(rec->owner);
		r = 0;
	}
	mutex_unlock(&rec->busy);
	if (r)
		qcow2_err(&t->dev.core, "the table before still cannot write its changes: error %d",
			  r);
	return r;
}

/**
 * qcow2_loss_check() - whether an image would come back without its changes
 * @t: the target, not live
 * @resuming: it is about to be; otherwise its table is being loaded
 *
 * Context: may write to the image of the table before, if @resuming.
 * Return: 0, or a negative error with a line in the log.
 */
int qcow2_loss_check(struct qcow2_target *t, bool resuming)
{
	struct qcow2_record *rec;
	int r = 0;

	/* What is accepted is settled when the table is resumed, if it can be. */
	if (!resuming && t->accept_loss)
		return loss_accept_early(t);
	while (!r && (rec = loss_find(t))) {
		if (loss_is_final(rec))
			r = loss_refuse_lost(t, rec);
		else if (resuming && rec->disk == t->record->disk)
			r = loss_save(t, rec);
		else
			r = loss_refuse_early(t, rec);
		loss_put(rec);
	}
	return r;
}

/**
 * qcow2_loss_is_lost() - whether changes of an image were lost
 * @st: where it is
 *
 * Return: true if they were, and nobody has accepted that.
 */
bool qcow2_loss_is_lost(const struct qcow2_store *st)
{
	const struct qcow2_record *rec;
	struct loss_place place;
	bool lost = false;

	loss_find_place(st, &place);
	spin_lock(&records_lock);
	list_for_each_entry(rec, &records, node)
		lost |= rec->lost && loss_is_at(rec, &place);
	spin_unlock(&records_lock);
	return lost;
}

/**
 * qcow2_loss_accepted() - an image is live although changes were lost
 * @t: the target
 *
 * Whoever writes to it has settled the matter; the next loss is another.
 */
void qcow2_loss_accepted(struct qcow2_target *t)
{
	struct qcow2_record *rec, *next;

	if (t->accept_loss && !t->opt.read_only) {
		spin_lock(&records_lock);
		list_for_each_entry_safe(rec, next, &records, node)
			if (rec->lost && loss_concerns(rec, t))
				loss_unlist(rec);
		spin_unlock(&records_lock);
		t->accept_loss = false;
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
