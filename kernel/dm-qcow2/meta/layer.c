// SPDX-License-Identifier: GPL-2.0-only
/*
 * One image as it can be read: what is needed for that is loaded.
 *
 * Takes no locks; nobody else uses a layer that is being loaded or unloaded.
 */
#include "meta.h"

/*
 * A cluster may lie partly beyond the end: of a file, whose rest reads as
 * zeros, or of a block device, where I/O to the rest fails. None is allocated
 * there (qcow2_space_capacity()).
 */
static u64 layer_limit(const struct qcow2_layer *l)
{
	return round_up(qcow2_store_size(l->meta), (u64)qcow2_cluster(l));
}

/**
 * qcow2_layer_init() - set up a layer
 * @l: zeroed but for the core, the stores and read_only
 * @cache_kib: KiB of metadata to be cached at the most
 *
 * Return: 0 or a negative error; qcow2_layer_exit() is to be called either way.
 */
int qcow2_layer_init(struct qcow2_layer *l, u32 cache_kib)
{
	int i, r;

	for (i = 0; i < QCOW2_L2_LOCKS; i++)
		mutex_init(&l->l2_lock[i]);
	xa_init(&l->l2_blocks);
	qcow2_places_init(&l->places, &l->geo);
	l->unpacker = qcow2_unpacker_new(l->core, l->meta);
	r = qcow2_cache_init(&l->cache, cache_kib);
	return l->unpacker ? r : -ENOMEM;
}

/**
 * qcow2_layer_exit() - undo qcow2_layer_init(), whole or half done
 * @l: the layer, unloaded
 */
void qcow2_layer_exit(struct qcow2_layer *l)
{
	qcow2_cache_exit(&l->cache);
	qcow2_unpacker_destroy(l->unpacker);
	xa_destroy(&l->l2_blocks);
}

static int layer_load_tables(struct qcow2_layer *l, spinlock_t *lock,
			     struct qcow2_table *reftable)
{
	const struct qcow2_geometry *g = &l->geo;
	u32 rt_entries = g->reftable_clusters << (g->cluster_bits - 3);
	int r;

	if (g->l1_offset + round_up((u64)g->l1_size * 8, QCOW2_BLOCK_SIZE) >
	    l->limit ||
	    g->reftable_offset + (u64)rt_entries * 8 > l->limit) {
		qcow2_err(l->core, "L1 table or refcount table lies beyond the end of the image");
		return -EUCLEAN;
	}
	r = qcow2_table_load(&l->l1, lock, l->meta, g->l1_offset, g->l1_size);
	if (!r)
		r = qcow2_table_load(reftable, lock, l->meta,
				     g->reftable_offset, rt_entries);
	if (r)
		qcow2_err(l->core, "cannot read the L1 table or refcount table: error %d",
			  r);
	return r;
}

static int layer_find_places(struct qcow2_layer *l,
			     struct qcow2_table *reftable)
{
	const struct qcow2_geometry *g = &l->geo;
	u64 regions = (QCOW2_OFFSET_MASK >> g->cluster_bits >>
		       qcow2_refblock_bits(g)) + 1;
	int r;

	/* No cluster can be where the rest of the table would describe it. */
	reftable->nr = min_t(u64, reftable->nr, regions);
	r = qcow2_places_build(l, reftable);
	if (r == -EUCLEAN && l->read_only)
		r = 0;
	if (r == -EUCLEAN)
		qcow2_err(l->core, "metadata is corrupt; attach read_only, or run qemu-img check -r all");
	return r;
}

/**
 * qcow2_layer_load() - read what is needed to use a layer, after its header
 * @l: the layer, unloaded, with its geometry; its store's turn has begun
 * @lock: under which its tables change; NULL: they will not
 * @reftable: for the refcount table; given back by the caller
 *
 * Return: 0 or a negative error with a line in the log; then
 * qcow2_layer_unload() is to be called.
 */
int qcow2_layer_load(struct qcow2_layer *l, spinlock_t *lock,
		     struct qcow2_table *reftable)
{
	int r;

	l->limit = layer_limit(l);
	qcow2_unpacker_begin(l->unpacker, &l->geo);
	/* In a data file, a cluster has the place that the guest sees it at. */
	l->data_limit = qcow2_external(l) ?
		round_up(l->geo.size, (u64)qcow2_cluster(l)) : l->limit;
	r = layer_load_tables(l, lock, reftable);
	return r ?: layer_find_places(l, reftable);
}

/**
 * qcow2_layer_unload() - forget what was read
 * @l: the layer, whole or half loaded; nobody uses it
 */
void qcow2_layer_unload(struct qcow2_layer *l)
{
	qcow2_unpacker_end(l->unpacker);
	qcow2_cache_drop(&l->cache);
	qcow2_table_exit(&l->l1);
	qcow2_places_drop(&l->places);
}
