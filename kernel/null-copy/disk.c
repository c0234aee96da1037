// SPDX-License-Identifier: GPL-2.0-only
/*
 * A disk and its requests, copies among them.
 *
 * Everything is done where the request arrives, which may sleep; only its end
 * is put off if it is to take longer.
 *
 * Locks: null_copy.zone_lock around what goes into a sequential zone;
 * null_copy_gone_lock keeps a disk for whoever looks at its zones.
 */
#include <linux/idr.h>
#include <linux/module.h>
#include <linux/rwsem.h>
#include <linux/sched/mm.h>
#include <linux/slab.h>

#include "null-copy.h"

#define NULL_COPY_MAX_SECTORS	2048

static DEFINE_IDA(null_copy_numbers);
static DECLARE_RWSEM(null_copy_gone_lock);

/**
 * struct null_copy_cmd - beside each request
 * @timer: ends it
 * @status: with this
 */
struct null_copy_cmd {
	struct hrtimer timer;
	blk_status_t status;
};

/* Moves a request's data, up to @len bytes of it; sets how far it came. */
static blk_status_t null_copy_transfer(struct null_copy *nc, struct request *rq,
				       u64 pos, u64 len, u64 *done)
{
	bool write = op_is_write(req_op(rq));
	struct req_iterator iter;
	struct bio_vec bv;

	*done = 0;
	rq_for_each_segment(bv, rq, iter) {
		if (*done == len)
			break;
		bv.bv_len = min_t(u64, bv.bv_len, len - *done);
		if (!write)
			null_copy_read(nc, pos + *done, &bv);
		else if (null_copy_write(nc, pos + *done, &bv))
			return BLK_STS_NOSPC;
		*done += bv.bv_len;
	}
	return BLK_STS_OK;
}

/* A zone append ends up where the write pointer is. */
static blk_status_t null_copy_write_zone(struct null_copy *nc,
					 struct request *rq, u64 pos,
					 u64 allowed)
{
	u64 len = blk_rq_bytes(rq), done = 0;
	blk_status_t status;

	mutex_lock(&nc->zone_lock);
	if (req_op(rq) == REQ_OP_ZONE_APPEND)
		status = null_copy_zone_append(nc, &pos, len);
	else
		status = null_copy_zone_begin(nc, pos, len);
	if (!status) {
		rq->__sector = pos >> SECTOR_SHIFT;
		status = null_copy_transfer(nc, rq, pos, allowed, &done);
		/* Of a block that is written in part nothing counts. */
		done = rounddown(done, nc->config.blocksize);
		null_copy_zone_advance(nc, pos, done);
	}
	mutex_unlock(&nc->zone_lock);
	return status;
}

/* Copies up to @len bytes, none of them beyond the end of a zone. */
static int null_copy_copy_bytes(struct null_copy *nc, struct blk_copy_op *op,
				u64 len)
{
	while (op->done < len && !blk_copy_cancelled(op)) {
		u64 src = op->src + op->done, dst = op->dst + op->done;
		u64 part = min_t(u64, len - op->done, PAGE_SIZE -
				 max(offset_in_page(src), offset_in_page(dst)));
		int err = null_copy_move(nc, src, dst, part);

		if (err) {
			op->done = rounddown(op->done, nc->config.blocksize);
			return err;
		}
		op->done += part;
		cond_resched();
	}
	if (op->done == len)
		return 0;
	op->done = rounddown(op->done, nc->config.blocksize);
	return -EINTR;
}

/* What there is to copy of a zone: nothing beyond the write pointer. */
static bool null_copy_readable(struct null_copy *nc, u64 pos, u64 len)
{
	lockdep_assert_held(&nc->zone_lock);
	return !null_copy_is_seq(nc, pos) ||
	       pos + len <= null_copy_zone_wp(nc, pos);
}

