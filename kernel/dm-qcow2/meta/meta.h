/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * meta: the tables of an image and the order in which they change on disk.
 * Knows what L1 and refcount tables say; of L2 tables it knows only where they
 * are. Calls xform, store, format and core; map only through layer.judge.
 *
 *   cache.c      cached blocks of L2 tables and refcount blocks
 *   table.c      top-level tables in memory: L1, refcount table
 *   places.c     where the tables lie, so that nothing else is put there
 *   snapshots.c  where the internal snapshots keep theirs
 *   bitmaps.c    bitmaps that record what changes: from load to close
 *   record.c     recording
 *   l2.c         L2 tables: their blocks, and making them writable
 *   header.c     the header
 *   dirty.c      what is not on disk yet
 *   txn.c        the order in which it gets there
 *   drain.c      commits that free clusters
 *   free.c       clusters on their way back to the allocator
 *   space.c      how far the store reaches
 *   refcount.c   refcounts
 *   reftable.c   refcount blocks and a larger refcount table
 *   hints.c      where there are free clusters
 *   alloc.c      taking them
 *   tail.c       where an image can be cut
 *   layer.c      one image as it can be read
 *   image.c      one image, from load to close
 *
 * Lock order, outermost first:
 *
 *   frees.mutex          waiting for entries of what is to be freed
 *   layer.l2_lock[]      one L2 table: loading, creation
 *   alloc.grow_mutex     waiting for the file to grow
 *   alloc.load_lock      loading of blocks of refcounts
 *   alloc.lock           refcounts, allocation, refcount table
 *   alloc.reftable_lock  the refcount table's place; held by a commit
 *   head.lock            the header block
 *   txn.lock             (irq) dirty lists, entries of cached blocks, frees
 *   txn.wait_lock        (irq) who waits for a commit
 *   places.lock          (irq) the refcount table's place, as a number
 *   cache.lock           LRU; processes only
 *
 * The last four are leaves, but that places.lock is taken inside txn.lock.
 * image.srcu is inside everything: nobody waits for a mutex or a commit in it,
 * because those who hold one may wait for its grace period.
 */
#ifndef QCOW2_META_H
#define QCOW2_META_H

#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mempool.h>
#include <linux/refcount.h>
#include <linux/seqlock.h>
#include <linux/srcu.h>

#include "../core/core.h"
#include "../format/format.h"
#include "../store/store.h"
#include "../xform/xform.h"

#define QCOW2_L2_LOCKS		16
#define QCOW2_COMMIT_SLOTS	8
#define QCOW2_SLOT_BLOCKS	32
#define QCOW2_FREE_ENTRIES	512
#define QCOW2_FREE_STEP		64
#define QCOW2_TAIL_CLUSTERS	8192

struct qcow2_cache;
struct qcow2_image;

enum qcow2_block_flags {
	QCOW2_BLOCK_DIRTY,	/* on a dirty list, which holds a reference */
	QCOW2_BLOCK_REFERENCED,	/* used since the LRU last looked */
	QCOW2_BLOCK_REFCOUNTS,	/* part of a refcount block, else of an L2 table */
};

/**
 * struct qcow2_block - a cached block of an L2 table or refcount block
 * @cache: whose pools it is from
 * @home: where it is found by its index
 * @index: L2: guest offset / (clusters that it maps); refcounts: cluster index /
 *	entries
 * @host: its place in the image in bytes; 0: the L2 table does not exist yet
 * @data: the block as on disk; entries change under txn.lock and are read
 *	without a lock
 * @shadow: the copy that a commit writes out; made before the first change
 * @pairs: entries of two words are read as they are together; under txn.lock, so
 *	that an interrupt that reads them does not find them half changed
 * @bad: a bitmap of the entries that must not be used, or NULL; fixed at load
 * @sound: a bit for each L2 entry whose cluster is known to have a reference, so
 *	that it may be written in place; set after the entry, never cleared
 * @refs: the cache holds one, each user and each list one more
 * @flags: enum qcow2_block_flags
 * @lru: cache.lru, under cache.lock
 * @dirty: txn.dirty_l2 or dirty_refs, under txn.lock
 * @commit: the running commit's list
 * @rcu: frees it
 */
