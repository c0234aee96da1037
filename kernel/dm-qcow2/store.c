// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the bytes of an image are: a regular file, by kiocb, or a block
 * device, by bio. Takes no locks of its own.
 */
#include "dm-qcow2.h"

#include "../compat/cow.h"

#include <linux/falloc.h>
#include <linux/file.h>
#include <linux/highmem.h>
#include <linux/magic.h>
#include <linux/namei.h>
#include <linux/pagemap.h>
#include <linux/sizes.h>
#include <linux/uio.h>

/* What is given up of the page cache before somebody is asked whether to go on. */
#define DROP_BYTES SZ_8M

/* Anything but a file or block device may block or act when it is opened. */
static int check_path(const char *name)
{
	struct path path;
	umode_t mode;
	int r;

	r = kern_path(name, LOOKUP_FOLLOW, &path);
	if (r)
		return r;
	mode = d_inode(path.dentry)->i_mode;
	path_put(&path);
	return S_ISREG(mode) || S_ISBLK(mode) ? 0 : -EINVAL;
}

static int open_spec(const char *spec, int flags, struct file **out)
{
	struct file *passed, *file;
	fmode_t need = FMODE_READ | ((flags & O_ACCMODE) == O_RDWR ?
				     FMODE_WRITE : 0);
	unsigned int fd;
	int r;

	if (*spec == '/') {
		r = check_path(spec);
		if (r)
			return r;
		file = filp_open(spec, flags | O_NONBLOCK, 0);
	} else if (!strncmp(spec, "fd:", 3) && !kstrtouint(spec + 3, 10, &fd)) {
		passed = fget(fd);
		if (!passed)
			return -EBADF;
		/* The descriptor is the authority: no more than it allows. */
		if ((passed->f_mode & need) != need)
			file = ERR_PTR(-EACCES);
		else
			file = dentry_open(&passed->f_path, flags,
					   current_cred());
		fput(passed);
	} else {
		return -EINVAL;
	}
	if (IS_ERR(file))
		return PTR_ERR(file);
	*out = file;
	return 0;
}

static char *file_name(struct file *file)
{
	char *buf = kmalloc(PATH_MAX, GFP_KERNEL);
	char *p, *name;

	if (!buf)
		return NULL;
	p = file_path(file, buf, PATH_MAX);
	name = IS_ERR(p) ? NULL : kstrdup(p, GFP_KERNEL);
	kfree(buf);
	return name;
}

/*
 * Whether direct I/O goes, with memory of the kernel, where the file system says
 * nothing of it: over a network that may be for the server to decide.
 */
static bool direct_works(struct file *file)
{
	struct page *page = alloc_page(GFP_KERNEL);
	struct iov_iter iter;
	struct kiocb iocb;
	struct bio_vec bv;
	ssize_t ret;

	if (!page)
		return false;
	bvec_set_page(&bv, page, PAGE_SIZE, 0);
	iov_iter_bvec(&iter, ITER_DEST, &bv, 1, PAGE_SIZE);
	init_sync_kiocb(&iocb, file);
	ret = file->f_op->read_iter ? file->f_op->read_iter(&iocb, &iter) : -EINVAL;
	__free_page(page);
	return ret >= 0;
}

/*
 * The alignment of direct I/O on a file, and of its memory; 0: there is none. A file
 * system that does not tell has blocks of a page at most, or none at all: what NFS
 * calls its block is what it likes to send at once.
 */
static u32 dio_alignment(struct file *file, u32 *mem)
{
	struct inode *inode = file_inode(file);
	struct kstat stat;

	*mem = SECTOR_SIZE;
	if (!vfs_getattr(&file->f_path, &stat, STATX_DIOALIGN,
			 AT_STATX_SYNC_AS_STAT) &&
	    (stat.result_mask & STATX_DIOALIGN)) {
		*mem = clamp_t(u32, stat.dio_mem_align, SECTOR_SIZE, PAGE_SIZE);
		return stat.dio_offset_align;
	}
	if (!direct_works(file))
		return 0;
	return clamp_t(u32, i_blocksize(inode), SECTOR_SIZE, PAGE_SIZE);
}