static int null_copy_copy_zones(struct null_copy *nc, struct blk_copy_op *op,
				u64 allowed)
{
	u64 len = min3(op->len, null_copy_zone_end(nc, op->src) - op->src,
		       null_copy_zone_end(nc, op->dst) - op->dst);
	bool seq = null_copy_is_seq(nc, op->dst);
	int err = -EIO;

	mutex_lock(&nc->zone_lock);
	if (!null_copy_readable(nc, op->src, len))
		goto out;
	if (seq)
		err = blk_status_to_errno(null_copy_zone_begin(nc, op->dst,
							       len));
	else
		err = 0;
	if (!err)
		err = null_copy_copy_bytes(nc, op, min(allowed, len));
	if (seq && op->done)
		null_copy_zone_advance(nc, op->dst, op->done);
out:
	mutex_unlock(&nc->zone_lock);
	return err;
}

static void null_copy_handle_copy(struct null_copy *nc, struct blk_copy_op *op,
				  struct null_copy_verdict *v)
{
	v->allowed = op->len;
	null_copy_fault_check(nc, NULL_COPY_COPY, op->src, op->dst, op->len, v);
	if (nc->nr_zones)
		op->error = null_copy_copy_zones(nc, op, v->allowed);
	else
		op->error = null_copy_copy_bytes(nc, op, v->allowed);
	/* A fault that lies beyond the end of a zone comes next time. */
	if (!op->error && v->fails && op->done == v->allowed)
		op->error = -EIO;
}

static blk_status_t null_copy_handle_rw(struct null_copy *nc,
					struct request *rq,
					struct null_copy_verdict *v)
{
	bool write = op_is_write(req_op(rq));
	u64 pos = (u64)blk_rq_pos(rq) << SECTOR_SHIFT, done;

	v->allowed = blk_rq_bytes(rq);
	null_copy_fault_check(nc, write ? NULL_COPY_WRITE : NULL_COPY_READ,
			      pos, pos, v->allowed, v);
	if (write && null_copy_is_seq(nc, pos))
		return null_copy_write_zone(nc, rq, pos, v->allowed);
	if (req_op(rq) == REQ_OP_ZONE_APPEND)
		return BLK_STS_IOERR;
	return null_copy_transfer(nc, rq, pos, v->allowed, &done);
}

/* Not of a disk with zones, to which zeros are written like anything else. */
static void null_copy_handle_zero(struct null_copy *nc, struct request *rq,
				  struct null_copy_verdict *v)
{
	u64 pos = (u64)blk_rq_pos(rq) << SECTOR_SHIFT;

	v->allowed = blk_rq_bytes(rq);
	null_copy_fault_check(nc, NULL_COPY_DISCARD, pos, pos, v->allowed, v);
	null_copy_zero(nc, pos, v->allowed);
}

static blk_status_t null_copy_handle(struct null_copy *nc, struct request *rq,
				     struct null_copy_verdict *v)
{
	switch (req_op(rq)) {
	case REQ_OP_READ:
	case REQ_OP_WRITE:
	case REQ_OP_ZONE_APPEND:
		return null_copy_handle_rw(nc, rq, v);
	case REQ_OP_DISCARD:
	case REQ_OP_WRITE_ZEROES:
		null_copy_handle_zero(nc, rq, v);
		return BLK_STS_OK;
	case REQ_OP_FLUSH:
		null_copy_fault_check(nc, NULL_COPY_FLUSH, 0, 0, 0, v);
		return BLK_STS_OK;
	case REQ_OP_DRV_OUT:
		null_copy_handle_copy(nc, blk_copy_rq_op(rq), v);
		/* The error is the piece's, and more exact. */
		v->fails = false;
		return BLK_STS_OK;
	default:
		return null_copy_zone_manage(nc, req_op(rq), (u64)
					     blk_rq_pos(rq) << SECTOR_SHIFT);
	}
}

static enum hrtimer_restart null_copy_end_late(struct hrtimer *timer)
{
	struct null_copy_cmd *cmd = container_of(timer, struct null_copy_cmd,
						 timer);

