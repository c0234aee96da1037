// SPDX-License-Identifier: GPL-2.0-only
/*
 * Unpacking a cluster: it is read as a whole, unpacked, and pieces of it are
 * copied for those who want them. Who finds that somebody loads it waits for
 * that.
 *
 * How many clusters of an image are loaded at a time is bounded, and so is the
 * memory for it. When there is none, one is loaded at a time, with what each
 * image has for that from when its first compressed cluster was seen.
 *
 * Locks: unpacker.loads, then unpacker.busy, for which one of those in loads waits
 * for another, who waits for no more; kept_lock inside.
 */
#include "kept.h"

#include <linux/highmem.h>
#include <linux/mm.h>
#include <linux/semaphore.h>
#include <linux/sizes.h>
#include <linux/slab.h>
#include <linux/wait_bit.h>

/* Memory of an image for clusters that are being loaded, roughly. */
#define LOADS_BYTES SZ_64M
#define LOADS_LEAST 4

#define UNPACKER_BUSY 0

/**
 * struct load - what loading a cluster takes
 * @c: the cluster
 * @src: what is read from the store
 */
struct load {
	struct qcow2_unpacked *c;
	void *src;
};

/**
 * struct qcow2_unpacker - unpacks the clusters of an image
 * @core: whom it belongs to
 * @store: where they are
 * @type: compression type
 * @size: bytes of a cluster
 * @loads: how many may be loaded at a time
 * @busy: UNPACKER_BUSY while @reserve is in use
 * @reserve: a load's, for when there is no memory; NULL until a compressed
 *	cluster is seen
 */
struct qcow2_unpacker {
	struct qcow2_core *core;
	struct qcow2_store *store;
	u32 type;
	u32 size;
	struct semaphore loads;
	unsigned long busy;
	struct load *reserve;
};

/* The most that a descriptor can name, and parts of blocks at both ends. */
static u32 unpack_most(const struct qcow2_unpacker *u)
{
	return 2 * u->size + 2 * PAGE_SIZE;
}

static void unpack_free_load(struct load *l)
{
	if (l->c)
		qcow2_kept_free(l->c->data, l->c->size);
	kfree(l->c);
	kvfree(l->src);
}

static void unpack_free_reserve(struct load *l)
{
	if (!l)
		return;
	if (l->c)
		kvfree(l->c->data);
	kfree(l->c);
	kvfree(l->src);
	kfree(l);
}

static struct load *unpack_new_reserve(const struct qcow2_unpacker *u)
{
	/* Held is a lock of the L2 tables, so that it must not try for ever. */
	gfp_t gfp = GFP_NOIO | __GFP_RETRY_MAYFAIL | __GFP_NOWARN;
	struct load *l = kzalloc(sizeof(*l), gfp);

	if (!l)
		return NULL;
	l->src = kvmalloc(unpack_most(u), gfp);
	l->c = kzalloc(sizeof(*l->c), gfp);
	if (l->c) {
		l->c->reserved = true;
		l->c->size = u->size;
		l->c->data = kvmalloc(u->size, gfp);
	}
	if (l->src && l->c && l->c->data)
		return l;
	unpack_free_reserve(l);
	return NULL;
}

static void unpack_init_cluster(struct qcow2_unpacked *c,
				const struct qcow2_packed *p)
{
	INIT_HLIST_NODE(&c->hash);
	INIT_LIST_HEAD(&c->lru);
	c->packed = *p;
	c->state = QCOW2_UNPACKED_LOADING;
	c->used = true;
	init_completion(&c->loaded);
	refcount_set(&c->refs, 1);
}

static bool unpack_alloc(struct load *l, u32 size, u32 src_size)
{
	gfp_t gfp = GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN;

	l->src = kvmalloc(src_size, gfp);
	l->c = kzalloc(sizeof(*l->c), gfp);
	if (!l->src || !l->c)
		return false;
	l->c->size = size;
	l->c->data = qcow2_kept_alloc(size);
	return l->c->data;
}

/* All that a load takes, at once: who has it waits for no more. */
static void unpack_get_memory(const struct qcow2_packed *p, u32 src_size,
			      struct load *l)
{
	struct qcow2_unpacker *u = p->unpacker;

	*l = (struct load) {};
	if (!unpack_alloc(l, u->size, src_size)) {
		unpack_free_load(l);
		wait_on_bit_lock_io(&u->busy, UNPACKER_BUSY,
				    TASK_UNINTERRUPTIBLE);
		*l = *u->reserve;
	}
	unpack_init_cluster(l->c, p);
}

/**
 * qcow2_unpacker_give_back() - the memory that is always there is free again
 * @u: the unpacker
 *
 * Context: any.
 */