struct qcow2_block {
	struct qcow2_cache *cache;
	struct xarray *home;
	u64 index;
	u64 host;
	void *data;
	void *shadow;
	seqcount_t pairs;
	unsigned long *bad;
	DECLARE_BITMAP(sound, QCOW2_L2_PER_BLOCK);
	refcount_t refs;
	unsigned long flags;
	struct list_head lru;
	struct list_head dirty;
	struct list_head commit;
	struct rcu_head rcu;
};

/**
 * struct qcow2_cache - blocks in memory, up to a limit
 * @limit: how many, unless all are in use
 * @lock: @lru and @cached
 * @lru: all blocks, the next to be looked at first
 * @cached: number of blocks
 * @blocks: their memory
 * @pages: that of their content
 * @shrinker: gives blocks up when memory is short
 * @shrinker_registered: whether there is one
 */
struct qcow2_cache {
	u32 limit;
	spinlock_t lock;	/* lru, cached */
	struct list_head lru;
	u32 cached;
	mempool_t blocks;
	mempool_t pages;
	struct compat_shrinker shrinker;
	bool shrinker_registered;
};

/**
 * struct qcow2_table - a top-level table (L1, refcount table), all in memory
 * @lock: txn.lock, under which it changes; NULL when read-only
 * @entries: as on disk, whole blocks; read without a lock
 * @shadow: the copy that a commit writes; NULL when read-only
 * @dirty: a bit a block that differs from the disk, under @lock
 * @writing: a bit a block that the running commit writes
 * @host: its place in the image
 * @nr: number of entries
 * @blocks: number of blocks
 */
struct qcow2_table {
	spinlock_t *lock;	/* entries, dirty */
	__be64 *entries;
	__be64 *shadow;
	unsigned long *dirty;
	unsigned long *writing;
	u64 host;
	u32 nr;
	u32 blocks;
};

/**
 * struct qcow2_bytes - a range of bytes of the image
 * @start: its first byte
 * @end: the byte after its last
 */
struct qcow2_bytes {
	u64 start;
	u64 end;
};

/**
 * struct qcow2_gap - host offsets known to hold no table
 * @lo: the offset before the first of them
 * @hi: the offset after the last
 */
struct qcow2_gap {
	u64 lo;
	u64 hi;
};

/**
 * struct qcow2_places - where the image's tables lie
 * @geo: the layer's
 * @l2_tables: places of the L2 tables found at load, sorted
 * @ref_tables: places of the refcount blocks found at load, sorted
 * @nr_l2_tables: length of @l2_tables
 * @nr_ref_tables: length of @ref_tables
 * @snapshot_l1: L1 tables of the snapshots, sorted and merged
 * @nr_snapshot_l1: length of @snapshot_l1
 * @snapshots_end: where the snapshot table ends
 * @bitmaps: clusters of bitmaps that record, sorted
 * @nr_bitmaps: length of @bitmaps
 * @new_tables: places of tables made since, indexed by cluster
 * @lock: @reftable
 * @reftable: the refcount table
 */
struct qcow2_places {
	const struct qcow2_geometry *geo;
	u64 *l2_tables;
	u64 *ref_tables;
	u32 nr_l2_tables;
	u32 nr_ref_tables;
	struct qcow2_bytes *snapshot_l1;
	u32 nr_snapshot_l1;
	u64 snapshots_end;
	u64 *bitmaps;
	u32 nr_bitmaps;
	struct xarray new_tables;
	spinlock_t lock;	/* reftable */
	struct qcow2_bytes reftable;
};

struct qcow2_layer;

/* Marks the entries of a block of an L2 table that nothing may follow. */
typedef int (*qcow2_judge_fn)(struct qcow2_layer *l, struct qcow2_block *b);

