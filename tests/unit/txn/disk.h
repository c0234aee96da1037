/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * The simulated disk, as the store in store.c sees it. What is behind is
 * disk.hpp. For C and C++.
 */
#ifndef TXN_DISK_H
#define TXN_DISK_H

#include <stdbool.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct disk;

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_EXTEND, DISK_TRIM };

/* 0, or the error with which an operation is to fail. */
int disk_fate(struct disk *d, enum disk_op op);

uint64_t disk_size(const struct disk *d);
uint64_t disk_most(const struct disk *d);
void disk_read(struct disk *d, uint64_t pos, void *buf, uint64_t len);

/*
 * A write is under way between these two. It may be in part what a crash finds;
 * whoever reads finds it when it has ended. After an error some of it may be
 * there.
 */
uint64_t disk_write_begin(struct disk *d, uint64_t pos, const void *buf, uint64_t len);
void disk_write_end(struct disk *d, uint64_t id, int err);

/* What has ended before the beginning is durable at the end, unless it fails. */
uint64_t disk_flush_begin(struct disk *d);
void disk_flush_end(struct disk *d, uint64_t id, int err);

void disk_discard(struct disk *d, uint64_t pos, uint64_t len);
void disk_resize(struct disk *d, uint64_t size);

#ifdef __cplusplus
}
#endif

#endif
