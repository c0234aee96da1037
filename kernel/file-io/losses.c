// SPDX-License-Identifier: GPL-2.0-only
/*
 * Errors of writing pages, and who has been told of them.
 *
 * The kernel keeps the last error of a file in mapping->wb_err, which changes with
 * each one once somebody has looked. Here they are numbered, so that a request
 * knows which of them came while it was under way, and fails with those.
 *
 * An fsync tells of all since the last one through the same struct file, also of
 * what requests have told, and goes no further then. A commit or a suspend would
 * fail for what everybody knows. So what requests have told without a gap is taken
 * from it: file->f_wb_err is advanced. Below an overlay that of the file below
 * cannot be reached, so fsync is repeated there, once for what was told.
 *
 * That a request under way is what an error means holds for XFS, which leaves
 * parts of its blocks to the page cache. Elsewhere it may be about metadata, and
 * fsync tells, whoever else has.
 *
 * Locks: file_io_pages.lock, and below it the kernel's file.f_lock.
 */
#include <linux/fs.h>
#include <linux/magic.h>

#include "file-io.h"

/* Looks, which makes the next error another one. */
static void file_io_count(struct file_io_pages *pages)
{
	errseq_t now = pages->counted;
	int err;

	lockdep_assert_held(&pages->lock);
	err = errseq_check_and_advance(&pages->mapping->wb_err, &now);
	if (now == pages->counted)
		return;
	pages->error = err;
	WRITE_ONCE(pages->losses, pages->losses + 1);
	/* Pairs with file_io_losses(). */
	smp_store_release(&pages->counted, now);
}

/**
 * file_io_losses_init() - begin to count
 * @pages: the page cache
 */
void file_io_losses_init(struct file_io_pages *pages)
{
	spin_lock_init(&pages->lock);
	pages->counted = errseq_sample(&pages->mapping->wb_err);
}

/**
 * file_io_losses() - how often writing pages has failed
 * @pages: the page cache
 *
 * Context: any that may take a spinlock. Return: a number that only grows.
 */
u64 file_io_losses(struct file_io_pages *pages)
{
	u64 losses;

	/* One more than was meant is as good: it has happened. */
	if (likely(smp_load_acquire(&pages->counted) ==
		   READ_ONCE(pages->mapping->wb_err)))
		return READ_ONCE(pages->losses);
	spin_lock(&pages->lock);
	file_io_count(pages);
	losses = pages->losses;
	spin_unlock(&pages->lock);
	return losses;
}

/* What is counted is told to the file, so that fsync does not tell it again. */
static void file_io_take_from_fsync(struct file_io *f)
{
	struct file_io_pages *pages = f->pages;

	lockdep_assert_held(&pages->lock);
	/* Those that come meanwhile are counted, too. */
	while (READ_ONCE(f->data->f_wb_err) != pages->counted &&
	       file_check_and_advance_wb_err(f->data))
		file_io_count(pages);
}

/**
 * file_io_losses_begin() - what others have lost before is not told
 * @f: the file, whose turn begins
 */
void file_io_losses_begin(struct file_io *f)
{
	struct file_io_pages *pages = f->pages;

	if (READ_ONCE(pages->mapping->wb_err) &&
	    !errseq_sample(&pages->mapping->wb_err))
		pr_warn("%pD: the page cache has lost data that was written before\n",
			f->meta);
	spin_lock(&pages->lock);
	file_io_count(pages);
	if (file_io_is_overlaid(f))
		f->owed = f->told != pages->losses;
	else
		file_io_take_from_fsync(f);
	f->told = pages->losses;
	spin_unlock(&pages->lock);
}

static bool file_io_means_requests(const struct file_io *f)
{
	return file_io_inode(f)->i_sb->s_magic == XFS_SUPER_MAGIC;
}

/**
 * file_io_tell() - the error that a request has to tell
 * @f: the file
 * @since: losses when the request began
 *
 * Return: 0 or a negative error, of which the request fails.
 */
int file_io_tell(struct file_io *f, u64 since)
{
	struct file_io_pages *pages = f->pages;
	int err;

	if (likely(file_io_losses(pages) == since))
		return 0;
	spin_lock(&pages->lock);
	file_io_count(pages);
	err = pages->error;
	/* Else there is one in between that only fsync tells. */
	if (since <= f->told && file_io_means_requests(f)) {
		if (!file_io_is_overlaid(f))
			file_io_take_from_fsync(f);
		else if (f->told != pages->losses)
			f->owed = true;
		f->told = pages->losses;
	}
	spin_unlock(&pages->lock);
	return err;
}

/**
 * file_io_told_by_fsync() - an fsync is over, and has told what it had to tell
 * @f: the file
 */
void file_io_told_by_fsync(struct file_io *f)
{
	struct file_io_pages *pages = f->pages;

	spin_lock(&pages->lock);
	file_io_count(pages);
	/* Unless there has been one since. */
	if (READ_ONCE(f->data->f_wb_err) == pages->counted)
		f->told = pages->losses;
	spin_unlock(&pages->lock);
}

/**
 * file_io_fsync_repeats() - an fsync below an overlay is over
 * @f: the file
 * @losses: how many there were when it began, which are told now
 *
 * Return: whether all that it can have failed for is what requests have told.
 */
bool file_io_fsync_repeats(struct file_io *f, u64 losses)
{
	struct file_io_pages *pages = f->pages;
	bool repeats;

	lockdep_assert_held(&f->flushing);
	spin_lock(&pages->lock);
	file_io_count(pages);
	repeats = f->owed && f->told == pages->losses;
	f->owed = false;
	f->told = max(f->told, losses);
	spin_unlock(&pages->lock);
	return repeats;
}