	blk_mq_end_request(blk_mq_rq_from_pdu(cmd), cmd->status);
	return HRTIMER_NORESTART;
}

static blk_status_t null_copy_queue_rq(struct blk_mq_hw_ctx *hctx,
				       const struct blk_mq_queue_data *bd)
{
	struct null_copy *nc = hctx->queue->queuedata;
	struct null_copy_cmd *cmd = blk_mq_rq_to_pdu(bd->rq);
	struct null_copy_verdict v = { .delay_ns = nc->config.completion_nsec };
	unsigned int noio;

	blk_mq_start_request(bd->rq);
	noio = memalloc_noio_save();
	cmd->status = null_copy_handle(nc, bd->rq, &v);
	memalloc_noio_restore(noio);
	if (!cmd->status && v.fails)
		cmd->status = BLK_STS_IOERR;
	if (v.delay_ns)
		hrtimer_start(&cmd->timer, ns_to_ktime(v.delay_ns),
			      HRTIMER_MODE_REL);
	else
		blk_mq_end_request(bd->rq, cmd->status);
	return BLK_STS_OK;
}

/* The timer may still be on its way out when its request has ended. */
static void null_copy_exit_request(struct blk_mq_tag_set *set,
				   struct request *rq, unsigned int hctx)
{
	struct null_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	hrtimer_cancel(&cmd->timer);
}

static int null_copy_init_request(struct blk_mq_tag_set *set,
				  struct request *rq, unsigned int hctx,
				  unsigned int node)
{
	struct null_copy_cmd *cmd = blk_mq_rq_to_pdu(rq);

	hrtimer_init(&cmd->timer, CLOCK_MONOTONIC, HRTIMER_MODE_REL);
	cmd->timer.function = null_copy_end_late;
	return 0;
}

static const struct blk_mq_ops null_copy_mq_ops = {
	.queue_rq = null_copy_queue_rq,
	.init_request = null_copy_init_request,
	.exit_request = null_copy_exit_request,
};

static int null_copy_execute(struct blk_copy_op *op)
{
	return blk_copy_execute(op->dst_disk->queue, op);
}

static const struct blk_copy_ops null_copy_ops = {
	.name = "null-copy",
	.copy = null_copy_execute,
};

static void null_copy_release(struct null_copy *nc)
{
	null_copy_fault_clear(nc);
	null_copy_free_store(nc);
	null_copy_zones_exit(nc);
	kfree(nc);
}

/* Whoever has the disk open may ask when it is gone. */
static int null_copy_disk_report_zones(struct gendisk *disk, sector_t sector,
				       unsigned int nr, report_zones_cb cb,
				       void *data)
{
	struct null_copy *nc;
	int ret = -ENODEV;

	down_read(&null_copy_gone_lock);
	nc = disk->private_data;
	if (nc)
		ret = null_copy_report_zones(nc, sector, nr, cb, data);
	up_read(&null_copy_gone_lock);
	return ret;
}

static const struct block_device_operations null_copy_fops = {
	.owner = THIS_MODULE,
	.report_zones = null_copy_disk_report_zones,
};

static const struct block_device_operations null_copy_unzoned_fops = {
	.owner = THIS_MODULE,
};

static int null_copy_alloc_disk(struct null_copy *nc)
{
	const struct null_copy_config *c = &nc->config;
	struct compat_limits lim = {
		.logical = c->blocksize,
		.physical = c->blocksize,
		.max_sectors = NULL_COPY_MAX_SECTORS,
		.dma_alignment = SECTOR_SIZE - 1,
		.discard_granularity = c->zoned ? 0 : c->blocksize,
		.discard_sectors = c->zoned ? 0 : COMPAT_MAX_EMPTY_SECTORS,
		.zeroes_sectors = c->zoned ? 0 : COMPAT_MAX_EMPTY_SECTORS,
		.zone_sectors = c->zoned ? c->zone_size << 11 : 0,
		.max_open_zones = c->zone_max_open,
		.max_active_zones = c->zone_max_active,
		.write_cache = true,
	};

	nc->disk = compat_alloc_disk(&nc->tag_set, &lim, nc);
	if (IS_ERR(nc->disk))
		return PTR_ERR(nc->disk);
	nc->disk->fops = c->zoned ? &null_copy_fops : &null_copy_unzoned_fops;
	nc->disk->private_data = nc;
	nc->disk->nr_zones = nc->nr_zones;
	set_capacity(nc->disk, c->size << 11);
	return 0;
}

