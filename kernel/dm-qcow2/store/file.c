// SPDX-License-Identifier: GPL-2.0-only
/*
 * Requests to a regular file: what file-io does, as the store has it. Takes no
 * locks of its own.
 */
#include "store.h"

/**
 * qcow2_file_open() - open a regular file for I/O
 * @st: the store, with @lock_file open
 *
 * Return: 0 or a negative error; qcow2_store_close() is to be called either way.
 */
int qcow2_file_open(struct qcow2_store *st)
{
	/* Beyond the end of the file an image reads as zeros. */
	u32 flags = FILE_IO_ZERO_BEYOND;
	int r;

	if (st->read_only)
		flags |= FILE_IO_READ_ONLY;
	st->io.wq = st->wq;
	r = file_io_open(&st->io, st->lock_file, flags);
	st->lock_file = NULL;
	if (r)
		return r;
	st->file = st->io.data;
	st->align = st->io.align;
	st->mem_align = st->io.mem_align;
	st->direct = st->io.direct;
	return 0;
}

static void file_done(struct file_io_req *req, int err)
{
	struct qcow2_store_io *sio = container_of(req, struct qcow2_store_io,
						  file);

	sio->done(sio, err == -EDQUOT ? -ENOSPC : err);
}

/**
 * qcow2_file_issue() - start a request to a file
 * @sio: the request
 *
 * Context: a worker; may block.
 */
void qcow2_file_issue(struct qcow2_store_io *sio)
{
	sio->file.file = &sio->store->io;
	sio->file.done = file_done;
	sio->file.bv = sio->bv;
	sio->file.part = sio->bv_iter;
	sio->file.pos = sio->pos;
	sio->file.write = sio->write;
	sio->file.ioprio = sio->how.ioprio;
	sio->file.group = sio->how.group;
	file_io_submit(&sio->file);
}
