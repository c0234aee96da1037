// SPDX-License-Identifier: GPL-2.0-only
/*
 * Opening a file, twice: for I/O, and for everything else; what direct I/O on
 * it needs.
 *
 * Takes no locks.
 */
#include <linux/cred.h>
#include <linux/export.h>
#include <linux/file.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/namei.h>
#include <linux/stat.h>
#include <linux/swap.h>

#include "file-io.h"

/**
 * file_io_open_path() - open a file or block device by its name
 * @path: the name
 * @flags: as of open(2)
 *
 * Return: the file, or an error pointer; -EINVAL for anything else, which may
 * block or act when it is opened.
 */
struct file *file_io_open_path(const char *path, int flags)
{
	struct path found;
	umode_t mode;
	int err;

	err = kern_path(path, LOOKUP_FOLLOW, &found);
	if (err)
		return ERR_PTR(err);
	mode = d_inode(found.dentry)->i_mode;
	path_put(&found);
	if (!S_ISREG(mode) && !S_ISBLK(mode))
		return ERR_PTR(-EINVAL);
	return filp_open(path, flags | O_NONBLOCK, 0);
}
EXPORT_SYMBOL_GPL(file_io_open_path);

/**
 * file_io_reopen() - open once more what a program has open
 * @passed: of the program's descriptor, which is the authority
 * @flags: as of open(2); no more is done than the descriptor allows
 *
 * Return: the file, or an error pointer; -EBADF if @passed is not open for that;
 * -EPERM if it is for appending only.
 */
struct file *file_io_reopen(struct file *passed, int flags)
{
	bool write = (flags & O_ACCMODE) != O_RDONLY;
	fmode_t need = write ? FMODE_READ | FMODE_WRITE : FMODE_READ;

	if ((passed->f_mode & need) != need)
		return ERR_PTR(-EBADF);
	if (write && (passed->f_flags & O_APPEND ||
		      IS_APPEND(file_inode(passed))))
		return ERR_PTR(-EPERM);
	return dentry_open(&passed->f_path, flags | O_LARGEFILE,
			   current_cred());
}
EXPORT_SYMBOL_GPL(file_io_reopen);

/*
 * Whether direct I/O goes, with memory of the kernel, where the file system says
 * nothing of it: it may only pretend (minix), or ask a server.
 */
static bool file_io_direct_works(struct file *file)
{
	struct page *page = alloc_page(GFP_KERNEL);
	struct bio_vec bv;
	ssize_t ret = -EINVAL;

	if (!page)
		return false;
	bvec_set_page(&bv, page, PAGE_SIZE, 0);
	if (file->f_op->read_iter)
		ret = file_io_rw(file, false, 0, &bv, 1, PAGE_SIZE);
	__free_page(page);
	/* A place that cannot be read says nothing of that. */
	return ret >= 0 || ret == -EIO;
}

/*
 * The alignment of direct I/O on a file, and of its memory; 0: there is none. A
 * file system that does not tell has blocks of a page at most, or none at all:
 * what NFS calls its block is what it likes to send at once.
 */
static u32 file_io_direct_align(const struct file_io *f, struct file *file,
				u32 *mem)
{
	struct kstat stat;

	*mem = SECTOR_SIZE;
	if (!vfs_getattr(&file->f_path, &stat, STATX_DIOALIGN,
			 AT_STATX_SYNC_AS_STAT) &&
	    stat.result_mask & STATX_DIOALIGN) {
		*mem = clamp_t(u32, stat.dio_mem_align, 4, PAGE_SIZE);
		return stat.dio_offset_align;
	}
	if (!file_io_direct_works(file))
		return 0;
	if (f->flags & FILE_IO_FALL_BACK)
		return SECTOR_SIZE;
	return clamp_t(u32, i_blocksize(file_inode(file)), SECTOR_SIZE,
		       PAGE_SIZE);
}

