/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What XFS leaves behind when shared extents are written to.
 *
 * XFS reserves blocks in a copy-on-write fork of the file, more than are written:
 * it rounds to a hint, which is 32 blocks if nobody has set one. Such a reservation may
 * cover a hole and the data behind it. Below 6.12 (6.1 for sure) SEEK_DATA from that hole then
 * jumps over this data, because xfs_seek_iomap_begin() passes an end where
 * xfs_trim_extent() takes a length. cp, tar and qemu-img make zeros of it. It lasts
 * until the inode leaves memory, or the reservation is given back: by XFS after
 * five minutes, or when asked to.
 *
 * What keeps a file right, on these kernels:
 *
 * 1. A hint of one block. Then a reservation is made for those blocks alone that are
 *    written, that hold data, and that are shared; no hole is among them. The write
 *    takes them out when it ends, and whoever punches holes waits for it. It is
 *    so for direct writes (xfs_reflink_fill_cow_hole()) as for those through the page
 *    cache (xfs_bmapi_reserve_delalloc()), and for other programs' too. The hint
 *    stays with the file: others that write to it share its inode, and nobody
 *    could say who the last one is.
 * 2. The hint is of no use in a file with an extent size hint, as qemu-img
 *    gives one to those it creates: the larger of the two counts, and that one cannot
 *    be changed any more. Whoever asks is told, and must not share extents.
 * 3. A file may be shared by others (cp --reflink), and there may be
 *    reservations when we come. An ioctl gives them back. It wants its argument
 *    in user memory, so the caller's process lends us a page. Done while nobody
 *    writes: blocks that are being written are left alone.
 * 4. Where there is no process, as when a device goes away by itself, the inode
 *    leaves memory with its last user.
 *
 * Written blocks of a write that failed are not given back; see put-back.c of
 * file-io.
 */
#ifndef LIVEBLK_COMPAT_COW_H
#define LIVEBLK_COMPAT_COW_H

#include <linux/completion.h>
#include <linux/dcache.h>
#include <linux/file.h>
#include <linux/fileattr.h>
#include <linux/fs.h>
#include <linux/kthread.h>
#include <linux/magic.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/refcount.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>
#include <linux/version.h>
#include <linux/workqueue.h>
#include <linux/writeback.h>

#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 12, 0)

/* As xfsprogs has it: the kernel's own header is not among the installed ones. */
struct compat_xfs_eofblocks {
	__u32 version;
	__u32 flags;
	__u32 uid;
	__u32 gid;
	__u32 prid;
	__u32 pad32;
	__u64 min_file_size;
	__u64 pad64[12];
};

#define COMPAT_XFS_FREE_EOFBLOCKS _IOR('X', 58, struct compat_xfs_eofblocks)
#define COMPAT_XFS_EOF_SYNC	BIT(0)
#define COMPAT_XFS_EOF_UID	BIT(1)
#define COMPAT_XFS_EOF_GID	BIT(2)
#define COMPAT_XFS_EOF_SIZE	BIT(4)

/* XFS passes over a file that others are reading past the page cache. */
#define COMPAT_COW_TRIES 50
#define COMPAT_COW_WAIT (10 * HZ)

/* Overlayfs passes reads and writes on. */
static inline struct inode *compat_cow_inode(struct file *file)
{
	return d_real_inode(file_dentry(file));
}

static inline bool compat_cow_affected(struct file *file)
{
	return compat_cow_inode(file)->i_sb->s_magic == XFS_SUPER_MAGIC;
}

static inline int compat_cow_set_attr(struct file *file, struct fileattr *fa)
{
#if LINUX_VERSION_CODE < KERNEL_VERSION(6, 3, 0)
	return vfs_fileattr_set(file_mnt_user_ns(file), file->f_path.dentry, fa);
#else
	return vfs_fileattr_set(file_mnt_idmap(file), file->f_path.dentry, fa);
#endif
}

/**
 * compat_cow_exact() - have no more reserved than is written
 * @file: open for writing
 *
 * Context: may sleep, but waits for no frozen file system.
 * Return: whether extents of the file may be shared.
 */
static inline bool compat_cow_exact(struct file *file)
{
	u32 block = i_blocksize(compat_cow_inode(file));
	struct fileattr fa = {};
	int err;

	if (!compat_cow_affected(file))
		return true;
	err = vfs_fileattr_get(file->f_path.dentry, &fa);
	if (err || fa.fsx_xflags & (FS_XFLAG_EXTSIZE | FS_XFLAG_REALTIME))
		return false;
	if (fa.fsx_xflags & FS_XFLAG_COWEXTSIZE && fa.fsx_cowextsize == block)
		return true;
	fa.fsx_xflags |= FS_XFLAG_COWEXTSIZE;
	fa.fsx_cowextsize = block;
	if (!file_start_write_trylock(file))
		return false;
	err = compat_cow_set_attr(file, &fa);
	file_end_write(file);
	return !err;
}

