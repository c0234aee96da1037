/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * dm-qcow2: the parts and how they fit.
 *
 *   target.c    device-mapper glue: constructor, suspend, resume, status
 *   image.c     one open image: header, tables, life cycle
 *   loss.c      images whose changes could not be written
 *   store.c     where its bytes are: a file or a block device
 *   lock.c      locks that QEMU respects
 *   cache.c     cached blocks of L2 tables and refcount blocks
 *   refcount.c  refcounts and cluster allocation
 *   table.c     top-level tables in memory: L1, refcount table
 *   meta.c      where the tables lie, so that nothing else is put there
 *   snapshots.c where the internal snapshots keep theirs
 *   l2.c        L2 tables: lookup and update
 *   commit.c    the order of metadata on disk; FLUSH
 *   free.c      clusters on their way back to the allocator
 *   range.c     locks on guest clusters whose mapping changes
 *   fast.c      I/O to mapped clusters in the submitter's context
 *   slow.c      everything else, in a worker
 *   write.c     allocating writes, copy-on-write
 *   zero.c      discard and write-zeroes
 *   bounce.c    I/O that the store cannot do at its alignment
 *   copy.c      copies within the image, for blk-copy
 *   format.c    the on-disk format (compiled in userspace too)
 *
 * Lock order, outermost first:
 *
 *   record.busy            an image that could not be written (loss.c)
 *   image.state_lock       start and stop, status
 *   range                  (not a lock: waiters are parked, see range.c)
 *   image.free_mutex       waiting for entries of what is to be freed
 *   image.l2_lock[]        one L2 table: loading, creation
 *   image.alloc_lock       refcounts, allocation, refcount table
 *   image.reftable_lock    the refcount table's place; held by a commit
 *   image.header_lock      the header block
 *   image.fsync_lock       who asks whether the page cache has lost something
 *   image.md_lock          (irq) dirty lists, entries of cached blocks
 *   image.cache_lock       LRU; processes only
 *   image.range_lock       (irq) range tree
 *   image.flush_lock       (irq) flushes waiting for a commit
 *
 * The last four are leaves: none is taken inside another. image.srcu is inside
 * everything: nobody waits for a mutex or a commit in it, because those who
 * hold one may wait for its grace period. The locks that a copy inside the store
 * takes in it (copy.c) are not ours: of the file, or of the disk below.
 */
#ifndef DM_QCOW2_H
#define DM_QCOW2_H

#include <linux/bio.h>
#include <linux/device-mapper.h>
#include <linux/fs.h>
#include <linux/list.h>
#include <linux/log2.h>
#include <linux/mempool.h>
#include <linux/mutex.h>
#include <linux/ratelimit.h>
#include <linux/rbtree.h>
#include <linux/refcount.h>
#include <linux/srcu.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include "../blk-copy/api.h"
#include "format.h"

#define DM_MSG_PREFIX "qcow2"

#define QCOW2_L2_LOCKS		16
#define QCOW2_COMMIT_SLOTS	8
#define QCOW2_SLOT_BLOCKS	32
#define QCOW2_BUF_PAGES		16
#define QCOW2_BUF_SIZE		(QCOW2_BUF_PAGES * PAGE_SIZE)
#define QCOW2_ZERO_PAGES	64
#define QCOW2_REPORTED_MAX	256
#define QCOW2_FREE_ENTRIES	512
#define QCOW2_FREE_STEP		64
#define QCOW2_TAIL_CLUSTERS	8192

struct qcow2_image;
struct qcow2_record;

/**
 * struct qcow2_store - where the bytes of an image are
 * @file: open for I/O; its mtime is not touched by that I/O (see qcow2_store_touch)
 * @lock_file: a second open file of the same inode, which owns the locks
 * @dev: the device-mapper reference if the image is a block device, else NULL
 * @bdev: the block device, or NULL
 * @bs: bios for @bdev
 * @wq: goes on with requests that a file system did in part
 * @align: offsets and lengths of direct I/O are multiples of this, in bytes
 * @mem_align: its memory begins and ends at multiples of this, in bytes
 * @direct: I/O bypasses the page cache
 * @nowait: I/O may be tried without blocking
 * @exact: extents may be shared, as far as copies by others go (compat/cow.h)
 * @shares: that the file system shares extents is still believed
 * @punch: giving back space below is still believed to work
 * @read_only: opened for reading only
 * @ended: our turn with it is over; @drop_work stops
 * @drop_work: gives up what the page cache has of a file
 */
struct qcow2_store {
	struct file *file;
	struct file *lock_file;
	struct dm_dev *dev;
	struct block_device *bdev;
	struct bio_set bs;
	struct workqueue_struct *wq;
	u32 align;
	u32 mem_align;
	bool direct;
	bool nowait;
	bool exact;
	bool shares;
	bool punch;
	bool read_only;
	bool ended;
	struct work_struct drop_work;
};

