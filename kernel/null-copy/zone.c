// SPDX-License-Identifier: GPL-2.0-only
/*
 * Zones: conventional ones first, then sequential ones, into which bytes go
 * only at the write pointer.
 *
 * The block layer's own tracking of write pointers is left out: it learns of
 * writes only, and a copy moves a write pointer too.
 *
 * Locks: null_copy.zone_lock.
 */
#include <linux/slab.h>

#include "null-copy.h"

/**
 * null_copy_zones_init() - make the zones of a disk that has some
 * @nc: the disk
 *
 * Return: 0 or a negative error.
 */
int null_copy_zones_init(struct null_copy *nc)
{
	const struct null_copy_config *c = &nc->config;
	unsigned int i;

	mutex_init(&nc->zone_lock);
	if (!c->zoned)
		return 0;
	nc->zone_bytes = c->zone_size << 20;
	nc->nr_zones = div64_u64(c->size, c->zone_size);
	nc->zones = kvcalloc(nc->nr_zones, sizeof(*nc->zones), GFP_KERNEL);
	if (!nc->zones)
		return -ENOMEM;
	for (i = 0; i < nc->nr_zones; i++) {
		nc->zones[i].start = i * nc->zone_bytes;
		nc->zones[i].wp = nc->zones[i].start;
		nc->zones[i].cond = i < c->zone_nr_conv ? BLK_ZONE_COND_NOT_WP :
							  BLK_ZONE_COND_EMPTY;
	}
	return 0;
}

/**
 * null_copy_zones_exit() - free them
 * @nc: the disk
 */
void null_copy_zones_exit(struct null_copy *nc)
{
	kvfree(nc->zones);
}

static struct null_copy_zone *null_copy_zone_of(const struct null_copy *nc,
						u64 pos)
{
	return &nc->zones[div64_u64(pos, nc->zone_bytes)];
}

/**
 * null_copy_is_seq() - whether a byte is in a sequential zone
 * @nc: the disk
 * @pos: byte offset
 *
 * Return: true if it is.
 */
bool null_copy_is_seq(const struct null_copy *nc, u64 pos)
{
	return nc->nr_zones &&
	       null_copy_zone_of(nc, pos)->cond != BLK_ZONE_COND_NOT_WP;
}

/**
 * null_copy_zone_wp() - the write pointer of a sequential zone
 * @nc: the disk; zone_lock is held
 * @pos: a byte of the zone
 *
 * Return: byte offset on the disk.
 */
u64 null_copy_zone_wp(const struct null_copy *nc, u64 pos)
{
	lockdep_assert_held(&nc->zone_lock);
	return null_copy_zone_of(nc, pos)->wp;
}

/**
 * null_copy_zone_end() - where a zone ends
 * @nc: the disk
 * @pos: a byte of the zone
 *
 * Return: byte offset of what follows it.
 */
u64 null_copy_zone_end(const struct null_copy *nc, u64 pos)
{
	return null_copy_zone_of(nc, pos)->start + nc->zone_bytes;
}

static bool null_copy_zone_is_open(const struct null_copy_zone *z)
{
	return z->cond == BLK_ZONE_COND_IMP_OPEN ||
	       z->cond == BLK_ZONE_COND_EXP_OPEN;
}

static bool null_copy_zone_is_active(const struct null_copy_zone *z)
{
	return null_copy_zone_is_open(z) || z->cond == BLK_ZONE_COND_CLOSED;
}

static void null_copy_zone_set_cond(struct null_copy *nc,
				    struct null_copy_zone *z, u8 cond)
{
	nc->open -= null_copy_zone_is_open(z);
	nc->active -= null_copy_zone_is_active(z);
	z->cond = cond;
	nc->open += null_copy_zone_is_open(z);
	nc->active += null_copy_zone_is_active(z);
}

static void null_copy_zone_close(struct null_copy *nc, struct null_copy_zone *z)
{
	bool empty = z->wp == z->start;

	null_copy_zone_set_cond(nc, z, empty ? BLK_ZONE_COND_EMPTY :
					       BLK_ZONE_COND_CLOSED);
}