static int null_copy_init_tags(struct null_copy *nc)
{
	nc->tag_set.ops = &null_copy_mq_ops;
	nc->tag_set.nr_hw_queues = nc->config.submit_queues;
	nc->tag_set.queue_depth = nc->config.hw_queue_depth;
	nc->tag_set.numa_node = NUMA_NO_NODE;
	nc->tag_set.cmd_size = sizeof(struct null_copy_cmd);
	nc->tag_set.flags = BLK_MQ_F_SHOULD_MERGE | BLK_MQ_F_BLOCKING |
			    BLK_MQ_F_NO_SCHED_BY_DEFAULT;
	return blk_mq_alloc_tag_set(&nc->tag_set);
}

static const struct attribute_group *null_copy_disk_groups[] = {
	&blk_copy_attr_group,
	NULL,
};

static int null_copy_add_disk(struct null_copy *nc)
{
	struct blk_copy_limits lim = {
		.max_bytes = rounddown(nc->config.copy_max_bytes,
				       nc->config.blocksize),
		.granularity = nc->config.blocksize,
		.optimal = PAGE_SIZE,
	};
	int err;

	nc->number = ida_alloc(&null_copy_numbers, GFP_KERNEL);
	if (nc->number < 0)
		return nc->number;
	snprintf(nc->disk->disk_name, DISK_NAME_LEN, "nullc%d", nc->number);
	nc->provider = blk_copy_register(nc->disk, &null_copy_ops, &lim);
	if (IS_ERR(nc->provider)) {
		err = PTR_ERR(nc->provider);
		goto no_provider;
	}
	err = device_add_disk(NULL, nc->disk, null_copy_disk_groups);
	if (!err)
		return 0;
	blk_copy_unregister(nc->provider);
no_provider:
	ida_free(&null_copy_numbers, nc->number);
	return err;
}

/**
 * null_copy_create() - make a disk
 * @config: checked
 *
 * Return: the disk, or an error pointer.
 */
struct null_copy *null_copy_create(const struct null_copy_config *config)
{
	struct null_copy *nc = kzalloc(sizeof(*nc), GFP_KERNEL);
	int err;

	if (!nc)
		return ERR_PTR(-ENOMEM);
	nc->config = *config;
	xa_init(&nc->pages);
	INIT_LIST_HEAD(&nc->faults);
	spin_lock_init(&nc->fault_lock);
	err = null_copy_zones_init(nc);
	if (!err)
		err = null_copy_init_tags(nc);
	if (err)
		goto no_tags;
	err = null_copy_alloc_disk(nc);
	if (err)
		goto no_disk;
	err = null_copy_add_disk(nc);
	if (!err)
		return nc;
	put_disk(nc->disk);
no_disk:
	blk_mq_free_tag_set(&nc->tag_set);
no_tags:
	null_copy_release(nc);
	return ERR_PTR(err);
}

/**
 * null_copy_destroy() - remove a disk, in use or not
 * @nc: the disk
 */
void null_copy_destroy(struct null_copy *nc)
{
	del_gendisk(nc->disk);
	blk_copy_unregister(nc->provider);
	ida_free(&null_copy_numbers, nc->number);
	blk_mq_free_tag_set(&nc->tag_set);
	down_write(&null_copy_gone_lock);
	nc->disk->private_data = NULL;
	up_write(&null_copy_gone_lock);
	put_disk(nc->disk);
	null_copy_release(nc);
}