/**
 * struct qcow2_layer - an image as it can be read
 *
 * All but @limit is fixed from load to unload.
 */
struct qcow2_layer {
	/** @core: whom it belongs to */
	struct qcow2_core *core;
	/** @meta: where its metadata is */
	struct qcow2_store *meta;
	/** @data: where its guest data is; @meta, unless it is external */
	struct qcow2_store *data;
	/** @read_only: never written to */
	bool read_only;
	/**
	 * @geo: the header's facts; the refcount table's place is that in use,
	 * and changes under alloc.reftable_lock
	 */
	struct qcow2_geometry geo;
	/** @backing: what the header says of a backing file */
	struct qcow2_backing backing;
	/** @limit: no cluster of @meta is at or beyond it (bytes); only grows */
	u64 limit;
	/** @data_limit: the same of guest data; @limit, unless it is external */
	u64 data_limit;
	/** @cache: blocks of its tables */
	struct qcow2_cache cache;
	/** @l2_blocks: blocks of L2 tables */
	struct xarray l2_blocks;
	/** @l2_lock: loading and making L2 tables, by L1 index */
	struct mutex l2_lock[QCOW2_L2_LOCKS];
	/** @l1: the active L1 table */
	struct qcow2_table l1;
	/** @places: where its tables lie */
	struct qcow2_places places;
	/** @judge: what map makes of a block that was read */
	qcow2_judge_fn judge;
	/** @unpacker: for its compressed clusters */
	struct qcow2_unpacker *unpacker;
};

/**
 * struct qcow2_head - the header block
 * @lock: all of it
 * @block: as on disk
 * @dirty_bit: the dirty bit is, or may be, set on disk
 * @dirty_durable: it is there for sure
 */
struct qcow2_head {
	struct mutex lock;	/* the header block */
	struct qcow2_header *block;
	bool dirty_bit;
	bool dirty_durable;
};

/**
 * struct qcow2_slot - one of the writes that a commit has in flight
 * @sio: the write
 * @image: the image
 * @bv: the copies of blocks that it writes
 */
struct qcow2_slot {
	struct qcow2_store_io sio;
	struct qcow2_image *image;
	struct bio_vec bv[QCOW2_SLOT_BLOCKS];
};

/**
 * struct qcow2_waiter - somebody who waits for a commit
 * @node: txn.waiters
 * @done: called once, in a worker, with 0 or a negative error
 */
struct qcow2_waiter {
	struct list_head node;
	void (*done)(struct qcow2_waiter *w, int err);
};

/**
 * struct qcow2_txn - what is not on disk yet
 */
struct qcow2_txn {
	/** @lock: entries of blocks and tables, all down to @stopping, frees */
	spinlock_t lock;
	/** @dirty_l2: blocks of L2 tables that differ from the disk */
	struct list_head dirty_l2;
	/** @dirty_refs: blocks of refcounts that do */
	struct list_head dirty_refs;
	/** @nr_dirty: length of both */
	u32 nr_dirty;
	/** @unstable: mappings are not on disk yet; see qcow2_dirty_mapping() */
	bool unstable;
	/** @reftable_moved: the header does not name the table's place yet */
	bool reftable_moved;
	/**
	 * @stopping: commits write everything there is, and nothing starts one
	 * later
	 */
	bool stopping;
	/** @dirty_limit: from so many dirty blocks on there are many */
	u32 dirty_limit;
	/** @wait_lock: @waiters */
	spinlock_t wait_lock;
	/** @waiters: who waits for the next commit */
	struct list_head waiters;
	/** @wq: commits; they wait for nothing else */
	struct workqueue_struct *wq;
	/** @work: runs a commit */
	struct work_struct work;
	/** @later: starts one if nobody asks for it */
	struct delayed_work later;
	/** @slots: writes in flight */
	struct qcow2_slot *slots;
	/** @error: of those */
	int error;
	/** @pending: their number */
	atomic_t pending;
	/** @io: completed with the last of them */
	struct completion io;
	/** @last: how the last commit ended */
	int last;
	/** @commits: number of commits so far */
	u64 commits;
	/** @wait: woken after each commit */
	wait_queue_head_t wait;
};

