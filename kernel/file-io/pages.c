// SPDX-License-Identifier: GPL-2.0-only
/*
 * The page caches of files, each for all its users.
 *
 * Locks: file_io_pages_lock, a leaf.
 */
#include <linux/export.h>
#include <linux/list.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/spinlock.h>

#include "file-io.h"

/* What is given up before somebody is asked whether to go on. */
#define FILE_IO_DROP_BYTES SZ_8M

static DEFINE_SPINLOCK(file_io_pages_lock);
static LIST_HEAD(file_io_pages_list);

static struct file_io_pages *file_io_pages_find(struct address_space *mapping)
{
	struct file_io_pages *pages;

	lockdep_assert_held(&file_io_pages_lock);
	list_for_each_entry(pages, &file_io_pages_list, node)
		if (pages->mapping == mapping)
			return pages;
	return NULL;
}

/* Memory for the page cache must not be got by writing to who uses the file. */
static void file_io_pages_take_over(struct file_io_pages *pages,
				    struct address_space *mapping)
{
	lockdep_assert_held(&file_io_pages_lock);
	mutex_init(&pages->settling);
	pages->mapping = mapping;
	file_io_losses_init(pages);
	pages->gfp = mapping_gfp_mask(mapping);
	mapping_set_gfp_mask(mapping, pages->gfp & ~(__GFP_IO | __GFP_FS));
	list_add(&pages->node, &file_io_pages_list);
}

/**
 * file_io_pages_get() - use a page cache
 * @mapping: the page cache, of a file that is open
 *
 * Return: for file_io_pages_put(), or NULL.
 */
struct file_io_pages *file_io_pages_get(struct address_space *mapping)
{
	struct file_io_pages *new = kzalloc(sizeof(*new), GFP_KERNEL);
	struct file_io_pages *pages;

	if (!new)
		return NULL;
	spin_lock(&file_io_pages_lock);
	pages = file_io_pages_find(mapping);
	if (!pages) {
		file_io_pages_take_over(new, mapping);
		swap(pages, new);
	}
	pages->users++;
	spin_unlock(&file_io_pages_lock);
	kfree(new);
	return pages;
}

/**
 * file_io_pages_put() - use it no more
 * @pages: of file_io_pages_get(); the file is still open
 */
void file_io_pages_put(struct file_io_pages *pages)
{
	spin_lock(&file_io_pages_lock);
	if (--pages->users) {
		pages = NULL;
	} else {
		list_del(&pages->node);
		mapping_set_gfp_mask(pages->mapping, pages->gfp);
	}
	spin_unlock(&file_io_pages_lock);
	kfree(pages);
}

/**
 * file_io_inode() - whose pages and extents they are
 * @f: the file
 *
 * Return: the file's inode, or, as overlayfs passes reads and writes on, that of
 * the file below.
 */
struct inode *file_io_inode(const struct file_io *f)
{
	return f->pages->mapping->host;
}
EXPORT_SYMBOL_GPL(file_io_inode);

/**
 * file_io_drop_work() - give up what the page cache has
 * @work: file_io.drop_work
 */
void file_io_drop_work(struct work_struct *work)
{
	struct file_io *f = container_of(work, struct file_io, drop_work);
	struct address_space *m = f->pages->mapping;
	loff_t pos, last, size = i_size_read(m->host);

	for (pos = 0; pos < size && m->nrpages && !READ_ONCE(f->ended);
	     pos = last + 1) {
		last = pos + FILE_IO_DROP_BYTES - 1;
		filemap_fdatawrite_range(m, pos, last);
		/* Errors are for the next flush to tell. */
		filemap_fdatawait_range_keep_errors(m, pos, last);
		invalidate_mapping_pages(m, pos >> PAGE_SHIFT,
					 last >> PAGE_SHIFT);
		cond_resched();
	}
}

/**
 * file_io_drop_cache() - give up what the page cache has, in the background
 * @f: the file, whose turn has begun
 *
 * XFS refuses a NOWAIT write where a page is cached, and those of a file that
 * has just been copied are, so that each first write would take a worker.
 * file_io_end() ends it.
 */
void file_io_drop_cache(struct file_io *f)
{
	if (f->nowait && f->data->f_mode & FMODE_WRITE)
		queue_work(f->wq, &f->drop_work);
}
EXPORT_SYMBOL_GPL(file_io_drop_cache);