static int open_regular(struct qcow2_store *st, int flags)
{
	/* The same file again, whatever its path has become meanwhile. */
	struct path *path = &st->lock_file->f_path;
	struct file *file;

	/* An update of the access time would block where NOWAIT is promised. */
	flags |= O_NOATIME;
	file = dentry_open(path, flags | O_DIRECT, current_cred());
	if (!IS_ERR(file)) {
		u32 align = dio_alignment(file, &st->mem_align);

		st->file = file;
		st->direct = true;
		st->align = max_t(u32, SECTOR_SIZE, align);
		if (align && st->align <= QCOW2_BLOCK_SIZE)
			goto opened;
		fput(st->file);
		st->file = NULL;
	} else if (PTR_ERR(file) != -EINVAL) {
		return PTR_ERR(file);
	}
	st->direct = false;
	st->align = SECTOR_SIZE;
	st->mem_align = SECTOR_SIZE;
	file = dentry_open(path, flags, current_cred());
	if (IS_ERR(file))
		return PTR_ERR(file);
	st->file = file;
opened:
	if (!st->file->f_op->read_iter ||
	    (!st->read_only && !st->file->f_op->write_iter))
		return -EINVAL;
	if (IS_SWAPFILE(file_inode(st->file)))
		return -ETXTBSY;
	/* btrfs waits for the inode lock of a direct read even under NOWAIT. */
	st->nowait = st->direct && (st->file->f_mode & FMODE_NOWAIT) &&
		     file_inode(st->file)->i_sb->s_magic != BTRFS_SUPER_MAGIC;
	/*
	 * A time stamp update makes a NOWAIT write fail about once a jiffy;
	 * the flush does it instead, through lock_file.
	 */
	if (!st->read_only) {
		spin_lock(&st->file->f_lock);
		st->file->f_mode |= FMODE_NOCMTIME;
		spin_unlock(&st->file->f_lock);
	}
	return 0;
}

static int open_block(struct qcow2_store *st, struct dm_target *ti)
{
	dev_t devt = file_inode(st->lock_file)->i_rdev;
	compat_blk_mode_t mode = dm_table_get_mode(ti->table);
	char name[24];
	int r;

	if (st->read_only)
		mode &= ~COMPAT_BLK_OPEN_WRITE;
	snprintf(name, sizeof(name), "%u:%u", MAJOR(devt), MINOR(devt));
	r = dm_get_device(ti, name, mode, &st->dev);
	if (r)
		return r;
	st->bdev = st->dev->bdev;
	st->align = bdev_logical_block_size(st->bdev);
	st->mem_align = clamp_t(u32, bdev_dma_alignment(st->bdev) + 1,
				SECTOR_SIZE, PAGE_SIZE);
	st->direct = true;
	/* Clusters are written in any order, and again. */
	if (bdev_is_zoned(st->bdev)) {
		DMERR("%pg: an image cannot be on a zoned device", st->bdev);
		return -EOPNOTSUPP;
	}
	if (st->align > QCOW2_BLOCK_SIZE || (!st->read_only &&
					     bdev_read_only(st->bdev)))
		return st->align > QCOW2_BLOCK_SIZE ? -EINVAL : -EROFS;
	return bioset_init(&st->bs, 64, 0, 0);
}

/**
 * qcow2_store_open() - open the file or block device of an image
 * @st: zeroed; on error to be passed to qcow2_store_close()
 * @ti: for the device-mapper reference
 * @spec: "/path" or "fd:<n>"
 * @path: set to a name for it, to be freed by the caller
 * @read_only: never write
 *
 * Context: the constructor, in the process that runs dmsetup.
 * Return: 0 or a negative error.
 */
int qcow2_store_open(struct qcow2_store *st, struct dm_target *ti,
		     const char *spec, char **path, bool read_only)
{
	int flags = O_LARGEFILE | (read_only ? O_RDONLY : O_RDWR);
	struct inode *inode;
	int r;

	st->read_only = read_only;
	st->punch = true;
	r = open_spec(spec, flags, &st->lock_file);
	if (r)
		return r;
	*path = *spec == '/' ? kstrdup(spec, GFP_KERNEL) :
			       file_name(st->lock_file);
	if (!*path)
		return -ENOMEM;
	inode = file_inode(st->lock_file);
	if (S_ISBLK(inode->i_mode))
		return open_block(st, ti);
	if (!S_ISREG(inode->i_mode))
		return -EINVAL;
	return open_regular(st, flags);
}

/**
 * qcow2_store_close() - undo qcow2_store_open(), whole or half done
 * @st: the store
 * @ti: for the device-mapper reference
 */
void qcow2_store_close(struct qcow2_store *st, struct dm_target *ti)
{
	bioset_exit(&st->bs);
	if (st->dev)
		dm_put_device(ti, st->dev);
	if (st->file)
		fput(st->file);
	if (st->lock_file)
		fput(st->lock_file);
	memset(st, 0, sizeof(*st));
}