/**
 * struct qcow2_free - a run of host clusters to be dereferenced
 * @node: the list it is on
 * @host: host offset of the first in bytes
 * @count: how many
 * @refs: references to be taken from each; 1 unless it is @shared
 * @discard: give their space below back
 * @shared: one cluster, which compressed clusters have shares of
 */
struct qcow2_free {
	struct list_head node;
	u64 host;
	u32 count;
	u32 refs;
	bool discard;
	bool shared;
};

/**
 * struct qcow2_frees - clusters to be freed, all under txn.lock but @mutex
 */
struct qcow2_frees {
	/** @entries: memory of all entries */
	struct qcow2_free *entries;
	/** @pool: entries not in use */
	struct list_head pool;
	/**
	 * @avail: how many of them are not reserved either; negative when spare
	 * ones are in use
	 */
	s32 avail;
	/** @wanted: somebody waits for entries */
	bool wanted;
	/** @nr_freeing: references that are put and not dropped yet */
	u64 nr_freeing;
	/** @unlinked: in the cache; they wait for a commit */
	struct list_head unlinked;
	/** @nr_runs: length of @unlinked */
	u32 nr_runs;
	/** @nr_clusters: references to clusters on it */
	u64 nr_clusters;
	/** @gen: generation that collects on @unlinked */
	u64 gen;
	/** @ready: unlinked on disk */
	struct list_head ready;
	/** @ready_gen: the last generation that a commit was done with */
	u64 ready_gen;
	/**
	 * @freed_gen: the last generation that @work was done with; written by
	 * it alone, read without the lock
	 */
	u64 freed_gen;
	/** @wq: @work, which waits for no other work */
	struct workqueue_struct *wq;
	/** @work: frees what is in @ready */
	struct work_struct work;
	/**
	 * @wait: woken when entries are back, a generation is done with, or a
	 * commit is over
	 */
	wait_queue_head_t wait;
	/** @mutex: held by the one who waits for entries */
	struct mutex mutex;
};

/**
 * struct qcow2_alloc - which clusters are in use
 */
struct qcow2_alloc {
	/** @load_lock: loading of blocks of refcounts */
	struct mutex load_lock;
	/** @lock: refcounts and all of this */
	struct mutex lock;
	/** @reftable_lock: the place of the refcount table, across a commit */
	struct mutex reftable_lock;
	/** @end: first cluster index never handed out */
	u64 end;
	/** @fresh_from: clusters from this index on read as zeros until written */
	u64 fresh_from;
	/** @file_end: size of the file in bytes, space reserved ahead included */
	u64 file_end;
	/** @grow_mutex: held by the one who waits for the file to grow */
	struct mutex grow_mutex;
	/** @wanted: what that one needs the file to reach over, in bytes */
	struct qcow2_bytes wanted;
	/** @ahead_after: when (in jiffies) space is reserved ahead again */
	unsigned long ahead_after;
	/** @grow_error: how the last attempt to have it reach further ended */
	int grow_error;
	/** @grow_wq: @grow_work, which waits for no other work */
	struct workqueue_struct *grow_wq;
	/** @grow_work: has the file reach further */
	struct work_struct grow_work;
	/** @keep_size: the file is never cut below; 0 if clusters reached its end */
	u64 keep_size;
	/** @tail_end: cluster index at which the image ended at load */
	u64 tail_end;
	/** @tail_freed: which of the last clusters before it were freed since */
	DECLARE_BITMAP(tail_freed, QCOW2_TAIL_CLUSTERS);
	/** @scan_next: next block of refcounts to be searched for free clusters */
	u64 scan_next;
	/**
	 * @hints: blocks of refcounts known to have free clusters, or that could
	 * not be read; a bounded number
	 */
	struct xarray hints;
	/** @nr_hints: their number */
	u32 nr_hints;
	/** @hinted: how often a free cluster was noted */
	u64 hinted;
	/** @unread_until: when (in jiffies) the latter are to be tried again */
	unsigned long unread_until;
};