void qcow2_unpacker_give_back(struct qcow2_unpacker *u)
{
	clear_and_wake_up_bit(UNPACKER_BUSY, &u->busy);
}

static void unpack_report(const struct qcow2_packed *p)
{
	/* Apart from the keys of entries of tables. */
	qcow2_report(p->unpacker->core, 1ULL << 63 | p->host,
		     "damaged compressed cluster at host offset", p->host);
}

/* Reads the blocks that it is in, and unpacks it. */
static int unpack_load(const struct load *l, u64 from, u32 len,
		       struct qcow2_how how)
{
	const struct qcow2_packed *p = &l->c->packed;
	struct qcow2_unpacker *u = p->unpacker;
	int r;

	r = qcow2_store_read_data(u->store, from, l->src, len, how);
	if (r)
		return r;
	r = qcow2_decode(u->type, l->src + (p->host - from), p->len,
			 l->c->data, u->size);
	qcow2_count(u->core, UNPACK);
	if (r)
		unpack_report(p);
	return r;
}

/* Loads a cluster, or finds that another does by now. */
static struct qcow2_unpacked *unpack_load_new(const struct qcow2_packed *p,
					      struct qcow2_how how)
{
	u64 align = p->unpacker->store->align;
	u64 from = round_down(p->host, align);
	u32 len = round_up(p->host + p->len, align) - from;
	struct qcow2_unpacked *other = NULL;
	struct load l;

	unpack_get_memory(p, round_up(len, PAGE_SIZE), &l);
	if (!l.c->reserved)
		other = qcow2_kept_insert(l.c);
	if (other) {
		unpack_free_load(&l);
		return other;
	}
	qcow2_kept_loaded(l.c, unpack_load(&l, from, len, how));
	if (!l.c->reserved)
		kvfree(l.src);
	return l.c;
}

/* A cluster that was not kept, when there is room for one more load. */
static struct qcow2_unpacked *unpack_fetch(const struct qcow2_packed *p,
					   struct qcow2_how how)
{
	struct qcow2_unpacked *c;

	/* Others may wait for it, too, who have not said that it may fail. */
	how.flags &= ~(REQ_RAHEAD | REQ_FAILFAST_MASK);
	down(&p->unpacker->loads);
	c = qcow2_kept_find(p) ?: unpack_load_new(p, how);
	up(&p->unpacker->loads);
	return c;
}

/* Returns the cluster, loaded, with a reference for the caller. */
static struct qcow2_unpacked *unpack_get(const struct qcow2_packed *p,
					 struct qcow2_how how)
{
	struct qcow2_unpacked *c = qcow2_kept_find(p) ?: unpack_fetch(p, how);
	int r;

	wait_for_completion_io(&c->loaded);
	r = READ_ONCE(c->state);
	if (!r)
		return c;
	qcow2_kept_put(c);
	return ERR_PTR(r);
}

static void unpack_copy(const struct qcow2_unpacked *c, u64 from,
			const struct bio_vec *bv, struct bvec_iter iter)
{
	struct bvec_iter pos;
	struct bio_vec part;

	for_each_bvec(part, bv, pos, iter) {
		memcpy_to_bvec(&part, c->data + from);
		from += part.bv_len;
	}
}

/**
 * qcow2_unpack_at_once() - copy a piece of a cluster that is kept
 * @p: where it is
 * @from: byte offset in the cluster
 * @bv: where the piece goes
 * @iter: which part of that
 *
 * Context: any that may sleep or not. Return: false if it is not kept.
 */
bool qcow2_unpack_at_once(const struct qcow2_packed *p, u64 from,
			  const struct bio_vec *bv, struct bvec_iter iter)
{
	struct qcow2_unpacked *c = qcow2_kept_find(p);
	bool ready;

	if (!c)
		return false;
	/* Pairs with smp_store_release() in qcow2_kept_loaded(). */
	ready = !smp_load_acquire(&c->state);
	if (ready)
		unpack_copy(c, from, bv, iter);
	qcow2_kept_put(c);
	return ready;
}

/**
 * qcow2_unpack() - copy a piece of a cluster, which is unpacked if need be
 * @p: where it is
 * @from: byte offset in the cluster
 * @bv: where the piece goes
 * @iter: which part of that
 * @how: on whose behalf
 *
 * Context: a worker; waits for the I/O. Its clusters in the store stay what they
 * are meanwhile. Return: 0 or a negative error; what is wrong with the image is
 * reported.
 */