/**
 * struct compat_cow_job - reservations on their way back
 * @work: gives them back, by the ioctl
 * @file: whose they are
 * @mm: of the process that lends a page
 * @done: it is over
 * @refs: the worker and who waits for it, which it does not do for ever
 * @err: how it ended
 */
struct compat_cow_job {
	struct work_struct work;
	struct file *file;
	struct mm_struct *mm;
	struct completion done;
	refcount_t refs;
	int err;
};

static inline void compat_cow_job_put(struct compat_cow_job *job)
{
	if (refcount_dec_and_test(&job->refs))
		kfree(job);
}

/* The files of the same owner that are as large at least, this one among them. */
static inline int compat_cow_ask(struct file *file, void __user *page)
{
	struct inode *inode = file_inode(file);
	struct compat_xfs_eofblocks eof = {
		.version = 1,
		.flags = COMPAT_XFS_EOF_SYNC | COMPAT_XFS_EOF_UID |
			 COMPAT_XFS_EOF_GID | COMPAT_XFS_EOF_SIZE,
		.uid = from_kuid(&init_user_ns, inode->i_uid),
		.gid = from_kgid(&init_user_ns, inode->i_gid),
		.min_file_size = i_size_read(inode),
	};

	if (copy_to_user(page, &eof, sizeof(eof)))
		return -EFAULT;
	return file->f_op->unlocked_ioctl(file, COMPAT_XFS_FREE_EOFBLOCKS,
					  (unsigned long)page);
}

static inline int compat_cow_give_all(struct file *file, void __user *page)
{
	struct inode *inode = file_inode(file);
	int tries, err = -EBUSY;
	bool busy = true;

	for (tries = 0; busy && tries < COMPAT_COW_TRIES; tries++) {
		if (tries)
			schedule_timeout_uninterruptible(1);
		/* XFS leaves an inode alone that is on the list of dirty ones. */
		write_inode_now(inode, 1);
		busy = atomic_read(&inode->i_dio_count);
		err = compat_cow_ask(file, page);
		busy |= atomic_read(&inode->i_dio_count);
	}
	return err ?: busy ? -EBUSY : 0;
}

static inline void compat_cow_work(struct work_struct *work)
{
	struct compat_cow_job *job = container_of(work, struct compat_cow_job,
						  work);
	unsigned int noio = memalloc_noio_save();
	unsigned long page;

	kthread_use_mm(job->mm);
	page = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS, 0);
	if (IS_ERR_VALUE(page)) {
		job->err = page;
	} else {
		job->err = compat_cow_give_all(job->file, (void __user *)page);
		vm_munmap(page, PAGE_SIZE);
	}
	kthread_unuse_mm(job->mm);
	memalloc_noio_restore(noio);
	mmput(job->mm);
	/* Not the last one, unless nobody waits any more. */
	fput(job->file);
	complete(&job->done);
	compat_cow_job_put(job);
}

/* The worker has all rights, and no signal keeps it from what it does. */
static inline int compat_cow_run(struct file *file, struct workqueue_struct *wq)
{
	struct compat_cow_job *job = kzalloc(sizeof(*job), GFP_NOIO);
	int err = -ETIMEDOUT;

	if (!job)
		return -ENOMEM;
	INIT_WORK(&job->work, compat_cow_work);
	init_completion(&job->done);
	refcount_set(&job->refs, 2);
	job->file = get_file(file);
	mmget(current->mm);
	job->mm = current->mm;
	queue_work(wq, &job->work);
	if (wait_for_completion_timeout(&job->done, COMPAT_COW_WAIT))
		err = job->err;
	compat_cow_job_put(job);
	return err;
}

/**
 * compat_cow_give_back() - give back what is reserved and not written
 * @file: open for writing; nobody writes to it
 * @wq: with a rescuer if something waits for this; outlives @file
 *
 * Context: may sleep; waits for a bounded time.
 * Return: 0, or a negative error: copies that look for holes may lack data until the file
 * is closed by all.
 */
static inline int compat_cow_give_back(struct file *file,
				       struct workqueue_struct *wq)
{
	int err = -ESRCH;

	if (!compat_cow_affected(file))
		return 0;
	/* A frozen file system would be waited for. */
	if (!file_start_write_trylock(file))
		return -EBUSY;
	file_end_write(file);
	/* Overlayfs has no such call. */
	if (compat_cow_inode(file) != file_inode(file))
		err = -EOPNOTSUPP;
	else if (current->mm && !(current->flags & PF_KTHREAD))
		err = compat_cow_run(file, wq);
	if (err)
		d_mark_dontcache(compat_cow_inode(file));
	return err;
}

#else

static inline bool compat_cow_exact(struct file *file)
{
	return true;
}

static inline int compat_cow_give_back(struct file *file,
				       struct workqueue_struct *wq)
{
	return 0;
}
#endif

#endif
