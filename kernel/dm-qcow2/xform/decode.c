// SPDX-License-Identifier: GPL-2.0-only
/*
 * Memory for decoders. All images share it, because who has it waits for
 * nothing but a processor: no more is needed than there are of those. One for
 * each type is always there.
 *
 * Locks: decoders.lock, a leaf, from processes only.
 */
#include "xform.h"

#include <linux/mm.h>
#include <linux/slab.h>
#include <linux/wait.h>

/**
 * struct decoder - memory for one
 * @node: decoders.idle
 * @mem: for the decoder
 */
struct decoder {
	struct list_head node;
	void *mem;
};

/**
 * struct decoders - those of a compression type
 * @memory: bytes that one needs
 * @decode: unpacks a cluster
 * @lock: @idle, @nr
 * @idle: those not in use
 * @nr: how many there are
 * @wait: woken when one is idle
 */
struct decoders {
	size_t (*memory)(void);
	int (*decode)(void *mem, const void *src, u32 len, void *dst, u32 size);
	spinlock_t lock;	/* idle, nr */
	struct list_head idle;
	u32 nr;
	wait_queue_head_t wait;
};

static struct decoders decode_types[] = {
	[QCOW2_COMPRESSION_ZLIB] = {
		.memory = qcow2_zlib_memory, .decode = qcow2_zlib_decode,
	},
	[QCOW2_COMPRESSION_ZSTD] = {
		.memory = qcow2_zstd_memory, .decode = qcow2_zstd_decode,
	},
};

static struct decoder *decode_new(const struct decoders *t, gfp_t gfp)
{
	struct decoder *d = kzalloc(sizeof(*d), gfp);

	if (!d)
		return NULL;
	d->mem = kvmalloc(t->memory(), gfp);
	if (d->mem)
		return d;
	kfree(d);
	return NULL;
}

static struct decoder *decode_idle(struct decoders *t)
{
	struct decoder *d;

	spin_lock(&t->lock);
	d = list_first_entry_or_null(&t->idle, struct decoder, node);
	if (d)
		list_del(&d->node);
	spin_unlock(&t->lock);
	return d;
}

/* One more, if there may be and there is memory for it. */
static struct decoder *decode_more(struct decoders *t)
{
	struct decoder *d = NULL;
	bool may;

	spin_lock(&t->lock);
	may = t->nr < num_online_cpus();
	t->nr += may;
	spin_unlock(&t->lock);
	if (!may)
		return NULL;
	d = decode_new(t, GFP_NOIO | __GFP_NORETRY | __GFP_NOWARN);
	if (d)
		return d;
	spin_lock(&t->lock);
	t->nr--;
	spin_unlock(&t->lock);
	return NULL;
}

static struct decoder *decode_get(struct decoders *t)
{
	struct decoder *d = decode_idle(t) ?: decode_more(t);

	/* Who has one waits for nothing. */
	if (!d)
		wait_event(t->wait, (d = decode_idle(t)));
	return d;
}

static void decode_put(struct decoders *t, struct decoder *d)
{
	spin_lock(&t->lock);
	list_add(&d->node, &t->idle);
	spin_unlock(&t->lock);
	wake_up(&t->wait);
}

/**
 * qcow2_decode() - unpack a cluster
 * @type: compression type, one that the header may have
 * @src: what is stored; it may go on with something else
 * @len: bytes there
 * @dst: where the cluster goes
 * @size: bytes of the cluster
 *
 * Context: a worker. Return: 0, or -EIO if that cannot be unpacked.
 */
int qcow2_decode(u32 type, const void *src, u32 len, void *dst, u32 size)
{
	struct decoders *t = &decode_types[type];
	struct decoder *d = decode_get(t);
	int r = t->decode(d->mem, src, len, dst, size);

	decode_put(t, d);
	cond_resched();
	return r;
}

/**
 * qcow2_decode_init() - get the memory that is always there
 *
 * Return: 0 or -ENOMEM; qcow2_decode_exit() is to be called either way.
 */
int qcow2_decode_init(void)
{
	struct decoder *d;
	int i, r = 0;

	for (i = 0; i < ARRAY_SIZE(decode_types); i++) {
		struct decoders *t = &decode_types[i];

		spin_lock_init(&t->lock);
		INIT_LIST_HEAD(&t->idle);
		init_waitqueue_head(&t->wait);
		d = decode_new(t, GFP_KERNEL);
		if (d)
			list_add(&d->node, &t->idle);
		else
			r = -ENOMEM;
		t->nr = 1;
	}
	return r;
}

/**
 * qcow2_decode_exit() - undo qcow2_decode_init(), whole or half done
 */
void qcow2_decode_exit(void)
{
	struct decoder *d, *next;
	int i;

	for (i = 0; i < ARRAY_SIZE(decode_types); i++)
		list_for_each_entry_safe(d, next, &decode_types[i].idle, node) {
			kvfree(d->mem);
			kfree(d);
		}
}