/**
 * struct qcow2_recorder - a bitmap that records what changes, in memory
 * @entry: host offset of its entry in the bitmap directory
 * @flags: of that entry while it is not in use
 * @table: its table, as far as the disk reaches
 * @granularity_bits: log2 of the bytes of the disk that a bit stands for
 * @cluster_bits: log2 of the bytes of a cluster
 * @bits: as on disk; only ever set
 * @size: bytes at @bits, whole blocks
 * @changed: a bit for each entry of @table whose bits differ from the disk
 * @table_changed: so does the table; only while the image is being closed
 */
struct qcow2_recorder {
	u64 entry;
	u32 flags;
	struct qcow2_table table;
	u8 granularity_bits;
	u8 cluster_bits;
	__le64 *bits;
	u64 size;
	unsigned long *changed;
	bool table_changed;
};

/**
 * struct qcow2_recorders - the bitmaps of an image
 * @directory: where they are
 * @list: those that record; fixed from load to unload
 * @nr: length of @list
 */
struct qcow2_recorders {
	struct qcow2_bitmaps directory;
	struct qcow2_recorder *list;
	u32 nr;
};

/**
 * struct qcow2_image - an image as it changes
 */
struct qcow2_image {
	/** @layer: as it can be read */
	struct qcow2_layer layer;
	/** @head: its header */
	struct qcow2_head head;
	/** @reftable: the refcount table */
	struct qcow2_table reftable;
	/** @ref_blocks: cached blocks of refcount blocks */
	struct xarray ref_blocks;
	/** @txn: what is not on disk yet */
	struct qcow2_txn txn;
	/** @frees: clusters to be freed */
	struct qcow2_frees frees;
	/** @alloc: clusters in use */
	struct qcow2_alloc alloc;
	/** @recorders: bitmaps that record what changes */
	struct qcow2_recorders recorders;
	/** @bufs: memory for copying */
	struct qcow2_bufs bufs;
	/** @srcu: held by I/O that uses a mapping, until that I/O ends */
	struct srcu_struct srcu;
	/** @srcu_made: whether it is set up */
	bool srcu_made;
	/** @sectors: how long the table wants it to be */
	u64 sectors;
};

/* cache.c */
int qcow2_cache_init(struct qcow2_cache *c, u32 kib);
void qcow2_cache_exit(struct qcow2_cache *c);
void qcow2_cache_drop(struct qcow2_cache *c);
struct qcow2_block *qcow2_block_find(struct xarray *home, u64 index);
struct qcow2_block *qcow2_block_new(struct qcow2_cache *c, struct xarray *home,
				    u64 index, u64 host);
int qcow2_block_insert(struct qcow2_block *b);
void qcow2_block_put(struct qcow2_block *b);
void qcow2_block_destroy(struct qcow2_block *b);
void qcow2_block_prepare(struct qcow2_block *b);

/* table.c */
int qcow2_table_alloc(struct qcow2_table *t, spinlock_t *lock, u64 host,
		      u32 nr);
int qcow2_table_load(struct qcow2_table *t, spinlock_t *lock,
		     struct qcow2_store *st, u64 host, u32 nr);
void qcow2_table_exit(struct qcow2_table *t);
void qcow2_table_set(struct qcow2_table *t, u32 index, u64 entry);
bool qcow2_table_freeze(struct qcow2_table *t);
int qcow2_table_write(struct qcow2_table *t, struct qcow2_store *st);
void qcow2_table_redirty(struct qcow2_table *t);

/* places.c */
void qcow2_places_init(struct qcow2_places *p,
		       const struct qcow2_geometry *geo);
int qcow2_places_build(struct qcow2_layer *l,
		       const struct qcow2_table *reftable);
