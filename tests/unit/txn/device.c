// SPDX-License-Identifier: GPL-2.0-only
/* Requests to an image: in parts that are under way at the same time. */
#include "../../../kernel/dm-qcow2/map/map.h"

#include "device.h"

#include <linux/slab.h>

#define PART_PAGES 130

struct device {
	struct dm_table table;
	struct dm_target ti;
	struct qcow2_core core;
	struct qcow2_store store;
	struct qcow2_image image;
	struct qcow2_map map;
};

/* A read or a write. */
struct guest_io {
	struct device *dev;
	atomic_t pending;
	int error;
	struct completion done;
	struct qcow2_parked parked;
	struct completion my_turn;
};

struct part {
	struct guest_io *rq;
	struct qcow2_change change;
	struct qcow2_store_io sio;
	int pin;
	struct bio_vec bv[PART_PAGES];
};

static void device_declare_locks(struct device *dev)
{
	struct qcow2_image *q = &dev->image;

	sim_lock_order(&q->frees.mutex.dep, &q->layer.l2_lock[0].dep);
	sim_lock_order(&q->layer.l2_lock[0].dep, &q->alloc.grow_mutex.dep);
	sim_lock_order(&q->alloc.grow_mutex.dep, &q->alloc.load_lock.dep);
	sim_lock_order(&q->alloc.load_lock.dep, &q->alloc.lock.dep);
	sim_lock_order(&q->alloc.lock.dep, &q->alloc.reftable_lock.dep);
	sim_lock_order(&q->alloc.reftable_lock.dep, &q->head.lock.dep);
	sim_lock_order(&q->head.lock.dep, &q->txn.lock.dep);
	sim_lock_order(&q->txn.lock.dep, &q->txn.wait_lock.dep);
	sim_lock_order(&q->txn.wait_lock.dep, &q->layer.places.lock.dep);
	sim_lock_order(&q->layer.places.lock.dep, &q->layer.cache.lock.dep);
	sim_lock_order(&q->layer.cache.lock.dep, &dev->map.ranges.lock.dep);
}

struct device *device_new(struct disk *d, bool bdev, uint32_t cache_kib, uint64_t size)
{
	struct device *dev = kzalloc(sizeof(*dev), GFP_KERNEL);
	struct qcow2_layer *l = &dev->image.layer;

	dev->table.name = "simulated";
	dev->ti.table = &dev->table;
	dev->core.path = kzalloc(8, GFP_KERNEL);
	strcpy(dev->core.path, "image");
	dev->ti.len = size >> SECTOR_SHIFT;
	dev->store.core = &dev->core;
	dev->store.file = (struct file *)d;
	dev->store.bdev = bdev ? (struct block_device *)d : NULL;
	dev->store.align = SECTOR_SIZE;
	dev->store.direct = true;
	dev->store.punch = true;
	l->core = &dev->core;
	dev->image.sectors = dev->ti.len;
	l->meta = &dev->store;
	l->data = &dev->store;
	if (qcow2_core_init(&dev->core, &dev->ti) ||
	    qcow2_image_init(&dev->image, cache_kib) ||
	    qcow2_map_init(&dev->map, &dev->image))
		sim_fail("there is no memory for a device");
	device_declare_locks(dev);
	return dev;
}

void device_free(struct device *dev)
{
	qcow2_map_exit(&dev->map);
	qcow2_image_exit(&dev->image);
	qcow2_core_exit(&dev->core);
	kfree(dev);
}

int device_load(struct device *dev)
{
	int r;

	dev->core.mode = QCOW2_MODE_RW;
	r = qcow2_image_load(&dev->image, NULL, false);
	if (r)
		qcow2_image_unload(&dev->image);
	return r;
}

static void device_let_go(struct device *dev)
{
	qcow2_free_forget(&dev->image);
	qcow2_image_unload(&dev->image);
	qcow2_report_again(&dev->core);
}

/* Kept, and in use again. */
static void device_keep(struct device *dev)
{
	struct qcow2_image *q = &dev->image;

	if (q->layer.geo.version >= 3)
		qcow2_header_write(q, true);
	qcow2_txn_stopping(q, false);
	qcow2_space_again(q);
	spin_lock_irq(&q->txn.lock);
	qcow2_dirty_soon(q);
	spin_unlock_irq(&q->txn.lock);
}

int device_go_on(struct device *dev)
{
	return qcow2_bitmaps_begin(&dev->image);
}

