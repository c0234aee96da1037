/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * io: bios, and copies within the image. Sees extents, never an L2 entry. Calls
 * map, meta (for FLUSH), xform, store and core.
 *
 *   request.c  what a bio or a copy has under way
 *   write.c    writes, in place or into new clusters
 *   read.c     reads
 *   align.c    I/O that the store cannot do at its alignment
 *   zero.c     DISCARD and WRITE_ZEROES
 *   bio.c      a bio's way through a worker
 *   fast.c     I/O to mapped clusters in the submitter's context
 *   copy.c     copies within the image, for blk-copy
 *
 * Takes no locks but those of what it calls. A worker never waits for another
 * bio: what is in its way parks it (map/range.c).
 */
#ifndef QCOW2_IO_H
#define QCOW2_IO_H

#include "../map/map.h"

/**
 * struct qcow2_device - an image in use: what bios need
 * @core: what all floors tell of
 * @store: where its bytes are
 * @data_file: where guest data is instead, if it is external
 * @mem_align: memory begins and ends at multiples of it for all stores, in bytes
 * @image: how it changes
 * @map: its mapping
 * @io_wq: the slow path
 * @parts: memory of parts
 * @copy: provider at blk-copy, or NULL if the image is never written
 */
struct qcow2_device {
	struct qcow2_core core;
	struct qcow2_store store;
	struct qcow2_store data_file;
	u32 mem_align;
	struct qcow2_image image;
	struct qcow2_map map;
	struct workqueue_struct *io_wq;
	mempool_t parts;
	struct blk_copy_provider *copy;
};

/**
 * struct qcow2_request - what a bio or a copy has under way
 * @dev: the device
 * @pending: parts in flight, plus one for who goes through it
 * @error: first error of a part
 * @pos: how far it has been gone through: guest offset in bytes
 * @end: guest offset of its end
 * @how: on whose behalf it is
 * @keep_space: clusters that are given back after an error keep their space
 * @parked: while it waits for guest clusters; go_on() has it gone on with
 * @ended: called once, in any context, when nothing is pending
 */
struct qcow2_request {
	struct qcow2_device *dev;
	atomic_t pending;
	int error;
	u64 pos;
	u64 end;
	struct qcow2_how how;
	bool keep_space;
	struct qcow2_parked parked;
	void (*ended)(struct qcow2_request *rq);
};

/**
 * struct qcow2_part - a part of a request
 * @sio: its I/O
 * @rq: the request it belongs to
 * @change: of the mapping, if it is a write
 * @pin: of the extent it uses, or -1
 * @buf: memory, or NULL
 */
struct qcow2_part {
	struct qcow2_store_io sio;
	struct qcow2_request *rq;
	struct qcow2_change change;
	int pin;
	struct qcow2_buf *buf;
};

enum qcow2_io_flags {
	QCOW2_IO_PINNED,	/* holds @pin */
	QCOW2_IO_QUEUED,	/* has been to the slow path */
	QCOW2_IO_BOUNCE,	/* direct I/O from its own pages was refused */
};

/**
 * struct qcow2_io - per-bio data
 * @iocb: the fast path's request to a file
 * @rq: the slow path's; up to QCOW2_IO_QUEUED only @dev, @error and @end are set
 * @start: guest offset in bytes of the bio
 * @pin: of the extent that the fast path uses, if QCOW2_IO_PINNED
 * @flags: enum qcow2_io_flags
 * @work: the slow path
 * @waiter: FLUSH and FUA
 */
struct qcow2_io {
	struct kiocb iocb;
	struct qcow2_request rq;
	u64 start;
	int pin;
	unsigned long flags;
	struct work_struct work;
	struct qcow2_waiter waiter;
};

/* request.c */
void qcow2_request_init(struct qcow2_request *rq,
			void (*go_on)(struct qcow2_parked *p),
			void (*ended)(struct qcow2_request *rq));
void qcow2_request_error(struct qcow2_request *rq, int err);
void qcow2_request_gone_through(struct qcow2_request *rq);
void qcow2_request_put(struct qcow2_request *rq);
struct qcow2_part *qcow2_part_new(struct qcow2_request *rq);
void qcow2_part_end(struct qcow2_part *p);
void qcow2_part_done(struct qcow2_part *p, int err);
void qcow2_part_rw(struct qcow2_part *p, bool write, struct qcow2_store *st,
		   u64 host);

/* write.c */
int qcow2_write_reserve(struct qcow2_part *p, u64 pos, u64 end, bool unlocked,
			bool whole, struct qcow2_extent *e);
int qcow2_write_bio(struct qcow2_request *rq, struct bio *bio, u64 start);
int qcow2_write_buf(struct qcow2_part *p, u64 pos, u64 end);
int qcow2_write_zeros(struct qcow2_request *rq, u64 end);

/* read.c */
int qcow2_read_bio(struct qcow2_request *rq, struct bio *bio, u64 start);

/* align.c */
int qcow2_align_fetch(struct qcow2_request *rq, u64 pos, u64 len,
		      struct qcow2_buf *buf);
int qcow2_align_read(struct qcow2_request *rq, struct bio *bio, u64 start,
		     u64 end);
int qcow2_align_write(struct qcow2_request *rq, struct bio *bio, u64 start,
		      u64 end);

/* zero.c */
int qcow2_zero_step(struct qcow2_request *rq, enum qcow2_zeroing how);

/* bio.c */
void qcow2_bio_record(struct bio *bio, struct qcow2_io *io);
void qcow2_bio_queue(struct qcow2_io *io);
void qcow2_bio_punt(struct qcow2_io *io);
void qcow2_bio_done(struct qcow2_io *io);
void qcow2_bio_flush(struct qcow2_io *io);

/* fast.c */
int qcow2_fast_rw(struct bio *bio, struct qcow2_io *io);
int qcow2_fast_flush(struct bio *bio, struct qcow2_io *io);

/* copy.c */
int qcow2_copy_register(struct qcow2_device *d);
void qcow2_copy_unregister(struct qcow2_device *d);

/* Zeros that are put into a raw data file at a time. */
#define QCOW2_RAW_ZEROES SZ_64M

/* Where the image's guest data is. */
static inline struct qcow2_store *qcow2_data(const struct qcow2_device *d)
{
	return d->image.layer.data;
}

/*
 * Whether writes in place must exclude each other, too: there may be I/O to
 * parts of the store's blocks (align.c).
 */
static inline bool qcow2_align_holds(const struct qcow2_device *d)
{
	return qcow2_data(d)->align > SECTOR_SIZE;
}

static inline struct bio *qcow2_io_bio(struct qcow2_io *io)
{
	return dm_bio_from_per_bio_data(io, sizeof(struct qcow2_io));
}

#endif
