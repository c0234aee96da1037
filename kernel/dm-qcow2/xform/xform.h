/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * xform: clusters that are stored in another form than the guest sees them in.
 * Reads compressed ones and unpacks them, once for all who want a piece. Knows
 * where they are, not whose they are. Calls store, format and core.
 *
 *   decode.c  memory for decoders, of all images together
 *   zlib.c    raw deflate
 *   zstd.c    zstd frames
 *   kept.c    clusters that were unpacked, of all images together
 *   unpack.c  reading and unpacking a cluster
 *
 * Lock order, outermost first; all are leaves to the floors above:
 *
 *   unpacker.loads  (semaphore) how many clusters are loaded at a time
 *   unpacker.busy   (bit) the memory that is always there
 *   kept_lock       (irq) what is kept
 *   decoders.lock   memory for decoders that is not in use
 *
 * Who unpacks waits for memory, for the store, and for others who do the same
 * and wait for nothing else. So it may be done within image.srcu. Nothing that
 * is held across a read belongs to more than one image: the store of one may be
 * a device of ours, too.
 */
#ifndef QCOW2_XFORM_H
#define QCOW2_XFORM_H

#include "../core/core.h"
#include "../format/format.h"
#include "../store/store.h"

struct qcow2_unpacker;
struct qcow2_unpacked;

/**
 * struct qcow2_packed - a compressed cluster
 * @unpacker: of the image that it is in
 * @host: byte offset of its first byte in the store
 * @len: bytes up to the end of its last sector
 */
struct qcow2_packed {
	struct qcow2_unpacker *unpacker;
	u64 host;
	u32 len;
};

/* decode.c */
int qcow2_decode_init(void);
void qcow2_decode_exit(void);
int qcow2_decode(u32 type, const void *src, u32 len, void *dst, u32 size);

/* zlib.c */
size_t qcow2_zlib_memory(void);
int qcow2_zlib_decode(void *mem, const void *src, u32 len, void *dst,
		      u32 size);

/* zstd.c */
size_t qcow2_zstd_memory(void);
int qcow2_zstd_decode(void *mem, const void *src, u32 len, void *dst,
		      u32 size);

/* unpack.c */
int qcow2_xform_init(void);
void qcow2_xform_exit(void);
struct qcow2_unpacker *qcow2_unpacker_new(struct qcow2_core *core,
					  struct qcow2_store *store);
void qcow2_unpacker_destroy(struct qcow2_unpacker *u);
void qcow2_unpacker_begin(struct qcow2_unpacker *u,
			  const struct qcow2_geometry *g);
void qcow2_unpacker_end(struct qcow2_unpacker *u);
int qcow2_unpacker_expect(struct qcow2_unpacker *u);
bool qcow2_unpack_at_once(const struct qcow2_packed *p, u64 from,
			  const struct bio_vec *bv, struct bvec_iter iter);
int qcow2_unpack(const struct qcow2_packed *p, u64 from,
		 const struct bio_vec *bv, struct bvec_iter iter,
		 struct qcow2_how how);
int qcow2_unpack_to_buf(const struct qcow2_packed *p, u64 from,
			struct qcow2_buf *buf, u64 skip, u64 len,
			struct qcow2_how how);
int qcow2_unpack_to_bio(const struct qcow2_packed *p, u64 from,
			struct bio *bio, u64 skip, u64 len,
			struct qcow2_how how);

#endif