void qcow2_places_drop(struct qcow2_places *p);
void qcow2_places_reftable(struct qcow2_places *p, u64 host, u64 len);
int qcow2_places_take_bitmaps(struct qcow2_layer *l,
			      const struct qcow2_table *reftable, u64 *list,
			      u32 nr);
bool qcow2_places_overlap(struct qcow2_places *p, u64 offset,
			  struct qcow2_gap *gap);
u64 qcow2_places_unreferenced(struct qcow2_places *p, const void *block,
			      u64 first, u32 count);
void qcow2_places_add(struct qcow2_places *p, u64 offset);
void qcow2_places_forget(struct qcow2_places *p, u64 cluster, u64 count);

/* snapshots.c */
int qcow2_snapshots_load(struct qcow2_layer *l);
void qcow2_snapshots_drop(struct qcow2_places *p);

/* bitmaps.c */
int qcow2_bitmaps_load(struct qcow2_image *q);
void qcow2_bitmaps_drop(struct qcow2_image *q);
int qcow2_bitmaps_begin(struct qcow2_image *q);
void qcow2_bitmaps_undo(struct qcow2_image *q);
int qcow2_bitmaps_write(struct qcow2_image *q);
int qcow2_bitmaps_end(struct qcow2_image *q);

/* record.c */
void qcow2_record_change(struct qcow2_image *q, u64 pos, u64 len);

/* l2.c */
struct qcow2_block *qcow2_l2_get(struct qcow2_layer *l, u64 pos);
int qcow2_l2_own(struct qcow2_image *q, u64 pos);
bool qcow2_l2_absent(const struct qcow2_layer *l, u64 pos, u64 *end);

/* header.c */
int qcow2_header_probe(struct qcow2_layer *l, u64 sectors,
		       struct qcow2_reason *why);
int qcow2_header_fits(const struct qcow2_layer *l, const char *below,
		      bool raw);
int qcow2_header_load(struct qcow2_image *q);
void qcow2_header_drop(struct qcow2_image *q);
int qcow2_header_write(struct qcow2_image *q, bool dirty);
int qcow2_header_move(struct qcow2_image *q);
int qcow2_header_set_dirty(struct qcow2_image *q);

/* dirty.c */
void qcow2_dirty_init(struct qcow2_image *q, u32 cache_kib);
void qcow2_dirty_drop(struct qcow2_image *q);
void qcow2_dirty_block(struct qcow2_image *q, struct qcow2_block *b);
void qcow2_dirty_mapping(struct qcow2_image *q);
void qcow2_dirty_soon(struct qcow2_image *q);
void qcow2_dirty_now(struct qcow2_image *q);
bool qcow2_dirty_nothing(struct qcow2_image *q);

/* txn.c */
int qcow2_txn_init(struct qcow2_image *q);
void qcow2_txn_exit(struct qcow2_image *q);
void qcow2_txn_begin(struct qcow2_image *q);
void qcow2_txn_stopping(struct qcow2_image *q, bool stopping);
void qcow2_txn_settle(struct qcow2_image *q);
void qcow2_txn_wait(struct qcow2_image *q, struct qcow2_waiter *w);
int qcow2_txn_commit(struct qcow2_image *q);
int qcow2_txn_throttle(struct qcow2_image *q);

/* drain.c */
void qcow2_drain(struct qcow2_image *q);
bool qcow2_drain_and_retry(struct qcow2_image *q, int err, bool *tried);

/* free.c */
int qcow2_free_init(struct qcow2_image *q);
void qcow2_free_exit(struct qcow2_image *q);
int qcow2_free_reserve(struct qcow2_image *q, u32 n);
bool qcow2_free_try_reserve(struct qcow2_image *q);
void qcow2_free_unreserve(struct qcow2_image *q, u32 n);
u32 qcow2_free_add(struct qcow2_image *q, struct list_head *list, u64 host,
		   u32 count, bool discard);
