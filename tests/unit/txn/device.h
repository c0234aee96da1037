/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * An image in use, as device.c and io/ of dm-qcow2 make use of meta and map. All
 * functions may wait: they are for tasks. For C and C++.
 */
#ifndef TXN_DEVICE_H
#define TXN_DEVICE_H

#include "disk.h"

#ifdef __cplusplus
extern "C" {
#endif

struct device;

/* @bdev: the disk is a block device, else a file. @cache_kib: for metadata. */
struct device *device_new(struct disk *d, bool bdev, uint32_t cache_kib, uint64_t size);
void device_free(struct device *dev);

int device_load(struct device *dev);

/*
 * After an error all is kept, until it is closed again or given up, and it may be
 * used when device_go_on() has succeeded.
 */
int device_close(struct device *dev);
int device_go_on(struct device *dev);
void device_give_up(struct device *dev);

int device_read(struct device *dev, uint64_t pos, void *buf, uint64_t len);
int device_write(struct device *dev, uint64_t pos, void *buf, uint64_t len);
int device_unmap(struct device *dev, uint64_t pos, uint64_t clusters, bool keep);
/* Subclusters, all in one cluster. */
int device_unmap_part(struct device *dev, uint64_t pos, uint32_t units);
int device_flush(struct device *dev);

/* Starts a commit, and does not wait for it. */
void device_kick(struct device *dev);
void device_drain(struct device *dev);

/* Whether it was found corrupt. */
bool device_failed(const struct device *dev);

#ifdef __cplusplus
}
#endif

#endif
