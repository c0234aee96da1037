// SPDX-License-Identifier: GPL-2.0-only
/*
 * Durability, and time stamps.
 *
 * Locks: file_io.flushing, around the fsync of a file without direct I/O, or below
 * an overlay.
 */
#include <linux/export.h>
#include <linux/fs.h>

#include "file-io.h"

static int file_io_fsync(struct file_io *f)
{
	return vfs_fsync_range(f->data, 0, LLONG_MAX, 1);
}

/*
 * A failed fsync has dropped dirty pages of the page cache for good, and tells
 * of it once, to one of those who ask: what is lost may be what somebody was
 * told is written. So all fail from then on. One that was interrupted has lost
 * nothing.
 */
static int file_io_flush_cached(struct file_io *f)
{
	int err;

	mutex_lock(&f->flushing);
	err = file_io_fsync(f);
	if (err && err != -EINTR && err != -ERESTARTSYS)
		WRITE_ONCE(f->lost, true);
	if (!err && f->lost)
		err = -EIO;
	mutex_unlock(&f->flushing);
	return err;
}

/* See losses.c. */
static int file_io_flush_direct(struct file_io *f)
{
	int err = file_io_fsync(f);

	if (err)
		file_io_told_by_fsync(f);
	return err;
}

static int file_io_flush_overlaid(struct file_io *f)
{
	u64 losses;
	int err;

	mutex_lock(&f->flushing);
	losses = file_io_losses(f->pages);
	err = file_io_fsync(f);
	if (file_io_fsync_repeats(f, losses) && err)
		err = file_io_fsync(f);
	mutex_unlock(&f->flushing);
	return err;
}

/**
 * file_io_flush() - make everything written so far durable
 * @f: the file
 *
 * Context: may sleep. Return: 0 or a negative error.
 */
int file_io_flush(struct file_io *f)
{
	if (!f->direct)
		return file_io_flush_cached(f);
	return file_io_is_overlaid(f) ? file_io_flush_overlaid(f) :
					file_io_flush_direct(f);
}
EXPORT_SYMBOL_GPL(file_io_flush);

/**
 * file_io_has_lost() - whether the page cache has lost what was accepted
 * @f: the file
 *
 * Return: true from the first flush that has failed for it until the end of the
 * turn.
 */
bool file_io_has_lost(const struct file_io *f)
{
	return READ_ONCE(f->lost);
}
EXPORT_SYMBOL_GPL(file_io_has_lost);

/**
 * file_io_touch() - give the file the time stamp that its writes left out
 * @f: the file
 *
 * Context: may sleep; waits for no frozen file system.
 */
void file_io_touch(struct file_io *f)
{
	/* Of a frozen file system nobody waits for a time stamp. */
	if (!READ_ONCE(f->written) || !file_start_write_trylock(f->meta))
		return;
	WRITE_ONCE(f->written, false);
	file_update_time(f->meta);
	file_end_write(f->meta);
}
EXPORT_SYMBOL_GPL(file_io_touch);