u32 qcow2_free_add_share(struct qcow2_image *q, struct list_head *list,
			 u64 host);
void qcow2_free_put(struct qcow2_image *q, struct list_head *list);
void qcow2_free_release(struct qcow2_image *q, struct list_head *list);
void qcow2_free_take(struct qcow2_image *q, struct list_head *list);
void qcow2_free_later(struct qcow2_image *q, struct list_head *list);
void qcow2_free_failed(struct qcow2_image *q, struct list_head *list);
void qcow2_free_run(struct qcow2_image *q, u64 host, u32 count, bool discard);
void qcow2_free_forget(struct qcow2_image *q);
u64 qcow2_free_last(struct qcow2_image *q, bool *collecting);
void qcow2_free_wait(struct qcow2_image *q, u64 gen);

/* space.c */
u64 qcow2_space_capacity(const struct qcow2_image *q);
int qcow2_space_init(struct qcow2_image *q);
void qcow2_space_exit(struct qcow2_image *q);
u32 qcow2_space_within(const struct qcow2_image *q, u64 start, u32 n);
int qcow2_space_reach(struct qcow2_image *q, u64 start, u64 end,
		      struct qcow2_bytes *missing);
int qcow2_space_grow(struct qcow2_image *q, const struct qcow2_bytes *missing);
void qcow2_space_settle(struct qcow2_image *q);
int qcow2_space_clear(struct qcow2_image *q, u64 cluster, u64 count);
bool qcow2_space_is_far(const struct qcow2_image *q);
void qcow2_space_begin(struct qcow2_image *q, u64 end);
void qcow2_space_again(struct qcow2_image *q);
s64 qcow2_space_tail_index(const struct qcow2_image *q, u64 cluster);
void qcow2_space_note_freed(struct qcow2_image *q, u64 cluster, u64 count);

/* refcount.c */
struct qcow2_block *qcow2_refcount_block(struct qcow2_image *q, u64 index);
struct qcow2_block *qcow2_refcount_new_block(struct qcow2_image *q, u64 index,
					     u64 refblock);
void qcow2_refcount_set_run(struct qcow2_image *q, struct qcow2_block *b, u64 i,
			    u64 count, u64 value);
int qcow2_refcount_run(struct qcow2_image *q, u64 cluster, u64 max, u64 *value,
		       u64 *count);
int qcow2_refcount_drop(struct qcow2_image *q, u64 cluster, u64 count,
			u64 refs);
int qcow2_refcount_see(struct qcow2_image *q, u64 cluster,
		       void (*see)(const struct qcow2_block *b, void *arg),
		       void *arg);
int qcow2_refcount_last(struct qcow2_image *q, u64 *end);

/* reftable.c */
int qcow2_reftable_need(struct qcow2_image *q, u64 cluster,
			struct qcow2_bytes *missing);
int qcow2_reftable_need_at_end(struct qcow2_image *q,
			       struct qcow2_bytes *missing);

/* hints.c */
void qcow2_hint_free(struct qcow2_image *q, u64 index);
void qcow2_hint_unread(struct qcow2_image *q, u64 index);
bool qcow2_hint_retry(const struct qcow2_image *q);
bool qcow2_hint_next(struct qcow2_image *q, bool retry, u64 *index);
void qcow2_hint_worked(struct qcow2_image *q, u64 index);
void qcow2_hint_gone(struct qcow2_image *q, u64 index, u64 seen);

/* alloc.c */
int qcow2_alloc_begin(struct qcow2_image *q);
int qcow2_alloc_clusters(struct qcow2_image *q, u32 want, u64 *host, u32 *got,
			 bool *fresh);

/* tail.c */
u64 qcow2_tail_end(struct qcow2_image *q);

/* layer.c */
int qcow2_layer_init(struct qcow2_layer *l, u32 cache_kib);
void qcow2_layer_exit(struct qcow2_layer *l);
int qcow2_layer_load(struct qcow2_layer *l, spinlock_t *lock,
		     struct qcow2_table *reftable);