/* The file for direct I/O; NULL if there is none, or an error pointer. */
static struct file *file_io_open_direct(struct file_io *f, int flags)
{
	struct file *file = dentry_open(&f->meta->f_path, flags | O_DIRECT,
					current_cred());
	u32 align;

	if (IS_ERR(file))
		return PTR_ERR(file) == -EINVAL ? NULL : file;
	align = file_io_direct_align(f, file, &f->mem_align);
	f->align = max_t(u32, SECTOR_SIZE, align);
	if (align && f->align <= PAGE_SIZE)
		return file;
	fput(file);
	return NULL;
}

/* The same file again, whatever its path has become meanwhile. */
static int file_io_open_data(struct file_io *f)
{
	/* An update of the access time would block where NOWAIT is promised. */
	int flags = O_LARGEFILE | O_NOATIME |
		    (f->flags & FILE_IO_READ_ONLY ? O_RDONLY : O_RDWR);
	struct file *file = NULL;

	if (!(f->flags & FILE_IO_BUFFERED))
		file = file_io_open_direct(f, flags);
	f->direct = file;
	if (!file) {
		f->align = SECTOR_SIZE;
		f->mem_align = SECTOR_SIZE;
		file = dentry_open(&f->meta->f_path, flags, current_cred());
	}
	if (IS_ERR(file))
		return PTR_ERR(file);
	f->data = file;
	return 0;
}

static int file_io_check(struct file *file, u32 flags)
{
	if (!S_ISREG(file_inode(file)->i_mode))
		return -EINVAL;
	if (IS_SWAPFILE(file_inode(file)))
		return -ETXTBSY;
	if (!file->f_op->read_iter ||
	    (!(flags & FILE_IO_READ_ONLY) && !file->f_op->write_iter))
		return -EINVAL;
	return 0;
}

static int file_io_learn(struct file_io *f)
{
	/* Overlayfs passes reads and writes on: the pages are not its own. */
	struct inode *inode = d_real_inode(file_dentry(f->data));

	f->pages = file_io_pages_get(inode->i_mapping);
	if (!f->pages)
		return -ENOMEM;
	f->told = file_io_losses(f->pages);
	/* btrfs waits for the inode lock of a direct read even under NOWAIT. */
	f->nowait = f->direct && f->data->f_mode & FMODE_NOWAIT &&
		    inode->i_sb->s_magic != BTRFS_SUPER_MAGIC;
	/*
	 * A time stamp update makes a NOWAIT write fail about once a jiffy;
	 * file_io_touch() does it instead.
	 */
	spin_lock(&f->data->f_lock);
	f->data->f_mode |= FMODE_NOCMTIME;
	spin_unlock(&f->data->f_lock);
	return 0;
}

/**
 * file_io_open() - open a file for I/O
 * @f: zeroed, but for what the driver sets
 * @meta: the file, without O_DIRECT; file_io_close() closes it, or, on error,
 *	this
 * @flags: enum file_io_flags
 *
 * Return: 0, or a negative error: nothing has to be closed.
 */
int file_io_open(struct file_io *f, struct file *meta, u32 flags)
{
	int err = file_io_check(meta, flags);

	f->meta = meta;
	f->flags = flags;
	mutex_init(&f->flushing);
	INIT_WORK(&f->drop_work, file_io_drop_work);
	if (!err)
		err = file_io_open_data(f);
	if (!err)
		err = file_io_learn(f);
	if (err)
		file_io_close(f);
	return err;
}
EXPORT_SYMBOL_GPL(file_io_open);

/**
 * file_io_close() - close it again
 * @f: the file, whose turn has ended; nothing is done for one that is not open
 */
void file_io_close(struct file_io *f)
{
	if (f->pages)
		file_io_pages_put(f->pages);
	if (f->data)
		fput(f->data);
	if (f->meta)
		fput(f->meta);
	f->pages = NULL;
	f->data = NULL;
	f->meta = NULL;
}
EXPORT_SYMBOL_GPL(file_io_close);