/**
 * struct qcow2_how - what the store is to know of the one a request is for
 * @flags: of the request, see QCOW2_CARRIED
 * @ioprio: I/O priority
 * @group: who is charged for it; NULL: whoever the worker acts for, which is
 *	nobody but for a copy. It stays for as long as the bio that it is from.
 */
struct qcow2_how {
	blk_opf_t flags;
	u16 ioprio;
	struct cgroup_subsys_state *group;
};

/*
 * What a bio's requests to the store have in common with it. All else is about
 * the bio itself, or about how it was submitted.
 */
#define QCOW2_CARRIED (REQ_SYNC | REQ_META | REQ_PRIO | REQ_IDLE |	\
		       REQ_BACKGROUND | REQ_RAHEAD | REQ_SWAP |		\
		       REQ_FAILFAST_MASK)

/* Many wait for metadata, whoever it is that made it change. */
#define QCOW2_FOR_METADATA						\
	((struct qcow2_how) { .flags = REQ_SYNC | REQ_META })

struct qcow2_sio;
typedef void (*qcow2_sio_done_fn)(struct qcow2_sio *sio, int err);

/**
 * struct qcow2_sio - one asynchronous request to the store
 * @iocb: for a file
 * @store: where
 * @done: called once, in any context, with 0 or a negative error
 * @refs: the submission and the completion of @iocb; the last one goes on,
 *	because a file system may look at an iocb after it has completed it
 * @ret: what the file system said
 * @work: goes on with a request that was done in part
 * @bv: the memory
 * @bv_iter: what of @bv is still to be done
 * @pos: byte offset in the store that goes with @bv_iter
 * @write: direction
 * @how: on whose behalf
 */
struct qcow2_sio {
	struct kiocb iocb;
	struct qcow2_store *store;
	qcow2_sio_done_fn done;
	atomic_t refs;
	long ret;
	struct work_struct work;
	const struct bio_vec *bv;
	struct bvec_iter bv_iter;
	u64 pos;
	bool write;
	struct qcow2_how how;
};

enum qcow2_block_flags {
	QCOW2_BLOCK_DIRTY,	/* on a dirty list, which holds a reference */
	QCOW2_BLOCK_REFERENCED,	/* used since the LRU last looked */
	QCOW2_BLOCK_REFCOUNTS,	/* part of a refcount block, else of an L2 table */
};

/**
 * struct qcow2_block - a cached block of an L2 table or refcount block
 * @image: whose pools it is from
 * @index: L2: guest offset / (512 clusters); refcounts: cluster index / entries
 * @host: its place in the image in bytes; 0: the L2 table does not exist yet
 * @data: the block as on disk; entries change under image.md_lock and are read
 *	without a lock
 * @shadow: the copy that a commit writes out; made before the first change
 * @bad: a bitmap of the entries that must not be used, or NULL; fixed at load
 * @sound: a bit for each L2 entry whose cluster is known to have a reference, so
 *	that it may be written in place; set after the entry, never cleared
 * @refs: the cache holds one, each user and each list one more
 * @flags: enum qcow2_block_flags
 * @lru: image.lru, under image.cache_lock
 * @dirty: image.dirty_l2 or dirty_refs, under image.md_lock
 * @commit: the running commit's list
 * @rcu: frees it
 */