int qcow2_unpack(const struct qcow2_packed *p, u64 from,
		 const struct bio_vec *bv, struct bvec_iter iter,
		 struct qcow2_how how)
{
	struct qcow2_unpacked *c = unpack_get(p, how);

	if (IS_ERR(c))
		return PTR_ERR(c);
	unpack_copy(c, from, bv, iter);
	qcow2_kept_put(c);
	return 0;
}

/**
 * qcow2_unpack_to_buf() - copy a piece of a cluster to a buffer
 * @p: where it is
 * @from: byte offset in the cluster
 * @buf: the buffer
 * @skip: byte offset in it
 * @len: bytes
 * @how: on whose behalf
 *
 * Context, return: as qcow2_unpack().
 */
int qcow2_unpack_to_buf(const struct qcow2_packed *p, u64 from,
			struct qcow2_buf *buf, u64 skip, u64 len,
			struct qcow2_how how)
{
	struct bvec_iter iter = { .bi_size = skip + len };

	bvec_iter_advance(buf->bv, &iter, skip);
	return qcow2_unpack(p, from, buf->bv, iter, how);
}

/**
 * qcow2_unpack_to_bio() - copy a piece of a cluster to the memory of a bio
 * @p: where it is
 * @from: byte offset in the cluster
 * @bio: the bio
 * @skip: byte offset in it
 * @len: bytes
 * @how: on whose behalf
 *
 * Context, return: as qcow2_unpack().
 */
int qcow2_unpack_to_bio(const struct qcow2_packed *p, u64 from,
			struct bio *bio, u64 skip, u64 len,
			struct qcow2_how how)
{
	struct bvec_iter iter = bio->bi_iter;

	bvec_iter_advance(bio->bi_io_vec, &iter, skip);
	iter.bi_size = len;
	return qcow2_unpack(p, from, bio->bi_io_vec, iter, how);
}

/**
 * qcow2_unpacker_expect() - get ready for compressed clusters, one was seen
 * @u: the unpacker
 *
 * Gets the memory that is always there from then on. Context: a worker.
 * Return: 0 or -ENOMEM.
 */
int qcow2_unpacker_expect(struct qcow2_unpacker *u)
{
	struct load *l;

	if (READ_ONCE(u->reserve))
		return 0;
	l = unpack_new_reserve(u);
	if (!l)
		return -ENOMEM;
	/* Somebody else may have seen another one. */
	if (cmpxchg(&u->reserve, NULL, l))
		unpack_free_reserve(l);
	return 0;
}

/**
 * qcow2_unpacker_begin() - get ready to unpack clusters of an image
 * @u: the unpacker
 * @g: the image's geometry
 */
void qcow2_unpacker_begin(struct qcow2_unpacker *u,
			  const struct qcow2_geometry *g)
{
	u->type = g->compression_type;
	u->size = qcow2_cluster_size(g);
	sema_init(&u->loads, clamp_t(u32, 2 * num_online_cpus(), LOADS_LEAST,
				     max(LOADS_BYTES / (3 * u->size),
					 LOADS_LEAST)));
}

/**
 * qcow2_unpacker_end() - forget all that was unpacked
 * @u: the unpacker, begun or not; nobody uses it
 */
void qcow2_unpacker_end(struct qcow2_unpacker *u)
{
	/* Without it there was nothing to unpack. */
	if (!u->reserve)
		return;
	qcow2_kept_drop(u);
	unpack_free_reserve(u->reserve);
	u->reserve = NULL;
}

/**
 * qcow2_unpacker_new() - make what unpacks the clusters of an image
 * @core: whom it belongs to
 * @store: where they are
 *
 * Return: the unpacker, or NULL.
 */
struct qcow2_unpacker *qcow2_unpacker_new(struct qcow2_core *core,
					  struct qcow2_store *store)
{
	struct qcow2_unpacker *u = kzalloc(sizeof(*u), GFP_KERNEL);

	if (!u)
		return NULL;
	u->core = core;
	u->store = store;
	return u;
}

/**
 * qcow2_unpacker_destroy() - undo qcow2_unpacker_new()
 * @u: the unpacker, ended; or NULL
 */
void qcow2_unpacker_destroy(struct qcow2_unpacker *u)
{
	kfree(u);
}

/**
 * qcow2_xform_init() - get what all images share
 *
 * Return: 0 or a negative error.
 */
int qcow2_xform_init(void)
{
	int r = qcow2_decode_init();

	if (!r)
		r = qcow2_kept_init();
	if (r)
		qcow2_xform_exit();
	return r;
}

/**
 * qcow2_xform_exit() - undo qcow2_xform_init()
 */
void qcow2_xform_exit(void)
{
	qcow2_kept_exit();
	qcow2_decode_exit();
}