int device_close(struct device *dev)
{
	struct qcow2_image *q = &dev->image;
	int r;

	synchronize_srcu(&q->srcu);
	r = qcow2_image_close(q);
	qcow2_image_settle(q);
	if (r)
		device_keep(dev);
	else
		device_let_go(dev);
	return r;
}

void device_give_up(struct device *dev)
{
	qcow2_image_settle(&dev->image);
	device_let_go(dev);
}

static void guest_io_go_on(struct qcow2_parked *p)
{
	complete(&container_of(p, struct guest_io, parked)->my_turn);
}

static void guest_io_init(struct guest_io *rq, struct device *dev)
{
	rq->dev = dev;
	atomic_set(&rq->pending, 1);
	rq->error = 0;
	rq->parked.go_on = guest_io_go_on;
	rq->parked.reserved = false;
	init_completion(&rq->done);
	init_completion(&rq->my_turn);
}

static void guest_io_put(struct guest_io *rq)
{
	if (atomic_dec_and_test(&rq->pending))
		complete(&rq->done);
}

static int guest_io_wait(struct guest_io *rq)
{
	qcow2_range_give_up(&rq->dev->map.ranges, &rq->parked);
	guest_io_put(rq);
	wait_for_completion_io(&rq->done);
	return rq->error;
}

static struct part *part_new(struct guest_io *rq)
{
	struct part *p = kzalloc(sizeof(*p), GFP_NOIO);

	p->rq = rq;
	p->pin = -1;
	qcow2_change_init(&p->change, &rq->dev->map);
	atomic_inc(&rq->pending);
	return p;
}

static void part_end(struct part *p)
{
	struct guest_io *rq = p->rq;

	qcow2_map_put(&rq->dev->map, p->pin);
	qcow2_change_end(&p->change);
	kfree(p);
	guest_io_put(rq);
}

static void part_undone(struct qcow2_change *c)
{
	part_end(container_of(c, struct part, change));
}

static void part_done(struct qcow2_store_io *sio, int err)
{
	struct part *p = container_of(sio, struct part, sio);

	if (err)
		p->rq->error = err;
	if (err && p->change.allocated) {
		qcow2_map_abort(&p->change, part_undone);
		return;
	}
	if (!err)
		qcow2_map_publish(&p->change);
	part_end(p);
}

/* The I/O to an extent, which is its own from now on. */
static void part_submit(struct part *p, bool write,
			const struct qcow2_extent *e, u64 host)
{
	if (e->pin >= 0)
		sim_srcu_hand_over(e->pin);
	p->pin = e->pin;
	p->sio.store = e->store;
	p->sio.done = part_done;
	p->sio.pos = host;
	p->sio.write = write;
	qcow2_store_submit(&p->sio);
}

/* To or from the guest's memory. */
static void part_rw(struct part *p, bool write, const struct qcow2_extent *e,
		    u8 *buf)
{
	u64 done, len;
	u32 n = 0;

	for (done = 0; done < e->len; done += len) {
		u32 at = (unsigned long)(buf + done) & (PAGE_SIZE - 1);

		len = min(PAGE_SIZE - at, e->len - done);
		if (n == PART_PAGES)
			sim_fail("an extent is longer than what was asked for");
		bvec_set_page(&p->bv[n++], virt_to_page(buf + done), len, at);
	}
	qcow2_store_use_vec(&p->sio, p->bv, e->len);
	part_submit(p, write, e, e->host);
}

/* With what is round it in its clusters. */
static void part_write_whole(struct part *p, const struct qcow2_extent *e,
			     const u8 *buf)
{
	struct qcow2_change *c = &p->change;
	u64 at = e->host - c->whole_at, done;

	for (done = 0; done < e->len; done += SECTOR_SIZE, at += SECTOR_SIZE)
		memcpy((u8 *)page_address(c->whole->bv[at >> PAGE_SHIFT].bv_page) +
		       (at & (PAGE_SIZE - 1)), buf + done, SECTOR_SIZE);
	qcow2_store_use_vec(&p->sio, c->whole->bv, c->whole_len);
	part_submit(p, true, e, c->whole_at);
}

static void guest_io_check(const struct qcow2_extent *e, u64 len)
{
	if (!e->len || e->len > len || e->len % SECTOR_SIZE)
		sim_fail("%llu of %llu bytes are said to be alike", e->len, len);
}

