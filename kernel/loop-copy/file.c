// SPDX-License-Identifier: GPL-2.0-only
/*
 * The file below a disk: opening, what it can do.
 *
 * Locks: loop_copy_files_lock, a leaf.
 */
#include <linux/cred.h>
#include <linux/file.h>
#include <linux/magic.h>
#include <linux/pagemap.h>
#include <linux/slab.h>
#include <linux/stat.h>
#include <linux/swap.h>
#include <linux/uio.h>

#include "loop-copy.h"
#include "../compat/cow.h"

static struct workqueue_struct *loop_copy_file_wq;
static DEFINE_SPINLOCK(loop_copy_files_lock);
static LIST_HEAD(loop_copy_files);

static bool get_dio(struct file *file, struct kstat *stat)
{
	return !vfs_getattr(&file->f_path, stat, STATX_DIOALIGN,
			    AT_STATX_SYNC_AS_STAT) &&
	       stat->result_mask & STATX_DIOALIGN;
}

/* Without a word from the file system, a sector is tried. */
static u32 dio_align(struct file *file)
{
	struct kstat stat;

	if (!get_dio(file, &stat))
		return SECTOR_SIZE;
	return stat.dio_offset_align ? max_t(u32, SECTOR_SIZE,
					     stat.dio_offset_align) : 0;
}

static struct file *reopen(struct file *passed, int flags)
{
	return dentry_open(&passed->f_path, flags | O_LARGEFILE,
			   current_cred());
}

static int open_data(struct loop_copy_file *f, struct file *passed, int mode,
		     bool buffered)
{
	/* An update of the access time would block where NOWAIT is promised. */
	int flags = mode | O_NOATIME;

	if (!buffered) {
		f->data = reopen(passed, flags | O_DIRECT);
		if (!IS_ERR(f->data)) {
			u32 align = dio_align(f->data);

			f->direct = true;
			if (align && align <= PAGE_SIZE)
				return 0;
			fput(f->data);
		} else if (PTR_ERR(f->data) != -EINVAL) {
			goto failed;
		}
	}
	f->direct = false;
	f->data = reopen(passed, flags);
	if (!IS_ERR(f->data))
		return 0;
failed:
	mode = PTR_ERR(f->data);
	f->data = NULL;
	return mode;
}

static int check_passed(struct file *passed, u32 flags)
{
	struct inode *inode = file_inode(passed);
	fmode_t need = flags & LOOP_COPY_READ_ONLY ? FMODE_READ :
						     FMODE_READ | FMODE_WRITE;

	if (!S_ISREG(inode->i_mode))
		return -EINVAL;
	/* The descriptor is the authority: no more than it allows. */
	if ((passed->f_mode & need) != need)
		return -EBADF;
	if (!(flags & LOOP_COPY_READ_ONLY) &&
	    (passed->f_flags & O_APPEND || IS_APPEND(inode)))
		return -EPERM;
	if (IS_SWAPFILE(inode))
		return -ETXTBSY;
	if (!passed->f_op->read_iter || (!(flags & LOOP_COPY_READ_ONLY) &&
					 !passed->f_op->write_iter))
		return -EINVAL;
	return 0;
}

/* That is asked by sharing nothing, at the end. */
static bool shares(struct file *file)
{
	loff_t end = i_size_read(file_inode(file));

	return file->f_mode & FMODE_WRITE &&
	       !vfs_clone_file_range(file, end, file, end, 0, 0);
}

static struct loop_copy_pages *find_pages(struct address_space *mapping)
{
	struct loop_copy_pages *pages;

	lockdep_assert_held(&loop_copy_files_lock);
	list_for_each_entry(pages, &loop_copy_files, node)
		if (pages->mapping == mapping)
			return pages;
	return NULL;
}

/* Memory for the page cache must not be got by writing to us. */
static void take_over(struct loop_copy_pages *pages,
		      struct address_space *mapping)
{
	lockdep_assert_held(&loop_copy_files_lock);
	mutex_init(&pages->settling);
	pages->mapping = mapping;
	pages->gfp = mapping_gfp_mask(mapping);
	mapping_set_gfp_mask(mapping, pages->gfp & ~(__GFP_IO | __GFP_FS));
	list_add(&pages->node, &loop_copy_files);
}

static struct loop_copy_pages *get_pages(struct address_space *mapping)
{
	struct loop_copy_pages *new = kzalloc(sizeof(*new), GFP_KERNEL);
	struct loop_copy_pages *pages;

	if (!new)
		return NULL;
	spin_lock(&loop_copy_files_lock);
	pages = find_pages(mapping);
	if (!pages) {
		take_over(new, mapping);
		swap(pages, new);
	}
	pages->disks++;
	spin_unlock(&loop_copy_files_lock);
	kfree(new);
	return pages;
}

static void put_pages(struct loop_copy_pages *pages)
{
	spin_lock(&loop_copy_files_lock);
	if (--pages->disks) {
		pages = NULL;
	} else {
		list_del(&pages->node);
		mapping_set_gfp_mask(pages->mapping, pages->gfp);
	}
	spin_unlock(&loop_copy_files_lock);
	kfree(pages);
}

/*
 * Gives back what XFS has reserved, so that copies of the file are right: see
 * compat/cow.h. While it is attached there is nothing to be given back, but for
 * a file whose extents others share and where XFS reserves as it likes.
 */
static void give_back(struct loop_copy_file *f)
{
	int err;

	if (!(f->data->f_mode & FMODE_WRITE))
		return;
	err = compat_cow_give_back(f->data, loop_copy_file_wq);
	if (err && !f->exact)
		pr_info("%pD: XFS keeps blocks reserved, error %d: copies made by looking for holes may lack data until all have closed the file\n",
			f->data, err);
}