struct qcow2_block {
	struct qcow2_image *image;
	u64 index;
	u64 host;
	void *data;
	void *shadow;
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
 * struct qcow2_table - a top-level table (L1, refcount table), all in memory
 * @entries: as on disk, whole blocks; read without a lock, changed under
 *	image.md_lock
 * @shadow: the copy that a commit writes; NULL when read-only
 * @dirty: a bit a block that differs from the disk, under image.md_lock
 * @writing: a bit a block that the running commit writes
 * @host: its place in the image
 * @nr: number of entries
 * @blocks: number of blocks
 */
struct qcow2_table {
	__be64 *entries;
	__be64 *shadow;
	unsigned long *dirty;
	unsigned long *writing;
	u64 host;
	u32 nr;
	u32 blocks;
};

/**
 * struct qcow2_free - a run of host clusters to be dereferenced
 * @node: the list it is on
 * @host: host offset of the first in bytes
 * @count: how many
 * @discard: give their space below back
 */
struct qcow2_free {
	struct list_head node;
	u64 host;
	u32 count;
	bool discard;
};

/**
 * struct qcow2_range - guest clusters whose mapping is being changed
 * @node: image.ranges
 * @first: first cluster
 * @last: last cluster
 * @subtree_last: for the interval tree
 * @waiters: struct qcow2_io that want a part of it
 */
struct qcow2_range {
	struct rb_node node;
	u64 first;
	u64 last;
	u64 subtree_last;
	struct list_head waiters;
};

enum qcow2_io_flags {
	QCOW2_IO_SRCU,		/* holds image.srcu */
	QCOW2_IO_FB_WRITE,	/* holds freeze protection of the store */
	QCOW2_IO_QUEUED,	/* has been to the slow path */
	QCOW2_IO_BOUNCE,	/* direct I/O from its own pages was refused */
	QCOW2_IO_COPY,		/* no bio: part of a struct qcow2_copy */
};

/**
 * struct qcow2_io - per-bio data
 * @iocb: the fast path's request to a file
 * @image: the image
 * @srcu: index of the read-side section, if QCOW2_IO_SRCU
 * @flags: enum qcow2_io_flags
 * @pending: parts in flight, plus one while a worker goes through it
 * @error: first error of a part
 * @start: guest offset in bytes of the bio
 * @pos: how far the worker has come
 * @end: guest offset of the bio's end
 * @work: the slow path
 * @node: a range's waiters or the flush list
 */
struct qcow2_io {
	struct kiocb iocb;
	struct qcow2_image *image;
	int srcu;
	unsigned long flags;
	atomic_t pending;
	int error;
	u64 start;
	u64 pos;
	u64 end;
	struct work_struct work;
	struct list_head node;
};

/* A worker may have one buffer for each of these. */
enum qcow2_buf_use { QCOW2_BUF_BOUNCE, QCOW2_BUF_COPY, QCOW2_BUF_USES };

/**
 * struct qcow2_buf - bounce memory of up to QCOW2_BUF_SIZE bytes
 * @bv: its pages
 * @use: what it was got for
 */
struct qcow2_buf {
	struct bio_vec bv[QCOW2_BUF_PAGES];
	enum qcow2_buf_use use;
};

/**
 * struct qcow2_sub - a part of a bio in the slow path
 * @sio: its I/O
 * @io: the bio it belongs to
 * @srcu: index of the read-side section, or -1
 * @range: the guest clusters it has locked, if @locked
 * @locked: whether it holds @range
 * @l2: the cached L2 block to change, or NULL for I/O in place
 * @index: first entry in @l2
 * @count: number of entries
 * @host: host offset of the first cluster
 * @allocated: the clusters were taken from the allocator for this
 * @frees: what the change of the mapping sets free
 * @buf: bounce memory, or NULL
 * @error: of the I/O
 * @work: undoes a failed allocation
 */
struct qcow2_sub {
	struct qcow2_sio sio;
	struct qcow2_io *io;
	int srcu;
	struct qcow2_range range;
	bool locked;
	struct qcow2_block *l2;
	u32 index;
	u32 count;
	u64 host;
	bool allocated;
	struct list_head frees;
	struct qcow2_buf *buf;
	int error;
	struct work_struct work;
};

/**
 * struct qcow2_slot - one of the writes that a commit has in flight
 * @sio: the write
 * @image: the image
 * @bv: the copies of blocks that it writes
 */
struct qcow2_slot {
	struct qcow2_sio sio;
	struct qcow2_image *image;
	struct bio_vec bv[QCOW2_SLOT_BLOCKS];
};

/**
 * struct qcow2_extent - a range of bytes of the image
 * @start: its first byte
 * @end: the byte after its last
 */
struct qcow2_extent {
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

enum qcow2_stat {
	QCOW2_STAT_HIT,
	QCOW2_STAT_MISS,
	QCOW2_STAT_INLINE,
	QCOW2_STAT_PUNT,
	QCOW2_STAT_ALLOC,
	QCOW2_STAT_FREE,
	QCOW2_STAT_COW,
	QCOW2_STAT_COMMIT,
	QCOW2_STAT_NR,
};

struct qcow2_stats {
	u64 n[QCOW2_STAT_NR];
};

/**
 * enum qcow2_mode - what may be done with the image
 * @QCOW2_MODE_RW: everything
 * @QCOW2_MODE_RO: attached read_only
 * @QCOW2_MODE_FAIL: found corrupt; what can be read is read
 */
enum qcow2_mode { QCOW2_MODE_RW, QCOW2_MODE_RO, QCOW2_MODE_FAIL };

/**
 * struct qcow2_image - an image and everything that is known of it
 *
 * Fixed by the constructor:
 *
 * @ti: the target
 * @path: the image's name, for the log and the table
 * @read_only: never write
 * @no_lock: leave QEMU's locks alone
 * @cache_limit: KiB of metadata to be cached at the most
 * @store: where the bytes are
 * @record: for when changes cannot be written
 *
 * From preresume to postsuspend, under the locks named beside them:
 *
 * @state_lock: start and stop
 * @live: between a start and a stop, under @state_lock
 * @accept_loss: the next start goes on from what is on disk, whatever was lost
 * @unsaved: the last stop could not write everything, under @state_lock
 * @fsync_lock: around the fsync of a file that is written through the page cache
 * @writes_lost: the store has lost what it had accepted, under @fsync_lock
 * @mode: what may be done with the image
 * @geo: the header's facts; the refcount table's place changes under
 *	@alloc_lock, @reftable_lock and @md_lock, all else is fixed
 * @header_lock: the header block
 * @header: the first block of the image as on disk, under @header_lock
 * @header_dirty_bit: the dirty bit is, or may be, set on disk
 * @dirty_durable: it is there for sure
 * @limit: no cluster lies at or beyond it (bytes); grows under @alloc_lock
 *
 * Tables and where they lie:
 *
 * @l1: the active L1 table
 * @reftable: the refcount table
 * @l2_tables: places of the L2 tables found at start, sorted
 * @ref_tables: places of the refcount blocks found at start, sorted
 * @nr_l2_tables: length of @l2_tables
 * @nr_ref_tables: length of @ref_tables
 * @snapshot_l1: L1 tables of the snapshots, sorted and merged
 * @nr_snapshot_l1: length of @snapshot_l1
 * @snapshots_end: where the snapshot table ends
 * @new_meta: places of tables made since, indexed by cluster
 *
 * The cache:
 *
 * @l2_blocks: blocks of L2 tables
 * @ref_blocks: blocks of refcount blocks
 * @l2_lock: loading and making L2 tables, by L1 index
 * @cache_lock: @lru and @cached
 * @lru: all blocks, the next to be looked at first
 * @cached: number of blocks
 * @shrinker: gives blocks up when memory is short
 * @shrinker_registered: whether there is one
 *
 * What differs from the disk:
 *
 * @md_lock: entries of cached blocks and tables, and all down to @freed_gen
 * @dirty_l2: blocks of L2 tables
 * @dirty_refs: blocks of refcounts
 * @nr_dirty: length of both
 * @unstable: mappings are not on disk yet; see qcow2_mark_unstable()
 * @reftable_moved: the header does not name the refcount table's place yet
 * @commit_wait: woken after each commit
 *
 * Clusters to be freed (free.c):
 *
 * @free_entries: memory of all entries
 * @free_pool: entries not in use
 * @free_avail: how many of them are not reserved either; negative when spare
 *	ones are in use
 * @free_wanted: somebody waits for entries
 * @nr_freeing: clusters that are put and not free yet
 * @frees: unlinked in the cache; they wait for a commit
 * @nr_frees: length of @frees
 * @nr_unlinked: clusters on it
 * @frees_gen: generation that collects on @frees
 * @free_ready: unlinked on disk
 * @ready_gen: the last generation that a commit was done with
 * @freed_gen: the last generation that @free_work was done with; written by it
 *	alone, read without the lock
 * @free_work: frees what is in @free_ready
 * @free_wait: woken when entries are back, a generation is done with, or a
 *	commit is over
 * @free_mutex: held by the one who waits for entries
 *
 * The allocator:
 *
 * @alloc_lock: refcounts and all down to @enospc
 * @reftable_lock: the place of @reftable, held across a commit
 * @alloc_end: first cluster index never handed out
 * @fresh_from: clusters from this index on read as zeros until written
 * @file_end: size of the file in bytes, space reserved ahead included
 * @keep_size: the file is never cut below; 0 if its clusters reached to its end
 * @tail_end: cluster index at which the image ended at start
 * @tail_freed: which of the last QCOW2_TAIL_CLUSTERS before @tail_end were freed
 *	since
 * @scan_next: next block of refcounts to be searched for free clusters
 * @hints: blocks of refcounts known to have free clusters, or that could not be
 *	read; at most MAX_HINTS
 * @nr_hints: their number
 * @unread_until: when (in jiffies) those that could not be read are to be tried
 *	again
 * @enospc: out of space has been reported
 *
 * Bios:
 *
 * @range_lock: @ranges and their waiters
 * @ranges: guest clusters whose mapping is being changed
 * @flush_lock: @flushes and @commit_waits
 * @flushes: bios that end with the next commit
 * @commit_waits: others who wait for it
 * @stopping: commits write everything there is, and nothing starts one later;
 *	changes under @md_lock
 * @commit_work: runs a commit
 * @commit_later: starts one if nobody asks for it
 * @commit_error: of the writes in flight
 * @commit_pending: number of writes in flight
 * @commit_io: completed with the last of them
 * @slots: those writes
 * @last_commit: how the last commit ended
 * @commits: number of commits so far
 * @srcu: held by I/O that uses a mapping, until that I/O ends
 *
 * Resources:
 *
 * @io_wq: the slow path
 * @commit_wq: commits; they wait for none of the others
 * @free_wq: @free_work, which waits for none of the others
 * @undo_wq: undoing, which waits for who allocates, who waits for commits
 * @subs: parts of bios
 * @blocks: cached blocks
 * @pages: their memory
 * @copy: provider at blk-copy, or NULL if the image is never written
 * @emergency: buffers for when there is no memory
 * @emergency_busy: a bit for each of them in use
 * @zero_bv: pages of zeros
 * @reported: places that have been logged
 * @nr_reported: their number
 * @event_work: raises a dm event
 * @data_written: the file owes its time stamp an update
 * @errors: bios ended with an error
 * @enospc_errors: those of them for want of space
 * @stats: counters
 */
struct qcow2_image {
	struct dm_target *ti;
	char *path;
	bool read_only;
	bool no_lock;
	u32 cache_limit;
	struct qcow2_store store;
	struct qcow2_record *record;

