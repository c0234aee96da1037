/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Images that others have below them (base.c). The list of files is in target.h.
 */
#ifndef QCOW2_BASE_H
#define QCOW2_BASE_H

#include "map/map.h"

/**
 * struct qcow2_base - an image that is below others
 */
struct qcow2_base {
	/** @node: list of all that are open, under base_list_lock */
	struct list_head node;
	/** @users: tables that name it, under base_list_lock */
	unsigned int users;
	/** @raw: its format; else qcow2 */
	bool raw;
	/** @lock: start and stop, and what the header says */
	struct mutex lock;
	/** @live: devices that are live on it, under @lock */
	unsigned int live;
	/** @lockers: those of them that want it locked, under @lock */
	unsigned int lockers;
	/** @size: bytes that can be read; fixed while live */
	u64 size;
	/** @core: what its floors tell of */
	struct qcow2_core core;
	/** @store: where its bytes are */
	struct qcow2_store store;
	/** @layer: how it is mapped, unless it is raw; set up when it is shared */
	struct qcow2_layer layer;
};

struct qcow2_base *qcow2_base_get(const char *spec, bool raw);
void qcow2_base_drop(struct qcow2_base *b);
struct qcow2_base *qcow2_base_share(struct qcow2_base *b, u32 cache_kib);
int qcow2_base_fits(struct qcow2_base *b, const char *below, bool raw);
void qcow2_base_put(struct qcow2_base *b);
bool qcow2_base_is(const struct qcow2_base *b, const struct qcow2_store *st);
int qcow2_base_start(struct qcow2_base *b, bool no_lock);
void qcow2_base_stop(struct qcow2_base *b, bool no_lock);

#endif