/* A device closes zones that it has opened by itself when it needs room. */
static bool null_copy_zone_close_some(struct null_copy *nc)
{
	unsigned int i;

	for (i = 0; i < nc->nr_zones; i++) {
		if (nc->zones[i].cond == BLK_ZONE_COND_IMP_OPEN) {
			null_copy_zone_close(nc, &nc->zones[i]);
			return true;
		}
	}
	return false;
}

static blk_status_t null_copy_zone_open(struct null_copy *nc,
					struct null_copy_zone *z, u8 cond)
{
	const struct null_copy_config *c = &nc->config;

	if (!null_copy_zone_is_active(z) && c->zone_max_active &&
	    nc->active >= c->zone_max_active)
		return BLK_STS_ZONE_ACTIVE_RESOURCE;
	if (!null_copy_zone_is_open(z) && c->zone_max_open &&
	    nc->open >= c->zone_max_open && !null_copy_zone_close_some(nc))
		return BLK_STS_ZONE_OPEN_RESOURCE;
	null_copy_zone_set_cond(nc, z, cond);
	return BLK_STS_OK;
}

static blk_status_t null_copy_zone_enter(struct null_copy *nc,
					 struct null_copy_zone *z, u64 pos,
					 u64 len)
{
	lockdep_assert_held(&nc->zone_lock);
	if (z->cond == BLK_ZONE_COND_FULL || pos != z->wp ||
	    len > z->start + nc->zone_bytes - pos)
		return BLK_STS_IOERR;
	if (null_copy_zone_is_open(z))
		return BLK_STS_OK;
	return null_copy_zone_open(nc, z, BLK_ZONE_COND_IMP_OPEN);
}

/**
 * null_copy_zone_begin() - whether bytes may go into a sequential zone now
 * @nc: the disk; zone_lock is held
 * @pos: byte offset
 * @len: bytes
 *
 * Opens the zone. Return: BLK_STS_OK, or why not.
 */
blk_status_t null_copy_zone_begin(struct null_copy *nc, u64 pos, u64 len)
{
	return null_copy_zone_enter(nc, null_copy_zone_of(nc, pos), pos, len);
}

/**
 * null_copy_zone_append() - the same for what goes where the write pointer is
 * @nc: the disk; zone_lock is held
 * @pos: a byte of the zone; set to where the bytes go
 * @len: bytes
 *
 * Opens the zone. Return: BLK_STS_OK, or why not.
 */
blk_status_t null_copy_zone_append(struct null_copy *nc, u64 *pos, u64 len)
{
	struct null_copy_zone *z = null_copy_zone_of(nc, *pos);

	/* Of a full zone that is in the next one. */
	*pos = z->wp;
	return null_copy_zone_enter(nc, z, z->wp, len);
}

/**
 * null_copy_zone_advance() - move the write pointer past what was written
 * @nc: the disk; zone_lock is held
 * @pos: byte offset; the write pointer so far
 * @len: bytes
 */
void null_copy_zone_advance(struct null_copy *nc, u64 pos, u64 len)
{
	struct null_copy_zone *z = null_copy_zone_of(nc, pos);

	lockdep_assert_held(&nc->zone_lock);
	z->wp += len;
	if (z->wp == z->start + nc->zone_bytes)
		null_copy_zone_set_cond(nc, z, BLK_ZONE_COND_FULL);
}

static blk_status_t null_copy_zone_finish(struct null_copy *nc,
					  struct null_copy_zone *z)
{
	blk_status_t status;

	/* To finish an empty zone it has to be opened for a moment. */
	if (z->cond == BLK_ZONE_COND_EMPTY) {
		status = null_copy_zone_open(nc, z, BLK_ZONE_COND_IMP_OPEN);
		if (status)
			return status;
	}
	z->wp = z->start + nc->zone_bytes;
	null_copy_zone_set_cond(nc, z, BLK_ZONE_COND_FULL);
	return BLK_STS_OK;
}

