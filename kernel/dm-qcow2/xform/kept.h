/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Clusters that were unpacked: what kept.c and unpack.c share.
 */
#ifndef QCOW2_KEPT_H
#define QCOW2_KEPT_H

#include <linux/completion.h>
#include <linux/list.h>
#include <linux/refcount.h>

#include "xform.h"

/* What qcow2_unpacked.state is before it is 0 or a negative error. */
#define QCOW2_UNPACKED_LOADING 1

/**
 * struct qcow2_unpacked - a cluster that was unpacked, or is being
 * @hash: where it is found, under kept_lock; read inside rcu_read_lock()
 * @lru: kept_lru once it is loaded, under kept_lock
 * @packed: which one it is; fixed while there are references
 * @refs: one of the hash, one of each user
 * @state: QCOW2_UNPACKED_LOADING, then 0 or a negative error
 * @used: since the LRU last looked
 * @reserved: its memory is that which is always there; it is in no hash then
 * @loaded: completed when the state is final
 * @data: the cluster
 * @size: bytes of it
 * @rcu: frees it
 */
struct qcow2_unpacked {
	struct hlist_node hash;
	struct list_head lru;
	struct qcow2_packed packed;
	refcount_t refs;
	int state;
	bool used;
	bool reserved;
	struct completion loaded;
	void *data;
	u32 size;
	struct rcu_head rcu;
};

int qcow2_kept_init(void);
void qcow2_kept_exit(void);
void *qcow2_kept_alloc(u32 size);
void qcow2_kept_free(void *data, u32 size);
struct qcow2_unpacked *qcow2_kept_find(const struct qcow2_packed *p);
struct qcow2_unpacked *qcow2_kept_insert(struct qcow2_unpacked *c);
void qcow2_kept_loaded(struct qcow2_unpacked *c, int state);
void qcow2_kept_remove(struct qcow2_unpacked *c);
void qcow2_kept_put(struct qcow2_unpacked *c);
void qcow2_kept_drop(const struct qcow2_unpacker *u);

/* unpack.c: the memory that is always there is not in use any more. */
void qcow2_unpacker_give_back(struct qcow2_unpacker *u);

#endif