/**
 * qcow2_store_size() - bytes in the store
 * @st: the store
 *
 * Return: the size of the file or block device.
 */
u64 qcow2_store_size(const struct qcow2_store *st)
{
	if (st->bdev)
		return bdev_nr_bytes(st->bdev);
	return i_size_read(file_inode(st->file));
}

/**
 * qcow2_bvecs() - the entries of a bvec table that a part of it touches
 * @table: the table
 * @part: the part
 *
 * Not for_each_bvec(), which counts the pages of an entry one by one.
 * Return: their number.
 */
unsigned int qcow2_bvecs(const struct bio_vec *table, struct bvec_iter part)
{
	unsigned int n;

	for (n = 0; part.bi_size; n++)
		bvec_iter_advance_single(table, &part,
					 mp_bvec_iter_len(table, part));
	return n;
}

static void zero_rest(struct qcow2_sio *sio)
{
	struct bvec_iter iter;
	struct bio_vec bv;

	for_each_bvec(bv, sio->bv, iter, sio->bv_iter)
		memzero_bvec(&bv);
}

static void sio_issue_file(struct qcow2_sio *sio);

static void sio_continue(struct work_struct *work)
{
	unsigned int scope = qcow2_enter();

	sio_issue_file(container_of(work, struct qcow2_sio, work));
	qcow2_leave(scope);
}

/* Submission and completion are both over: sees what is left to be done. */
static void sio_put(struct qcow2_sio *sio)
{
	long ret;

	if (!atomic_dec_and_test(&sio->refs))
		return;
	ret = sio->ret;
	if (ret < 0) {
		sio->done(sio, ret == -EDQUOT ? -ENOSPC : ret);
		return;
	}
	bvec_iter_advance(sio->bv, &sio->bv_iter, ret);
	sio->pos += ret;
	if (!sio->bv_iter.bi_size) {
		sio->done(sio, 0);
	} else if (!sio->write && (!ret || sio->pos >=
				   qcow2_store_size(sio->store))) {
		/* Beyond the end of the file an image reads as zeros. */
		zero_rest(sio);
		sio->done(sio, 0);
	} else if (!ret) {
		sio->done(sio, -EIO);
	} else {
		/* A second try gets the rest, or the reason why not. */
		INIT_WORK(&sio->work, sio_continue);
		queue_work(sio->store->wq, &sio->work);
	}
}

static void sio_complete(struct kiocb *iocb, long ret)
{
	struct qcow2_sio *sio = container_of(iocb, struct qcow2_sio, iocb);

	if (sio->write)
		kiocb_end_write(iocb);
	sio->ret = ret;
	sio_put(sio);
}

static void sio_issue_file(struct qcow2_sio *sio)
{
	struct file *file = sio->store->file;
	struct blk_copy_charge charge;
	struct iov_iter iter;
	ssize_t ret;

	iov_iter_bvec(&iter, sio->write ? ITER_SOURCE : ITER_DEST,
		      __bvec_iter_bvec(sio->bv, sio->bv_iter),
		      qcow2_bvecs(sio->bv, sio->bv_iter),
		      sio->bv_iter.bi_size);
	iter.iov_offset = sio->bv_iter.bi_bvec_done;
	sio->iocb = (struct kiocb) {
		.ki_filp = file,
		.ki_pos = sio->pos,
		.ki_flags = sio->store->direct ? IOCB_DIRECT : 0,
		.ki_complete = sio->store->direct ? sio_complete : NULL,
		.ki_ioprio = sio->how.ioprio,
	};
	atomic_set(&sio->refs, 2);
	blk_copy_charge(&charge, sio->how.group);
	if (sio->write) {
		kiocb_start_write(&sio->iocb);
		sio->iocb.ki_flags |= IOCB_WRITE;
		ret = file->f_op->write_iter(&sio->iocb, &iter);
	} else {
		ret = file->f_op->read_iter(&sio->iocb, &iter);
	}
	blk_copy_uncharge(&charge);
	if (ret != -EIOCBQUEUED)
		sio_complete(&sio->iocb, ret);
	sio_put(sio);
}

static void sio_end_bio(struct bio *bio)
{
	struct qcow2_sio *sio = bio->bi_private;
	int err = blk_status_to_errno(bio->bi_status);

	bio_put(bio);
	sio->done(sio, err);
}