static void learn_sharing(struct loop_copy_file *f)
{
	f->shares = shares(f->data);
	f->exact = !(f->data->f_mode & FMODE_WRITE) ||
		   compat_cow_exact(f->data);
	if (f->shares && !f->exact)
		pr_info("%pD: has an extent size hint, or is frozen, and shares no extents on this kernel; if others share them (cp --reflink), copy it when it is detached\n",
			f->data);
	give_back(f);
}

/* Overlayfs passes reads and writes on: the pages are not its own. */
static struct address_space *mapping_of(struct file *file)
{
	return d_real_inode(file_dentry(file))->i_mapping;
}

static int learn(struct loop_copy_file *f)
{
	f->pages = get_pages(mapping_of(f->data));
	if (!f->pages)
		return -ENOMEM;
	/* btrfs waits for the inode lock of a direct read even under NOWAIT. */
	f->nowait = f->direct && f->data->f_mode & FMODE_NOWAIT &&
		    loop_copy_inode(f)->i_sb->s_magic != BTRFS_SUPER_MAGIC;
	learn_sharing(f);
	/*
	 * A time stamp update makes a NOWAIT write fail about once a jiffy;
	 * loop_copy_file_touch() does it instead.
	 */
	spin_lock(&f->data->f_lock);
	f->data->f_mode |= FMODE_NOCMTIME;
	spin_unlock(&f->data->f_lock);
	return 0;
}

/**
 * loop_copy_file_open() - open the file below a disk
 * @f: zeroed; on error nothing has to be closed
 * @fd: the caller's descriptor
 * @flags: LOOP_COPY_*
 *
 * Return: 0 or a negative error.
 */
int loop_copy_file_open(struct loop_copy_file *f, int fd, u32 flags)
{
	int mode = flags & LOOP_COPY_READ_ONLY ? O_RDONLY : O_RDWR;
	struct file *passed = fget(fd);
	int err;

	if (!passed)
		return -EBADF;
	err = check_passed(passed, flags);
	if (err)
		goto out;
	f->meta = reopen(passed, mode);
	if (IS_ERR(f->meta)) {
		err = PTR_ERR(f->meta);
		goto out;
	}
	err = open_data(f, passed, mode, flags & LOOP_COPY_BUFFERED);
	if (err)
		goto out_meta;
	err = learn(f);
	if (!err)
		goto out;
	fput(f->data);
out_meta:
	fput(f->meta);
out:
	fput(passed);
	return err;
}

/**
 * loop_copy_file_close() - close it again
 * @f: the file
 */
void loop_copy_file_close(struct loop_copy_file *f)
{
	loop_copy_file_touch(f);
	give_back(f);
	put_pages(f->pages);
	f->pages = NULL;
	fput(f->data);
	fput(f->meta);
}

/**
 * loop_copy_file_block() - the smallest block that a disk can have
 * @f: the file
 *
 * Return: bytes.
 */
u32 loop_copy_file_block(const struct loop_copy_file *f)
{
	return f->direct ? dio_align(f->data) : SECTOR_SIZE;
}

/**
 * loop_copy_file_memory() - the alignment of memory
 * @f: the file
 *
 * Return: bytes.
 */
u32 loop_copy_file_memory(const struct loop_copy_file *f)
{
	struct kstat stat;

	if (!f->direct || !get_dio(f->data, &stat))
		return SECTOR_SIZE;
	return clamp_t(u32, stat.dio_mem_align, 4, PAGE_SIZE);
}

/**
 * loop_copy_file_touch() - give the file the time stamp its writes left out
 * @f: the file
 */
void loop_copy_file_touch(struct loop_copy_file *f)
{
	/* Of a frozen file system nobody waits for a time stamp. */
	if (!READ_ONCE(f->written) || !file_start_write_trylock(f->meta))
		return;
	WRITE_ONCE(f->written, false);
	file_update_time(f->meta);
	file_end_write(f->meta);
}

/**
 * loop_copy_file_rw() - read or write kernel memory and wait for it
 * @file: as loop_copy_file.data or .meta
 * @write: or read
 * @pos: where, in bytes
 * @bv: the memory
 * @nr: how many parts of it there are
 * @len: how much
 *
 * Context: may sleep; nobody holds the file system's freeze protection.
 * Return: bytes or a negative error.
 */
ssize_t loop_copy_file_rw(struct file *file, bool write, loff_t pos,
			  const struct bio_vec *bv, unsigned int nr, size_t len)
{
	struct iov_iter iter;
	struct kiocb iocb;
	ssize_t ret;

	init_sync_kiocb(&iocb, file);
	iocb.ki_pos = pos;
	iov_iter_bvec(&iter, write ? ITER_SOURCE : ITER_DEST, bv, nr, len);
	if (!write)
		return file->f_op->read_iter(&iocb, &iter);
	iocb.ki_flags |= IOCB_WRITE;
	file_start_write(file);
	ret = file->f_op->write_iter(&iocb, &iter);
	file_end_write(file);
	return ret;
}

/**
 * loop_copy_file_init() - get ready for files
 *
 * Return: 0 or a negative error.
 */
int loop_copy_file_init(void)
{
	loop_copy_file_wq = alloc_workqueue("loop-copy-file", WQ_UNBOUND, 0);
	return loop_copy_file_wq ? 0 : -ENOMEM;
}

/**
 * loop_copy_file_exit() - undo it, and wait for what is still under way
 */
void loop_copy_file_exit(void)
{
	destroy_workqueue(loop_copy_file_wq);
}