/* Waits for its turn as often as others hold the guest clusters. */
static int write_reserve(struct part *p, u64 pos, u64 end,
			 struct qcow2_extent *e)
{
	struct qcow2_wish w = { .pos = pos, .end = end, .unlocked = true,
				 .whole = sim_random(4) };
	struct guest_io *rq = p->rq;
	int r;

	while ((r = qcow2_map_reserve(&p->change, &rq->parked, &w, e)) ==
	       QCOW2_PARKED)
		wait_for_completion(&rq->my_turn);
	return r;
}

int device_write(struct device *dev, uint64_t pos, void *buf, uint64_t len)
{
	struct qcow2_extent e = {};
	struct guest_io rq;
	u64 end = pos + len;
	struct part *p;
	int r = 0;

	qcow2_record(&dev->image, pos, len);
	guest_io_init(&rq, dev);
	for (; !r && !rq.error && pos < end; pos += e.len, buf += e.len) {
		p = part_new(&rq);
		/* As the fast path, or as a worker. */
		if (sim_random(2) ||
		    !qcow2_map_lookup(&dev->map, pos, end - pos, true, &e))
			r = write_reserve(p, pos, end, &e);
		if (r) {
			rq.error = r;
			part_end(p);
			break;
		}
		guest_io_check(&e, end - pos);
		if (p->change.whole)
			part_write_whole(p, &e, buf);
		else
			part_rw(p, true, &e, buf);
	}
	return guest_io_wait(&rq);
}

int device_read(struct device *dev, uint64_t pos, void *buf, uint64_t len)
{
	struct qcow2_extent e = {};
	struct guest_io rq;
	u64 end = pos + len;
	int r = 0;

	guest_io_init(&rq, dev);
	for (; !r && pos < end; pos += e.len, buf += e.len) {
		if (sim_random(2) ||
		    !qcow2_map_lookup(&dev->map, pos, end - pos, false, &e))
			r = qcow2_map_get(&dev->map, pos, end - pos, &e);
		if (r) {
			rq.error = r;
			break;
		}
		guest_io_check(&e, end - pos);
		if (e.kind == QCOW2_DATA) {
			part_rw(part_new(&rq), false, &e, buf);
			continue;
		}
		memset(buf, 0, e.len);
		qcow2_map_put(&dev->map, e.pin);
	}
	return guest_io_wait(&rq);
}

int device_unmap(struct device *dev, uint64_t pos, uint64_t clusters, bool keep)
{
	unsigned int bits = dev->image.layer.geo.cluster_bits;
	struct guest_io rq;
	u64 end = pos + (clusters << bits), skip, done;
	int r = 0;

	qcow2_record(&dev->image, pos,
		     min(end, dev->image.layer.geo.size) - pos);
	guest_io_init(&rq, dev);
	while (!r && pos < end) {
		if (qcow2_map_absent(&dev->map, pos, &skip)) {
			pos = skip;
			continue;
		}
		r = qcow2_map_unmap(&dev->map, &rq.parked, pos,
				    (end - pos) >> bits,
				    keep ? QCOW2_ZERO_KEEP : QCOW2_ZERO_FREE,
				    &done);
		if (r == QCOW2_PARKED) {
			wait_for_completion(&rq.my_turn);
			r = 0;
		} else if (!r) {
			pos += done << bits;
		}
	}
	qcow2_range_give_up(&dev->map.ranges, &rq.parked);
	return r;
}

int device_unmap_part(struct device *dev, uint64_t pos, uint32_t units)
{
	struct guest_io rq;
	int r;

	qcow2_record(&dev->image, pos,
		     min(pos + units * qcow2_map_unit(&dev->map),
			 dev->image.layer.geo.size) - pos);
	guest_io_init(&rq, dev);
	while ((r = qcow2_map_unmap_part(&dev->map, &rq.parked, pos, units)) ==
	       QCOW2_PARKED)
		wait_for_completion(&rq.my_turn);
	qcow2_range_give_up(&dev->map.ranges, &rq.parked);
	return r;
}

int device_flush(struct device *dev)
{
	/* As bios are redirected to a disk. */
	if (dev->store.bdev && qcow2_txn_is_stable(&dev->image))
		return qcow2_store_flush(&dev->store);
	return qcow2_txn_commit(&dev->image);
}

void device_kick(struct device *dev)
{
	qcow2_dirty_now(&dev->image);
}

void device_drain(struct device *dev)
{
	qcow2_drain(&dev->image);
}

bool device_failed(const struct device *dev)
{
	return dev->core.mode == QCOW2_MODE_FAIL;
}