static void sio_issue_bio(struct qcow2_sio *sio)
{
	struct qcow2_store *st = sio->store;
	blk_opf_t op = sio->write ? REQ_OP_WRITE : REQ_OP_READ;
	struct bio *bio = bio_alloc_bioset(st->bdev, 0, op | sio->how.flags,
					   GFP_NOIO, &st->bs);

	if (sio->how.group)
		bio_associate_blkg_from_css(bio, sio->how.group);
	bio->bi_ioprio = sio->how.ioprio;
	/* The pages stay the owner's, as in a clone. */
	bio->bi_io_vec = (struct bio_vec *)sio->bv;
	bio->bi_iter = sio->bv_iter;
	bio->bi_iter.bi_sector = sio->pos >> SECTOR_SHIFT;
	bio_set_flag(bio, BIO_CLONED);
	bio->bi_private = sio;
	bio->bi_end_io = sio_end_bio;
	submit_bio_noacct(bio);
}

/**
 * qcow2_sio_submit() - start a request to the store
 * @sio: with @store, @done, @bv, @bv_iter, @pos and @write set
 *
 * What lies beyond the end of a file reads as zeros. Context: a worker; may
 * block for memory and file system locks. @done is called in any context,
 * possibly before this returns.
 */
void qcow2_sio_submit(struct qcow2_sio *sio)
{
	if (sio->store->bdev)
		sio_issue_bio(sio);
	else
		sio_issue_file(sio);
}

/**
 * qcow2_sio_bio() - let a request use the memory of a part of a bio
 * @sio: the request
 * @bio: the bio, which outlives it
 * @skip: bytes of @bio to leave out at its beginning
 * @len: bytes to take
 */
void qcow2_sio_bio(struct qcow2_sio *sio, struct bio *bio, u64 skip, u64 len)
{
	sio->bv = bio->bi_io_vec;
	sio->bv_iter = bio->bi_iter;
	bvec_iter_advance(sio->bv, &sio->bv_iter, skip);
	sio->bv_iter.bi_size = len;
}

/**
 * qcow2_sio_vec() - let a request use the memory of a bvec table
 * @sio: the request
 * @bv: the table, which outlives it
 * @len: bytes to use, from its beginning
 */
void qcow2_sio_vec(struct qcow2_sio *sio, const struct bio_vec *bv, u64 len)
{
	sio->bv = bv;
	sio->bv_iter = (struct bvec_iter) { .bi_size = len };
}

struct sync_sio {
	struct qcow2_sio sio;
	struct completion done;
	int err;
};

static void sync_done(struct qcow2_sio *sio, int err)
{
	struct sync_sio *s = container_of(sio, struct sync_sio, sio);

	s->err = err;
	complete(&s->done);
}

/**
 * qcow2_store_rw() - read or write and wait for it
 * @st: the store
 * @write: direction
 * @pos: byte offset, aligned to @st->align
 * @bv: the memory
 * @skip: bytes of @bv to leave out at its beginning
 * @len: bytes, aligned to @st->align
 * @how: on whose behalf
 *
 * Return: 0 or a negative error.
 */
int qcow2_store_rw(struct qcow2_store *st, bool write, u64 pos,
		   const struct bio_vec *bv, u64 skip, u64 len,
		   struct qcow2_how how)
{
	struct sync_sio s = {
		.sio = { .store = st, .done = sync_done, .pos = pos,
			 .write = write, .how = how },
	};

	init_completion(&s.done);
	qcow2_sio_vec(&s.sio, bv, skip + len);
	bvec_iter_advance(bv, &s.sio.bv_iter, skip);
	qcow2_sio_submit(&s.sio);
	wait_for_completion_io(&s.done);
	return s.err;
}

/**
 * qcow2_store_rw_buf() - read or write metadata and wait for it
 * @st: the store
 * @write: direction
 * @pos: byte offset, aligned to the block size
 * @buf: page-aligned kernel memory, from the page or vmalloc allocator
 * @len: bytes, a multiple of @st->align
 *
 * Return: 0 or a negative error.
 */
int qcow2_store_rw_buf(struct qcow2_store *st, bool write, u64 pos, void *buf,
		       u64 len)
{
	struct bio_vec bv[QCOW2_BUF_PAGES];
	int r = 0;

	while (len && !r) {
		u64 part = min_t(u64, len, QCOW2_BUF_SIZE), done;

		for (done = 0; done < part; done += PAGE_SIZE) {
			void *p = buf + done;

			bvec_set_page(&bv[done / PAGE_SIZE],
				      is_vmalloc_addr(p) ? vmalloc_to_page(p) :
							   virt_to_page(p),
				      min_t(u64, PAGE_SIZE, part - done), 0);
		}
		r = qcow2_store_rw(st, write, pos, bv, 0, part,
				   QCOW2_FOR_METADATA);
		buf += part;
		pos += part;
		len -= part;
	}
	return r;
}