	struct mutex state_lock;	/* start, stop */
	bool live;
	bool accept_loss;
	bool unsaved;
	struct mutex fsync_lock;	/* writes_lost */
	bool writes_lost;
	enum qcow2_mode mode;
	struct qcow2_geometry geo;
	struct mutex header_lock;	/* header, header_dirty_bit */
	struct qcow2_header *header;
	bool header_dirty_bit;
	bool dirty_durable;
	u64 limit;

	struct qcow2_table l1;
	struct qcow2_table reftable;
	u64 *l2_tables;
	u64 *ref_tables;
	u32 nr_l2_tables;
	u32 nr_ref_tables;
	struct qcow2_extent *snapshot_l1;
	u32 nr_snapshot_l1;
	u64 snapshots_end;
	struct xarray new_meta;

	struct xarray l2_blocks;
	struct xarray ref_blocks;
	struct mutex l2_lock[QCOW2_L2_LOCKS];	/* loading and making, by L1 index */
	spinlock_t cache_lock;		/* lru, cached */
	struct list_head lru;
	u32 cached;
	struct compat_shrinker shrinker;
	bool shrinker_registered;

	spinlock_t md_lock;		/* entries, dirty lists, frees */
	struct list_head dirty_l2;
	struct list_head dirty_refs;
	u32 nr_dirty;
	bool unstable;
	bool reftable_moved;
	wait_queue_head_t commit_wait;

