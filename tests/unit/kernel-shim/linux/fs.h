/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef SHIM_FS_H
#define SHIM_FS_H

/* Files that nobody opens: for inline functions of headers. */
#include <linux/atomic.h>

struct inode {
	loff_t i_size;
	unsigned int i_blkbits;
};

struct file {
	struct inode *f_inode;
};

struct kiocb {
	struct file *ki_filp;
	int ki_flags;
};

#define IOCB_WRITE 1

static inline struct inode *file_inode(const struct file *f)
{
	return f->f_inode;
}

static inline loff_t i_size_read(const struct inode *inode)
{
	return inode->i_size;
}

static inline unsigned int i_blocksize(const struct inode *inode)
{
	return 1U << inode->i_blkbits;
}

static inline void kiocb_end_write(struct kiocb *iocb)
{
	iocb->ki_flags &= ~IOCB_WRITE;
}

#endif