void qcow2_layer_unload(struct qcow2_layer *l);

/* image.c */
int qcow2_image_init(struct qcow2_image *q, u32 cache_kib);
void qcow2_image_exit(struct qcow2_image *q);
int qcow2_image_load(struct qcow2_image *q, const char *below, bool raw);
void qcow2_image_unload(struct qcow2_image *q);
int qcow2_image_close(struct qcow2_image *q);
void qcow2_image_settle(struct qcow2_image *q);

static inline u32 qcow2_cluster(const struct qcow2_layer *l)
{
	return 1U << l->geo.cluster_bits;
}

/* log2 of the guest bytes that a block of L2 entries maps. */
static inline unsigned int qcow2_l2_block_bits(const struct qcow2_layer *l)
{
	/* An entry has 1 << (cluster_bits - l2_bits) bytes. */
	return l->geo.l2_bits + QCOW2_BLOCK_BITS;
}

/* Entries of a block of an L2 table: at most QCOW2_L2_PER_BLOCK. */
static inline u32 qcow2_l2_per_block(const struct qcow2_layer *l)
{
	return qcow2_extended_l2(&l->geo) ? QCOW2_L2_PER_BLOCK / 2 :
					    QCOW2_L2_PER_BLOCK;
}

/* Whether guest data is in a file of its own. */
static inline bool qcow2_external(const struct qcow2_layer *l)
{
	return l->data != l->meta;
}

/* Whether guest offsets are those of the data file, whatever tables say. */
static inline bool qcow2_identity(const struct qcow2_layer *l)
{
	return unlikely(qcow2_external(l)) && qcow2_data_file_raw(&l->geo);
}

/* What is kept true of the autoclear features. */
static inline u64 qcow2_autoclear_kept(const struct qcow2_image *q)
{
	u64 kept = 0;

	if (qcow2_data_file_raw(&q->layer.geo))
		kept |= QCOW2_AUTOCLEAR_RAW_EXTERNAL;
	if (q->recorders.directory.nb_bitmaps)
		kept |= QCOW2_AUTOCLEAR_BITMAPS;
	return kept;
}

/* Bytes that can be read: a disk may end inside its last cluster. */
static inline u64 qcow2_layer_readable(const struct qcow2_layer *l)
{
	return l->meta->bdev ? qcow2_store_size(l->meta) : l->limit;
}

/*
 * Notes in all bitmaps that bytes of the disk are about to change; before they
 * do, and between a start and a stop.
 */
static inline void qcow2_record(struct qcow2_image *q, u64 pos, u64 len)
{
	if (unlikely(q->recorders.nr) && len)
		qcow2_record_change(q, pos, len);
}

static inline bool qcow2_lazy(const struct qcow2_image *q)
{
	return q->layer.geo.compat & QCOW2_COMPAT_LAZY_REFCOUNTS;
}

static inline u64 qcow2_table_get(const struct qcow2_table *t, u32 index)
{
	return be64_to_cpu(READ_ONCE(t->entries[index]));
}

/* Refcounts in a block of them, and refcount blocks by what they describe. */
static inline u64 qcow2_per_block(const struct qcow2_image *q)
{
	return qcow2_refcounts_per_block(&q->layer.geo);
}

static inline u64 qcow2_region_of(const struct qcow2_image *q, u64 cluster)
{
	return cluster >> qcow2_refblock_bits(&q->layer.geo);
}

static inline u64 qcow2_refcount(const struct qcow2_image *q,
				 const struct qcow2_block *b, u64 i)
{
	return qcow2_refcount_get(b->data, i, q->layer.geo.refcount_order);
}

/* Whether what has been written in place is all a FLUSH has to wait for. */
static inline bool qcow2_txn_is_stable(const struct qcow2_image *q)
{
	/* Pairs with smp_wmb() in qcow2_dirty_mapping(). */
	smp_rmb();
	return !READ_ONCE(q->txn.unstable);
}

#endif