/**
 * qcow2_store_flush() - make everything written so far durable
 * @st: the store
 *
 * Return: 0 or a negative error.
 */
int qcow2_store_flush(struct qcow2_store *st)
{
	if (st->bdev)
		return blkdev_issue_flush(st->bdev);
	return vfs_fsync_range(st->file, 0, LLONG_MAX, 1);
}

/**
 * qcow2_store_touch() - give a file the time stamps its writes left out
 * @st: the store
 */
void qcow2_store_touch(struct qcow2_store *st)
{
	if (st->bdev)
		return;
	file_start_write(st->lock_file);
	file_update_time(st->lock_file);
	file_end_write(st->lock_file);
}

static int copy_on_device(struct qcow2_store *st, u64 from, u64 to, u64 len,
			  const struct blk_copy_op *parent)
{
	struct blk_copy_request req = {
		.src = st->bdev,
		.dst = st->bdev,
		.src_pos = from,
		.dst_pos = to,
		.len = len,
		.parent = parent,
		.flags = BLK_COPY_EMULATE,
	};

	return blk_copy(&req);
}

/**
 * qcow2_store_share() - have bytes share what others are stored in
 * @st: the store
 * @from: byte offset
 * @to: byte offset
 * @len: bytes; the two ranges do not overlap
 *
 * Takes no memory for data. Context: a worker.
 * Return: bytes from the beginning on that it was done for; what is left has to
 * be copied, and shows the error if it was one.
 */
u64 qcow2_store_share(struct qcow2_store *st, u64 from, u64 to, u64 len)
{
	u64 done = 0;
	loff_t r = 1;
	u32 block;

	if (!READ_ONCE(st->shares))
		return 0;
	block = i_blocksize(file_inode(st->file));
	if (!IS_ALIGNED(from | to, block))
		return 0;
	len = round_down(len, block);
	while (done < len && r > 0) {
		r = vfs_clone_file_range(st->file, from + done, st->file,
					 to + done, len - done,
					 REMAP_FILE_CAN_SHORTEN);
		if (r > 0)
			done += r;
	}
	if (r == -EOPNOTSUPP)
		WRITE_ONCE(st->shares, false);
	return done;
}

/**
 * qcow2_store_copy() - copy bytes inside the store, by what is below it
 * @st: the store
 * @from: byte offset
 * @to: byte offset
 * @len: bytes; the two ranges do not overlap
 * @parent: for blk_copy_request.parent, or NULL
 *
 * A file system that copies by itself (NFS) may need memory for it: not for what
 * memory is freed by. Offsets and length are aligned to the store. Context: a
 * worker. Return: 0; -EOPNOTSUPP if it cannot; or another negative error.
 */
int qcow2_store_copy(struct qcow2_store *st, u64 from, u64 to, u64 len,
		     const struct blk_copy_op *parent)
{
	u64 done = 0;
	ssize_t r;

	if (st->bdev)
		return copy_on_device(st, from, to, len, parent);
	/* Overlayfs would share. */
	if (!st->exact || !st->file->f_op->copy_file_range)
		return -EOPNOTSUPP;
	while (done < len) {
		r = vfs_copy_file_range(st->file, from + done, st->file,
					to + done, len - done, 0);
		if (r == -EXDEV || r == -EINVAL)
			return -EOPNOTSUPP;
		if (r <= 0)
			return r ?: -EOPNOTSUPP;
		done += r;
	}
	return 0;
}

/**
 * qcow2_store_extend() - make room at the end of a file
 * @st: a file store
 * @from: where space is needed from on; not before the present end
 * @to: the wanted end
 *
 * The new part reads as zeros. Reserves space where the file system can, so
 * that a later write does not run out of it. Return: 0 or a negative error.
 */
int qcow2_store_extend(struct qcow2_store *st, u64 from, u64 to)
{
	long r = vfs_fallocate(st->file, 0, from, to - from);

	if (r == -EOPNOTSUPP)
		r = qcow2_store_size(st) >= to ? 0 :
			vfs_truncate(&st->file->f_path, to);
	return r == -EFBIG || r == -EDQUOT ? -ENOSPC : r;
}