static void null_copy_zone_reset(struct null_copy *nc, struct null_copy_zone *z)
{
	z->wp = z->start;
	null_copy_zone_set_cond(nc, z, BLK_ZONE_COND_EMPTY);
	null_copy_zero(nc, z->start, nc->zone_bytes);
}

static void null_copy_zone_reset_all(struct null_copy *nc)
{
	unsigned int i;

	for (i = 0; i < nc->nr_zones; i++) {
		if (nc->zones[i].cond != BLK_ZONE_COND_NOT_WP)
			null_copy_zone_reset(nc, &nc->zones[i]);
		cond_resched();
	}
}

static blk_status_t null_copy_zone_manage_one(struct null_copy *nc,
					      enum req_op op,
					      struct null_copy_zone *z)
{
	switch (op) {
	case REQ_OP_ZONE_OPEN:
		if (z->cond == BLK_ZONE_COND_FULL)
			return BLK_STS_IOERR;
		return null_copy_zone_open(nc, z, BLK_ZONE_COND_EXP_OPEN);
	case REQ_OP_ZONE_CLOSE:
		if (null_copy_zone_is_open(z))
			null_copy_zone_close(nc, z);
		if (null_copy_zone_is_active(z) ||
		    z->cond == BLK_ZONE_COND_EMPTY)
			return BLK_STS_OK;
		return BLK_STS_IOERR;
	case REQ_OP_ZONE_FINISH:
		return null_copy_zone_finish(nc, z);
	case REQ_OP_ZONE_RESET:
		null_copy_zone_reset(nc, z);
		return BLK_STS_OK;
	default:
		return BLK_STS_NOTSUPP;
	}
}

/**
 * null_copy_zone_manage() - open, close, finish, reset
 * @nc: the disk
 * @op: which of these
 * @pos: first byte of the zone
 *
 * Return: a status for the request.
 */
blk_status_t null_copy_zone_manage(struct null_copy *nc, enum req_op op,
				   u64 pos)
{
	blk_status_t status = BLK_STS_OK;

	if (!nc->nr_zones)
		return BLK_STS_NOTSUPP;
	mutex_lock(&nc->zone_lock);
	if (op == REQ_OP_ZONE_RESET_ALL)
		null_copy_zone_reset_all(nc);
	else if (!null_copy_is_seq(nc, pos))
		status = BLK_STS_IOERR;
	else
		status = null_copy_zone_manage_one(nc, op,
						   null_copy_zone_of(nc, pos));
	mutex_unlock(&nc->zone_lock);
	return status;
}

/**
 * null_copy_report_zones() - tell the block layer of zones
 * @nc: the disk
 * @sector: from here on
 * @nr: at most so many
 * @cb: called for each
 * @data: for @cb
 *
 * Return: how many there were, or a negative error.
 */
int null_copy_report_zones(struct null_copy *nc, sector_t sector,
			   unsigned int nr, report_zones_cb cb, void *data)
{
	u64 first = div64_u64(sector << SECTOR_SHIFT, nc->zone_bytes);
	unsigned int i;
	int err;

	if (first >= nc->nr_zones)
		return 0;
	nr = min_t(unsigned int, nr, nc->nr_zones - first);
	for (i = 0; i < nr; i++) {
		struct null_copy_zone *z = &nc->zones[first + i];
		struct blk_zone report = {
			.start = z->start >> SECTOR_SHIFT,
			.len = nc->zone_bytes >> SECTOR_SHIFT,
			.capacity = nc->zone_bytes >> SECTOR_SHIFT,
		};

		mutex_lock(&nc->zone_lock);
		report.cond = z->cond;
		report.wp = z->wp >> SECTOR_SHIFT;
		mutex_unlock(&nc->zone_lock);
		report.type = report.cond == BLK_ZONE_COND_NOT_WP ?
			BLK_ZONE_TYPE_CONVENTIONAL : BLK_ZONE_TYPE_SEQWRITE_REQ;
		err = cb(&report, i, data);
		if (err)
			return err;
	}
	return nr;
}