	struct qcow2_free *free_entries;
	struct list_head free_pool;
	s32 free_avail;
	bool free_wanted;
	u64 nr_freeing;
	struct list_head frees;
	u32 nr_frees;
	u64 nr_unlinked;
	u64 frees_gen;
	struct list_head free_ready;
	u64 ready_gen;
	u64 freed_gen;
	struct work_struct free_work;
	wait_queue_head_t free_wait;
	struct mutex free_mutex;	/* waiting for entries */

	struct mutex alloc_lock;	/* refcounts and all down to enospc */
	struct mutex reftable_lock;	/* the place of reftable */
	u64 alloc_end;
	u64 fresh_from;
	u64 file_end;
	u64 keep_size;
	u64 tail_end;
	DECLARE_BITMAP(tail_freed, QCOW2_TAIL_CLUSTERS);
	u64 scan_next;
	struct xarray hints;
	u32 nr_hints;
	unsigned long unread_until;
	bool enospc;

	spinlock_t range_lock;		/* ranges and their waiters */
	struct rb_root_cached ranges;

	spinlock_t flush_lock;		/* flushes, commit_waits */
	struct list_head flushes;
	struct list_head commit_waits;
	bool stopping;
	struct work_struct commit_work;
	struct delayed_work commit_later;
	int commit_error;
	atomic_t commit_pending;
	struct completion commit_io;
	struct qcow2_slot *slots;
	int last_commit;
	u64 commits;

	struct srcu_struct srcu;

	struct workqueue_struct *io_wq;
	struct workqueue_struct *commit_wq;
	struct workqueue_struct *free_wq;
	struct workqueue_struct *undo_wq;
	mempool_t subs;
	mempool_t blocks;
	mempool_t pages;
	struct blk_copy_provider *copy;
	struct qcow2_buf emergency[QCOW2_BUF_USES];
	unsigned long emergency_busy;
	struct bio_vec zero_bv[QCOW2_ZERO_PAGES];

