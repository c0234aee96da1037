// SPDX-License-Identifier: GPL-2.0-only
/*
 * Reads and writes by a worker, to the end: what a file system does in part is
 * gone on with, what its direct I/O refuses goes through the page cache if the
 * driver likes, what went through the page cache is seen written, and what a
 * write has left behind that failed is cleaned up.
 *
 * Locks: see settle.c, in the part that is called by a worker.
 */
#include <linux/export.h>
#include <linux/highmem.h>
#include <linux/uio.h>

#include "../blk-copy/api.h"
#include "file-io.h"

static void file_io_work(struct work_struct *work);

/* Has a worker go on with it. */
static void file_io_queue(struct file_io_req *req)
{
	INIT_WORK(&req->work, file_io_work);
	queue_work(req->file->wq, &req->work);
}

static void file_io_zero_rest(struct file_io_req *req)
{
	struct bvec_iter iter;
	struct bio_vec bv;

	for_each_bvec(bv, req->bv, iter, req->part)
		memzero_bvec(&bv);
}

static bool file_io_is_beyond(const struct file_io_req *req)
{
	return !req->write && req->file->flags & FILE_IO_ZERO_BEYOND &&
	       (!req->ret || req->pos >= file_io_size(req->file));
}

/* By a worker, if there is something left to clean up. */
static void file_io_fail(struct file_io_req *req, int err)
{
	if (req->write &&
	    file_io_leaves(req->file, req->pos, req->part.bi_size)) {
		req->error = err;
		file_io_queue(req);
	} else {
		req->done(req, err);
	}
}

static void file_io_failed(struct file_io_req *req)
{
	/* Not aligned as direct I/O has it here. */
	if (req->ret == -EINVAL && req->iocb.ki_flags & IOCB_DIRECT &&
	    req->file->flags & FILE_IO_FALL_BACK) {
		req->buffered = true;
		file_io_queue(req);
	} else {
		file_io_fail(req, req->ret);
	}
}

/* Submission or completion is over; after both, sees what is left to be done. */
static void file_io_put(struct file_io_req *req)
{
	if (!atomic_dec_and_test(&req->refs))
		return;
	if (req->ret < 0) {
		file_io_failed(req);
		return;
	}
	file_io_advance(req, req->ret);
	if (!req->part.bi_size) {
		req->done(req, 0);
	} else if (file_io_is_beyond(req)) {
		file_io_zero_rest(req);
		req->done(req, 0);
	} else if (!req->ret) {
		/* The end of a file that has shrunk. */
		file_io_fail(req, -EIO);
	} else {
		/* A second try gets the rest, or the reason why not. */
		file_io_queue(req);
	}
}

static void file_io_complete(struct kiocb *iocb, long ret)
{
	struct file_io_req *req = container_of(iocb, struct file_io_req, iocb);

	file_io_ended(iocb);
	req->ret = ret;
	file_io_put(req);
}

static ssize_t file_io_issue_write(struct file_io_req *req,
				   struct iov_iter *iter)
{
	struct file *file = req->iocb.ki_filp;
	struct file_io *f = req->file;
	u64 since = file_io_mark(f);
	u64 len = req->part.bi_size;
	loff_t pos = req->pos;
	ssize_t ret;

	kiocb_start_write(&req->iocb);
	req->iocb.ki_flags |= IOCB_WRITE;
	file_io_note_write(f);
	ret = file->f_op->write_iter(&req->iocb, iter);
	/* What is queued may be over, and is past the page cache. */
	if (ret == -EIOCBQUEUED)
		return ret;
	return file_io_settle(f, pos, len, since, ret);
}

static void file_io_issue(struct file_io_req *req)
{
	struct file_io *f = req->file;
	bool direct = f->direct && !req->buffered;
	struct file *file = req->buffered ? f->meta : f->data;
	struct blk_copy_charge charge;
	struct iov_iter iter;
	ssize_t ret;

	req->iocb = (struct kiocb) {
		.ki_filp = file,
		.ki_pos = req->pos,
		.ki_flags = direct ? IOCB_DIRECT : 0,
		/* Without it the call ends when the I/O has ended. */
		.ki_complete = direct ? file_io_complete : NULL,
		.ki_ioprio = req->ioprio,
	};
	file_io_iter(&iter, req->write, req->bv, &req->part);
	atomic_set(&req->refs, 2);
	blk_copy_charge(&charge, req->group);
	ret = req->write ? file_io_issue_write(req, &iter) :
			   file->f_op->read_iter(&req->iocb, &iter);
	blk_copy_uncharge(&charge);
	if (ret != -EIOCBQUEUED)
		file_io_complete(&req->iocb, ret);
	file_io_put(req);
}

static void file_io_go_on(struct file_io_req *req)
{
	if (req->write && req->file->flags & FILE_IO_KEEP_SIZE &&
	    !file_io_holds(req->file, req->pos, req->part.bi_size))
		req->done(req, -EIO);
	else
		file_io_issue(req);
}

static void file_io_clean_up(struct file_io_req *req)
{
	struct blk_copy_charge charge;

	blk_copy_charge(&charge, req->group);
	file_io_put_back(req->file, req->pos, req->part.bi_size);
	blk_copy_uncharge(&charge);
	req->done(req, req->error);
}

static void file_io_work(struct work_struct *work)
{
	struct file_io_req *req = container_of(work, struct file_io_req, work);
	unsigned int scope = file_io_scope_save();

	if (req->error)
		file_io_clean_up(req);
	else
		file_io_go_on(req);
	file_io_scope_restore(scope);
}

/**
 * file_io_submit() - do a read or write, which may block
 * @req: the request, with what the driver sets in it; @req->done is called when
 *	it is over, possibly before this returns
 *
 * Context: between file_io_scope_save() and file_io_scope_restore(); with a
 * @req->group, in a kernel thread that is not charged to others yet.
 */
void file_io_submit(struct file_io_req *req)
{
	req->buffered = false;
	req->error = 0;
	file_io_go_on(req);
}
EXPORT_SYMBOL_GPL(file_io_submit);