/**
 * qcow2_store_trim() - cut a file at its end
 * @st: the store; nothing is done to a block device
 * @size: wanted size in bytes, not more than the present one
 *
 * Return: 0 or a negative error.
 */
int qcow2_store_trim(struct qcow2_store *st, u64 size)
{
	if (st->bdev || qcow2_store_size(st) <= size)
		return 0;
	return vfs_truncate(&st->file->f_path, size);
}

/**
 * qcow2_store_discard() - give space below back
 * @st: the store
 * @pos: byte offset
 * @len: bytes
 * @chain: what is under way; NULL at first
 *
 * A hint: what cannot be given back stays, and nothing relies on its content.
 * Over when qcow2_store_discarded() has returned.
 */
void qcow2_store_discard(struct qcow2_store *st, u64 pos, u64 len,
			 struct bio **chain)
{
	long r;

	if (!st->punch)
		return;
	if (st->bdev)
		r = bdev_max_discard_sectors(st->bdev) ?
			__blkdev_issue_discard(st->bdev, pos >> SECTOR_SHIFT,
					       len >> SECTOR_SHIFT, GFP_NOIO,
					       chain) :
			-EOPNOTSUPP;
	else
		r = vfs_fallocate(st->file, FALLOC_FL_PUNCH_HOLE |
				  FALLOC_FL_KEEP_SIZE, pos, len);
	if (r == -EOPNOTSUPP)
		st->punch = false;
}

/**
 * qcow2_store_discarded() - wait for discards to be over
 * @chain: what qcow2_store_discard() has begun, or NULL
 */
void qcow2_store_discarded(struct bio *chain)
{
	if (!chain)
		return;
	submit_bio_wait(chain);
	bio_put(chain);
}

/*
 * A block device's page cache is not coherent with bios: what programs wrote
 * there goes to the device, and what they read there is read anew.
 */
static void sync_cache(struct qcow2_store *st)
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
 * Context: nobody else may write. Return: nothing; without its help it goes on.
 */
void qcow2_store_begin(struct qcow2_store *st)
{
	if (st->bdev) {
		sync_cache(st);
		return;
	}
	if (st->read_only)
		return;
	st->exact = compat_cow_exact(st->file);
	st->shares = st->exact && st->file->f_op->remap_file_range;
}

static void drop_cache(struct work_struct *work)
{
	struct qcow2_store *st = container_of(work, struct qcow2_store,
					      drop_work);
	struct address_space *m = d_real_inode(file_dentry(st->file))->i_mapping;
	loff_t pos, last, size = i_size_read(m->host);

	for (pos = 0; pos < size && m->nrpages && !READ_ONCE(st->ended);
	     pos = last + 1) {
		last = pos + DROP_BYTES - 1;
		filemap_fdatawrite_range(m, pos, last);
		/* Errors are for the next flush to tell. */
		filemap_fdatawait_range_keep_errors(m, pos, last);
		invalidate_mapping_pages(m, pos >> PAGE_SHIFT,
					 last >> PAGE_SHIFT);
		cond_resched();
	}
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
	if (st->read_only || !st->nowait)
		return;
	WRITE_ONCE(st->ended, false);
	INIT_WORK(&st->drop_work, drop_cache);
	queue_work(st->wq, &st->drop_work);
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
	int r = 0;

	WRITE_ONCE(st->ended, true);
	if (!st->read_only && st->nowait)
		flush_work(&st->drop_work);
	if (st->bdev)
		sync_cache(st);
	else if (!st->read_only)
		r = compat_cow_give_back(st->file, st->wq);
	/* What others have brought about is with them, too. */
	return st->exact ? 0 : r;
}

/**
 * qcow2_store_block() - the size of writes that cost no read below
 * @st: the store
 *
 * Return: bytes, a power of two from 512 to 4096.
 */
u32 qcow2_store_block(const struct qcow2_store *st)
{
	u32 size = st->bdev ? bdev_physical_block_size(st->bdev) :
			      i_blocksize(file_inode(st->file));

	return clamp_t(u32, size, st->align, QCOW2_BLOCK_SIZE);
}

/**
 * qcow2_store_stable() - whether pages must not change while they are written
 * @st: the store
 *
 * Return: true if something below computes checksums over them.
 */
bool qcow2_store_stable(const struct qcow2_store *st)
{
	if (st->bdev)
		return bdev_stable_writes(st->bdev);
	/* Overlayfs passes writes on, and says nothing. */
	return compat_inode_stable_writes(d_real_inode(file_dentry(st->file)));
}
