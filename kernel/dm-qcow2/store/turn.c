// SPDX-License-Identifier: GPL-2.0-only
/*
 * Our turn with a store: it begins when nobody else may write any more, and
 * when it ends programs that read the store see what was written, whichever way
 * they look. Takes no locks.
 */
#include "store.h"

#include <linux/pagemap.h>

/*
 * A block device's page cache is not coherent with bios: what programs wrote
 * there goes to the device, and what they read there is read anew.
 */
static void turn_sync_cache(struct qcow2_store *st)
{
	sync_blockdev(st->bdev);
	/* invalidate_bdev() would leave pages that somebody looks at. */
	if (invalidate_inode_pages2(compat_bdev_mapping(st->bdev)))
		DMWARN("%pg: others write to it while it is an image in use",
		       st->bdev);
}

/**
 * qcow2_store_begin() - our turn with the store begins
 * @st: the store
 *
 * Whoever edited it before may have been killed before that was durable.
 * Context: nobody else may write. Return: 0 or a negative error.
 */
int qcow2_store_begin(struct qcow2_store *st)
{
	if (st->bdev)
		turn_sync_cache(st);
	else
		file_io_begin(&st->io);
	if (st->read_only)
		return 0;
	return st->bdev ? blkdev_issue_flush(st->bdev) :
			  file_io_flush(&st->io);
}

/**
 * qcow2_store_drop_cache() - give up what the page cache has of a file
 * @st: the store
 *
 * XFS refuses a NOWAIT write where a page is cached, and those of a file that
 * has just been copied are, so that each first write would take a worker. In the
 * background, because there may be many of them. qcow2_store_end() ends it.
 */
void qcow2_store_drop_cache(struct qcow2_store *st)
{
	if (!st->bdev)
		file_io_drop_cache(&st->io);
}

/**
 * qcow2_store_end() - our turn ends: programs that read it see what we wrote
 * @st: the store, flushed
 *
 * Context: nobody else may write.
 * Return: 0, or a negative error: copies may lack data (compat/cow.h).
 */
int qcow2_store_end(struct qcow2_store *st)
{
	if (!st->bdev)
		return file_io_end(&st->io);
	if (!st->read_only)
		turn_sync_cache(st);
	return 0;
}