	struct xarray reported;
	atomic_t nr_reported;
	struct work_struct event_work;
	bool data_written;
	atomic64_t errors;
	atomic64_t enospc_errors;
	struct qcow2_stats __percpu *stats;
};

#define qcow2_count(q, what) this_cpu_inc((q)->stats->n[QCOW2_STAT_##what])
#define qcow2_count_n(q, what, k) \
	this_cpu_add((q)->stats->n[QCOW2_STAT_##what], k)

/* Messages name the device and the image. */
#define qcow2_err(q, fmt, ...)						\
	DMERR("%s: %s: " fmt, dm_table_device_name((q)->ti->table),	\
	      (q)->path, ##__VA_ARGS__)
#define qcow2_info(q, fmt, ...)						\
	DMINFO("%s: %s: " fmt, dm_table_device_name((q)->ti->table),	\
	       (q)->path, ##__VA_ARGS__)

/* For what a guest can bring about as often as it likes. */
#define qcow2_limit_err(q, fmt, ...)					\
do {									\
	static DEFINE_RATELIMIT_STATE(rs, DEFAULT_RATELIMIT_INTERVAL,	\
				      DEFAULT_RATELIMIT_BURST);		\
									\
	if (__ratelimit(&rs))						\
		qcow2_err(q, fmt, ##__VA_ARGS__);			\
} while (0)

static inline struct bio *qcow2_io_bio(struct qcow2_io *io)
{
	return dm_bio_from_per_bio_data(io, sizeof(struct qcow2_io));
}

static inline u32 qcow2_cluster(const struct qcow2_image *q)
{
	return 1U << q->geo.cluster_bits;
}

static inline unsigned int qcow2_l2_block_bits(const struct qcow2_image *q)
{
	return q->geo.cluster_bits + QCOW2_BLOCK_BITS - 3;
}

/* With misaligned I/O about, even writes in place must exclude each other. */
static inline bool qcow2_serialize(const struct qcow2_image *q)
{
	return q->store.align > 512;
}

static inline bool qcow2_lazy(const struct qcow2_image *q)
{
	return q->geo.compat & QCOW2_COMPAT_LAZY_REFCOUNTS;
}

/* image.c */
int qcow2_image_probe(struct qcow2_image *q, struct qcow2_reason *why);
int qcow2_image_start(struct qcow2_image *q);
int qcow2_image_stop(struct qcow2_image *q);
void qcow2_image_forget(struct qcow2_image *q);
int qcow2_image_flush(struct qcow2_image *q);
int qcow2_header_write(struct qcow2_image *q, bool dirty);
int qcow2_header_move(struct qcow2_image *q);
int qcow2_header_set_dirty(struct qcow2_image *q);
void qcow2_report(struct qcow2_image *q, u64 key, const char *what, u64 where);
void qcow2_image_fail(struct qcow2_image *q, const char *what, u64 where);

/* loss.c */
int qcow2_loss_init(struct qcow2_image *q);
void qcow2_loss_exit(struct qcow2_image *q);
void qcow2_loss_threatens(struct qcow2_image *q);
void qcow2_loss_note(struct qcow2_image *q);
void qcow2_loss_averted(struct qcow2_image *q);
int qcow2_loss_check(struct qcow2_image *q, bool resuming);
void qcow2_loss_accepted(struct qcow2_image *q);
void qcow2_loss_drop_all(void);

/* store.c */
int qcow2_store_open(struct qcow2_store *st, struct dm_target *ti,
		     const char *spec, char **path, bool read_only);
void qcow2_store_close(struct qcow2_store *st, struct dm_target *ti);
u64 qcow2_store_size(const struct qcow2_store *st);
void qcow2_sio_submit(struct qcow2_sio *sio);
void qcow2_sio_bio(struct qcow2_sio *sio, struct bio *bio, u64 skip, u64 len);
void qcow2_sio_vec(struct qcow2_sio *sio, const struct bio_vec *bv, u64 len);
int qcow2_store_rw(struct qcow2_store *st, bool write, u64 pos,
		   const struct bio_vec *bv, u64 skip, u64 len,
		   struct qcow2_how how);
int qcow2_store_rw_buf(struct qcow2_store *st, bool write, u64 pos, void *buf,
		       u64 len);
int qcow2_store_flush(struct qcow2_store *st);
void qcow2_store_touch(struct qcow2_store *st);
u64 qcow2_store_share(struct qcow2_store *st, u64 from, u64 to, u64 len);
int qcow2_store_copy(struct qcow2_store *st, u64 from, u64 to, u64 len,
		     const struct blk_copy_op *parent);
int qcow2_store_extend(struct qcow2_store *st, u64 from, u64 to);
int qcow2_store_trim(struct qcow2_store *st, u64 size);
void qcow2_store_discard(struct qcow2_store *st, u64 pos, u64 len,
			 struct bio **chain);
void qcow2_store_discarded(struct bio *chain);
void qcow2_store_begin(struct qcow2_store *st);
void qcow2_store_drop_cache(struct qcow2_store *st);
int qcow2_store_end(struct qcow2_store *st);
u32 qcow2_store_block(const struct qcow2_store *st);
bool qcow2_store_stable(const struct qcow2_store *st);
unsigned int qcow2_bvecs(const struct bio_vec *table, struct bvec_iter part);

/* lock.c */
int qcow2_lock_image(struct qcow2_image *q);
void qcow2_unlock_image(struct qcow2_image *q);

/* cache.c */
int qcow2_cache_init(struct qcow2_image *q);
void qcow2_cache_exit(struct qcow2_image *q);
void qcow2_cache_drop(struct qcow2_image *q);
struct qcow2_block *qcow2_block_find(struct xarray *xa, u64 index);
struct qcow2_block *qcow2_block_new(struct qcow2_image *q, u64 index, u64 host);
int qcow2_block_insert(struct qcow2_image *q, struct xarray *xa,
		       struct qcow2_block *b);
void qcow2_block_put(struct qcow2_block *b);
void qcow2_block_free(struct qcow2_block *b);
void qcow2_block_prepare(struct qcow2_image *q, struct qcow2_block *b);
void qcow2_block_dirty(struct qcow2_image *q, struct qcow2_block *b);

/* refcount.c */
int qcow2_refcount_start(struct qcow2_image *q);
u64 qcow2_refcount_end(struct qcow2_image *q);
int qcow2_alloc_clusters(struct qcow2_image *q, u32 want, u64 *host, u32 *got,
			 bool *fresh);
int qcow2_refcount_run(struct qcow2_image *q, u64 cluster, u64 max, u64 *value,
		       u64 *count);
int qcow2_refcount_drop(struct qcow2_image *q, u64 cluster, u64 count);
int qcow2_refcount_vouch(struct qcow2_image *q, struct qcow2_block *l2,
			 u32 index, u32 count);

/* l2.c */
struct qcow2_block *qcow2_l2_get(struct qcow2_image *q, u64 pos);
int qcow2_l2_own(struct qcow2_image *q, u64 pos);
void qcow2_l2_set(struct qcow2_block *b, u32 index, u64 entry);
enum qcow2_cluster_type qcow2_l2_type(struct qcow2_image *q,
				      struct qcow2_block *b, u32 index,
				      u64 *entry);
u64 qcow2_l2_run(struct qcow2_image *q, struct qcow2_block *b, u32 index,
		 u64 first, u32 max, u64 mask);

/* Reads an entry of a referenced block, or inside rcu_read_lock(). */
static inline u64 qcow2_l2_entry(const struct qcow2_block *b, u32 index)
{
	return be64_to_cpu(READ_ONCE(((const __be64 *)b->data)[index]));
}

/*
 * How many entries from @index on, at most @max, are sound. What is read of them
 * afterwards is what was found sound, or newer.
 */
static inline u32 qcow2_l2_sound(const struct qcow2_block *b, u32 index,
				 u32 max)
{
	u32 n;

	if (max == 1)
		n = test_bit(index, b->sound);
	else
		n = find_next_zero_bit(b->sound, index + max, index) - index;
	/* Pairs with smp_mb__before_atomic() in qcow2_sub_link(). */
	smp_rmb();
	return n;
}

static inline u32 qcow2_l2_index(const struct qcow2_image *q, u64 pos)
{
	return (pos >> q->geo.cluster_bits) & (QCOW2_L2_PER_BLOCK - 1);
}

/* meta.c */
int qcow2_meta_build(struct qcow2_image *q);
void qcow2_meta_drop(struct qcow2_image *q);
bool qcow2_meta_overlaps(struct qcow2_image *q, u64 offset,
			 struct qcow2_gap *gap);
u64 qcow2_meta_unreferenced(struct qcow2_image *q, const void *block,
			    u64 first, u32 count);
void qcow2_meta_add(struct qcow2_image *q, u64 offset);
void qcow2_meta_forget(struct qcow2_image *q, u64 cluster, u64 count);

/* snapshots.c */
int qcow2_snapshots_load(struct qcow2_image *q);
void qcow2_snapshots_drop(struct qcow2_image *q);

/* table.c */
int qcow2_table_load(struct qcow2_image *q, struct qcow2_table *t, u64 host,
		     u32 nr);
void qcow2_table_free(struct qcow2_table *t);
void qcow2_table_set(struct qcow2_image *q, struct qcow2_table *t, u32 index,
		     u64 entry);
bool qcow2_table_snapshot(struct qcow2_image *q, struct qcow2_table *t);
int qcow2_table_write(struct qcow2_image *q, struct qcow2_table *t);
void qcow2_table_redirty(struct qcow2_image *q, struct qcow2_table *t);
int qcow2_table_alloc(struct qcow2_table *t, u64 host, u32 nr, bool writable);

static inline u64 qcow2_table_get(const struct qcow2_table *t, u32 index)
{
	return be64_to_cpu(READ_ONCE(t->entries[index]));
}

/* commit.c */
void qcow2_commit_work(struct work_struct *work);
void qcow2_commit_soon(struct qcow2_image *q);
void qcow2_commit_later_work(struct work_struct *work);
int qcow2_commit(struct qcow2_image *q);
void qcow2_commit_kick(struct qcow2_image *q);
int qcow2_commit_throttle(struct qcow2_image *q);
void qcow2_flush_queue(struct qcow2_io *io);
void qcow2_mark_unstable(struct qcow2_image *q);

/* free.c */
int qcow2_free_init(struct qcow2_image *q);
void qcow2_free_exit(struct qcow2_image *q);
int qcow2_free_reserve(struct qcow2_image *q, u32 n);
bool qcow2_free_try_reserve(struct qcow2_image *q);
void qcow2_free_unreserve(struct qcow2_image *q, u32 n);
u32 qcow2_free_add(struct qcow2_image *q, struct list_head *list, u64 host,
		   u32 count, bool discard);
void qcow2_free_put(struct qcow2_image *q, struct list_head *list);
void qcow2_free_release(struct qcow2_image *q, struct list_head *list);
void qcow2_free_take(struct qcow2_image *q, struct list_head *list);
void qcow2_free_later(struct qcow2_image *q, struct list_head *list);
void qcow2_free_failed(struct qcow2_image *q, struct list_head *list);
void qcow2_free_run(struct qcow2_image *q, u64 host, u32 count, bool discard);
void qcow2_free_work(struct work_struct *work);
void qcow2_free_drain(struct qcow2_image *q);
void qcow2_free_forget(struct qcow2_image *q);

/* range.c */
bool qcow2_range_lock(struct qcow2_image *q, struct qcow2_range *r,
		      struct qcow2_io *io, u64 first, u64 last);
void qcow2_range_trim(struct qcow2_image *q, struct qcow2_range *r, u64 last);
void qcow2_range_unlock(struct qcow2_image *q, struct qcow2_range *r);

/* fast.c */
int qcow2_fast_rw(struct qcow2_image *q, struct bio *bio, struct qcow2_io *io);

/* slow.c */
void qcow2_io_work(struct work_struct *work);
unsigned int qcow2_enter(void);
void qcow2_leave(unsigned int old);
void qcow2_io_queue(struct qcow2_io *io);
void qcow2_io_punt(struct qcow2_io *io);
struct qcow2_how qcow2_io_how(struct qcow2_io *io);
void qcow2_io_error(struct qcow2_io *io, int err);
void qcow2_count_error(struct qcow2_image *q, int err);
void qcow2_io_put(struct qcow2_io *io);
struct qcow2_sub *qcow2_sub_new(struct qcow2_io *io);
void qcow2_sub_free(struct qcow2_sub *sub);
void qcow2_sub_rw(struct qcow2_sub *sub, bool write, u64 host);
void qcow2_sub_done(struct qcow2_sub *sub, int err);
void qcow2_sub_undo(struct work_struct *work);
void qcow2_io_done(struct qcow2_io *io);
bool qcow2_misaligned(struct qcow2_image *q, struct bio *bio, u64 pos, u64 len);

/* write.c */
enum qcow2_progress { QCOW2_GO_ON, QCOW2_PARKED };

/**
 * struct qcow2_src - what a write takes its bytes from
 * @bio: a bio, or NULL
 * @skip: how far into @bio
 * @buf: bounce memory that begins at the write's position, or NULL
 * @copy: what the guest sees elsewhere: at guest offset @from for what is
 *	written to @to. Without any of these, zeros are written.
 * @from: see @copy
 * @to: see @copy
 * @parent: for blk_copy_request.parent
 */
struct qcow2_src {
	struct bio *bio;
	u64 skip;
	struct qcow2_buf *buf;
	bool copy;
	u64 from;
	u64 to;
	const struct blk_copy_op *parent;
};

enum qcow2_progress qcow2_write_step(struct qcow2_io *io, struct qcow2_sub *sub,
				     u64 pos, u64 end, struct qcow2_src *src,
				     u64 *done);
void qcow2_sub_link(struct qcow2_sub *sub);

/* zero.c */
enum qcow2_progress qcow2_zero_step(struct qcow2_io *io);

/* bounce.c */
int qcow2_buf_init(struct qcow2_image *q);
void qcow2_buf_exit(struct qcow2_image *q);
struct qcow2_buf *qcow2_buf_get(struct qcow2_image *q, u64 len,
				enum qcow2_buf_use use);
void qcow2_buf_put(struct qcow2_image *q, struct qcow2_buf *buf);
void qcow2_bounce_read(struct qcow2_io *io);
enum qcow2_progress qcow2_bounce_write(struct qcow2_io *io, u64 end, bool zero);
int qcow2_copy(struct qcow2_image *q, u64 from, u64 to, u64 len,
	       struct qcow2_how how);
int qcow2_fill_zero(struct qcow2_image *q, u64 to, u64 len,
		    struct qcow2_how how);

/* copy.c */
int qcow2_copy_register(struct qcow2_image *q);
void qcow2_copy_unregister(struct qcow2_image *q);
int qcow2_copy_data(struct qcow2_image *q, u64 from, u64 to, u64 len,
		    struct qcow2_how how);
int qcow2_copy_guest(struct qcow2_image *q, u64 from, u64 host, u64 len,
		     const struct blk_copy_op *parent);
void qcow2_copy_wake(struct qcow2_io *io);
void qcow2_copy_idle(struct qcow2_io *io);

#endif
